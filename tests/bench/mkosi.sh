#!/bin/sh
# mkosi 14 with Incremental=yes; $@ goes to it: --force builds again, twice without its cache.
# From the environment: MERGED (address of one repository), PACKAGES, WORK.
set -eu
cd "$WORK"
# systemd-nspawn, by which it runs commands in the image, wants a /run that is a tmpfs.
run() { unshare --mount sh -ec 'mount -t tmpfs run /run; exec mkosi "$@"' run "$@"; }
# 14 says that the output is there already, and calls it an error.
if [ $# -eq 0 ] && [ -e image.raw ]; then run || [ $? -eq 1 ]; exit 0; fi
# Its own line says trusted for a local mirror, which contradicts debootstrap's.
mkdir -p mkosi.skeleton/etc/apt
: > mkosi.skeleton/etc/apt/sources.list
cat > mkosi.default << END
[Distribution]
Distribution=debian
Release=bookworm
LocalMirror=$MERGED
RepositoryKeyCheck=no
[Output]
Format=gpt_ext4
Output=image.raw
CompressOutput=zstd
[Content]
Bootable=no
Packages=$(echo "$PACKAGES" | tr ' ' ,)
[Host]
Incremental=yes
NspawnKeepUnit=yes
END
run "$@" build
