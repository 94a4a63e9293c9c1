#!/bin/bash
# Fills the vfat image $1 with what is in the working directory. mtools write a vfat without the
# kernel, which may lack it, and in the order they are told. Names end in NUL: a newline in one would
# make a path of the host's out of what follows it. In the folder part of a target [ begins a
# pattern, in its last part and in the source it does not. A long name gets an alias like LONGNA~1,
# and a file that has just this as its name would be written over it: what could be an alias is
# written before all others of its folder, and mtools take another then. For that a part that could
# be one begins with 0 while sorted, all others with 1.
set -eo pipefail
marked() {
    c='[^][/. +,;=]'
    sed -zE "s#/#/1#g; :again
        s#/1(($c{1,6}~[0-9]|$c{1,5}~[0-9]{2}|$c{1,4}~[0-9]{3})(\.$c{1,3})?)(/|\$)#/0\1\4#
        t again" | sort -z
}
put() {
    folder=${name%/*}
    target="::${folder//[/[[]}/${name##*/}"
    if [ -d "$name" ]; then
        mmd -D s -i "$1" "$target" < /dev/null
    else
        mcopy -m -D o -i "$1" "$name" "$target" < /dev/null
    fi
}
find . -mindepth 1 '(' -type d -o -type f -name '*~[0-9]*' ')' -print0 | marked |
while IFS= read -r -d '' key; do
    name=${key//\/[01]/\/}
    if [ -d "$name" ] || [[ ${key##*/} = 0* ]]; then put "$1"; fi
done
find . -type f -print0 | marked | while IFS= read -r -d '' key; do
    name=${key//\/[01]/\/}
    if [[ ${key##*/} = 1* ]]; then put "$1"; fi
done
