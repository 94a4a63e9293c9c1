#!/bin/sh
# mkosi of Debian 13 (25) with Incremental=yes makes a disk: Debian 12's (14) mounts a FAT, for which a kernel may
# have no driver. It runs in a tree of Debian 13; $@ goes to it. From the environment: ROOT (that tree), WORK, MIRROR,
# PACKAGES, and OUTPUT, lines of its section of that name.
set -eu
mkdir -p "$WORK/cache" "$WORK/packages" "$WORK/out" "$WORK/tmp"
cat > "$WORK/mkosi.conf" << END
[Distribution]
Distribution=debian
Release=trixie
LocalMirror=$MIRROR
[Output]
Format=disk
Output=image
OutputDirectory=out
$OUTPUT
[Build]
Incremental=yes
CacheDirectory=cache
PackageCacheDirectory=packages
WorkspaceDirectory=/work/tmp
BuildSources=
[Content]
Bootable=yes
Bootloader=systemd-boot
WithDocs=yes
Packages=$(echo "$PACKAGES" | tr ' ' ,)
END
# shellcheck disable=SC2016 # the shell inside reads them
exec unshare --mount --fork --pid --kill-child sh -ec '
    mount --make-rprivate /
    mount --bind "$ROOT" "$ROOT"
    mkdir -p "$ROOT/work"
    mount --bind "$WORK" "$ROOT/work"
    mount -t proc proc "$ROOT/proc"
    mount --rbind /sys "$ROOT/sys"
    mount --rbind /dev "$ROOT/dev"
    mount -t tmpfs tmpfs "$ROOT/run"
    mount -t tmpfs tmpfs "$ROOT/tmp"
    for name in resolv.conf hosts; do cat "/etc/$name" > "$ROOT/etc/$name"; done
    cd "$ROOT/work"
    exec chroot "$ROOT" sh -c "cd /work && exec mkosi \"\$@\"" mkosi "$@"' run "$@"
