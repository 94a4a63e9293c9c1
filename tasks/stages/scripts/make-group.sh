#!/bin/sh
# Makes the group $2 with the number $3, if one is given, for services if $4 is; $1 is what names it
# in messages. One that is there already is left as it is, if its number is the one that is wanted.
set -e
where=$1 name=$2 gid=$3 system=$4
if ! command -v groupadd > /dev/null; then
    echo "error: $where: the image has no groupadd; add the package passwd"
    exit 1
fi
if line=$(getent group "$name"); then
    has=${line#*:*:}
    has=${has%%:*}
    if [ -n "$gid" ] && [ "$gid" != "$has" ]; then
        echo "error: $where.gid: the image has a group $name already, with the number $has"
        exit 1
    fi
    exit 0
fi
if [ -n "$gid" ] && line=$(getent group "$gid"); then
    echo "error: $where.gid: $gid is the number of the group ${line%%:*} of the image"
    exit 1
fi
exec groupadd ${gid:+--gid "$gid"} ${system:+--system} "$name"
