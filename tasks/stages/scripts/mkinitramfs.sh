#!/bin/sh
# A kernel's postinst makes an initramfs, and the trigger of initramfs-tools makes it again when all
# is configured. Found first in dpkg's PATH while packages are installed, this puts an empty one in
# place for what looks whether there is one (boot loaders' hooks run with it), and make-initramfs.sh
# makes it once, in the end. Called otherwise than by update-initramfs(8) it is mkinitramfs(8).
real=/usr/sbin/mkinitramfs
if [ "$1" = -v ]; then
    verbose=-v
    shift
else
    verbose=
fi
if ! [ -e /dev/.strata/later ] || [ $# -ne 3 ] || [ "$1" != -o ] ||
    [ "${2##*/}" != "initrd.img-$3.new" ]; then
    exec $real $verbose "$@"
fi
echo "$3 ${2%/*}" >> /dev/.strata/later
: > "$2"
