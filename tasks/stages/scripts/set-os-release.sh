#!/bin/sh
# Writes IMAGE_ID $2 and IMAGE_VERSION $3 into os-release(5), behind the link in /etc; others of
# these two go. $1 begins a message.
set -e
file=/etc/os-release
[ -f "$file" ] || file=/usr/lib/os-release
if ! [ -f "$file" ]; then
    echo "${1}the image has no /etc/os-release: base-files has it"
    exit 1
fi
text=$(sed -e '/^[[:space:]]*IMAGE_ID=/d' -e '/^[[:space:]]*IMAGE_VERSION=/d' "$file")
# Into the same file: its owner and mode stay.
{
    if [ -n "$text" ]; then printf '%s\n' "$text"; fi
    printf 'IMAGE_ID="%s"\nIMAGE_VERSION="%s"\n' "$2" "$3"
} > "$file"
