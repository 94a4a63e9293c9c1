#!/bin/sh
# fuel-agent's sequence, command by command: everything anew, whatever changed.
# From the environment: MIRROR, SECURITY (addresses), KEYRING, PACKAGES, WORK (an empty folder).
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
cd "$WORK"
mkdir chroot
undo() {
    for path in chroot/sys chroot/proc chroot/dev chroot/boot chroot; do
        mountpoint -q "$path" && umount "$path"
    done
    for device in $boot $root; do losetup --detach "$device"; done
}
boot='' root=''
trap undo EXIT
truncate -s 4G root.img
truncate -s 1G boot.img
root=$(losetup --find --show root.img)
boot=$(losetup --find --show boot.img)
mkfs.ext4 -q "$root"
mkfs.ext2 -q "$boot"
mount "$root" chroot
mkdir chroot/boot
mount "$boot" chroot/boot
debootstrap --variant=minbase --arch=amd64 --keyring="$KEYRING" bookworm chroot "$MIRROR"
printf '#!/bin/sh\nexit 101\n' > chroot/usr/sbin/policy-rc.d
chmod 755 chroot/usr/sbin/policy-rc.d
cp "$KEYRING" chroot/etc/apt/trusted.gpg.d/bench.gpg
cat > chroot/etc/apt/sources.list << END
deb $MIRROR bookworm main
deb $MIRROR bookworm-updates main
deb $SECURITY bookworm-security main
END
mount --bind /dev chroot/dev
mount -t proc proc chroot/proc
mount -t sysfs sysfs chroot/sys
chroot chroot apt-get update
chroot chroot apt-get --yes dist-upgrade
# shellcheck disable=SC2086 # a list
chroot chroot apt-get --yes --no-install-recommends install $PACKAGES
chroot chroot apt-get clean
rm chroot/usr/sbin/policy-rc.d
trap - EXIT
for path in chroot/sys chroot/proc chroot/dev chroot/boot chroot; do umount "$path"; done
for name in root boot; do
    eval "device=\$$name"
    e2fsck -yf "$device"
    resize2fs -M "$device"
    size=$(dumpe2fs -h "$device" 2> /dev/null |
        awk -F: '/^Block count/ {count = $2} /^Block size/ {size = $2} END {print count * size}')
    losetup --detach "$device"
    truncate -s "$size" "$name.img"
    md5sum "$name.img"
    python3 -c 'import gzip, shutil, sys
with open(sys.argv[1], "rb") as source, gzip.open(sys.argv[1] + ".gz", "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)' "$name.img"
    md5sum "$name.img.gz"
    rm "$name.img"
done
