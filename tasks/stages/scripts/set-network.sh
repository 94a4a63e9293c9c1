#!/bin/sh
# Before a script that the spec lets see the network: names are looked up as on the host. The tree's
# own file waits on the private /dev.
set -e
if [ -e /etc/resolv.conf ] || [ -L /etc/resolv.conf ]; then
    mv /etc/resolv.conf /dev/.strata/resolv.conf
fi
mkdir -p /etc
cat /dev/.strata/in/resolv.conf > /etc/resolv.conf
