#!/bin/sh
# dpkg as Strata's own apt calls it: what dpkg runs is the packages', and sees their apt again.
export APT_CONFIG=/dev/.strata/in/apt.conf
exec /usr/bin/dpkg "$@"
