#!/bin/sh
# In the end: the tree's own policy-rc.d comes back, unless something has put another in our place.
set -e
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if cmp -s /dev/.strata/in/policy-rc.d /usr/sbin/policy-rc.d; then
    rm /usr/sbin/policy-rc.d
    if [ -e /dev/.strata/policy-rc.d ] || [ -L /dev/.strata/policy-rc.d ]; then
        mv /dev/.strata/policy-rc.d /usr/sbin/policy-rc.d
    fi
fi # else it was replaced or removed, and the tree has what did that
