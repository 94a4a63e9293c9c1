#!/bin/sh
# Before anything is installed: invoke-rc.d(8) asks policy-rc.d before it starts a service, and ours
# says no. Any name in the tree may be a script's own, so the tree's file waits on the private /dev.
set -e
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if [ -e /usr/sbin/policy-rc.d ] || [ -L /usr/sbin/policy-rc.d ]; then
    mv /usr/sbin/policy-rc.d /dev/.strata/policy-rc.d
fi
mkdir -p /usr/sbin
cat /dev/.strata/in/policy-rc.d > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
