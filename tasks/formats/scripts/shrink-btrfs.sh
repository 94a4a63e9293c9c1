#!/bin/sh
# Shrinks the btrfs mounted at $1, of $2 bytes, to what it takes and $3 bytes more.
set -e
btrfs filesystem sync "$1"
least=$(btrfs inspect-internal min-dev-size "$1" | cut -d' ' -f1)
wanted=$(((least + $3 + 1048575) / 1048576 * 1048576))
# The kernel resizes none to less than 256 MiB.
[ "$wanted" -ge 268435456 ] || wanted=268435456
if [ "$wanted" -lt "$2" ]; then btrfs filesystem resize "$wanted" "$1"; fi
