#!/bin/sh
# What an expert writes today: mmdebstrap in one go, mke2fs -d, pigz.
# From the environment: MIRROR, SECURITY (addresses), KEYRING, PACKAGES, WORK (an empty folder).
set -eu
cd "$WORK"
mmdebstrap --variant=minbase --include="$(echo $PACKAGES | tr ' ' ,)" --keyring="$KEYRING" \
    --aptopt='APT::Install-Recommends "false"' bookworm root.tar \
    "deb $MIRROR bookworm main" "deb $MIRROR bookworm-updates main" \
    "deb $SECURITY bookworm-security main"
mkdir root boot
tar --extract --file root.tar --directory root --numeric-owner --xattrs --xattrs-include='*'
rm root.tar
mv root/boot/* boot/
for name in root boot; do
    kind=ext4
    [ "$name" = root ] || kind=ext2
    size=$(($(du -s --block-size=1M "$name" | cut -f1) * 23 / 20 + 16))
    mke2fs -q -t "$kind" -d "$name" "$name.img" "${size}M"
    e2fsck -fy "$name.img" > /dev/null || [ $? -eq 1 ]
    resize2fs -M "$name.img"
    pigz -6 "$name.img"
    sha256sum "$name.img.gz"
done
rm -r root boot
