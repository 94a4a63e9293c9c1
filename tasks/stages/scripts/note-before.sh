#!/bin/sh
# Just before scripts: notes what lies in folders that no image keeps, and what each path of the
# arguments holds, if there are any. A tree without find has none of it told; one without these tools has no packages
# that draw keys either.
# Without Strata's own, and what the kernel lists there.
find /tmp /run /dev \( -path /dev/.strata -o -path /dev/pts \) -prune -o -print \
    2> /dev/null > /dev/.strata/leaving
[ $# -gt 0 ] || exit 0
for tool in sha256sum readlink stat find; do
    command -v "$tool" > /dev/null || exit 0
done
find "$@" 2> /dev/null | while IFS= read -r path; do
    if [ -L "$path" ]; then
        sum=$(readlink -n -- "$path" | sha256sum)
    elif [ -f "$path" ]; then
        sum=$(sha256sum < "$path")
    else
        sum=$(stat -c node:%f:%t:%T -- "$path") || continue
    fi
    printf '%s %s\n' "${sum%% *}" "$path"
done > /dev/.strata/before
exit 0
