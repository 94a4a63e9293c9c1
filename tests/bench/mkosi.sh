#!/bin/sh
# mkosi 14 with Incremental=yes; $@ goes to it: --force builds again, twice without its cache.
# From the environment: MERGED (address of one repository), PACKAGES, WORK.
set -eu
cd "$WORK"
if [ $# -eq 0 ] && [ -e image.raw.gz ]; then exec mkosi; fi
cat > mkosi.default << END
[Distribution]
Distribution=debian
Release=bookworm
LocalMirror=$MERGED
RepositoryKeyCheck=no
[Output]
Format=gpt_ext4
Output=image.raw
CompressOutput=gz
[Content]
Bootable=no
Packages=$(echo "$PACKAGES" | tr ' ' ,)
[Host]
Incremental=yes
END
exec mkosi "$@" build
