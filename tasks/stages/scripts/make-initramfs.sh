#!/bin/sh
# Makes each initramfs that mkinitramfs.sh put off.
set -e
sort -u /dev/.strata/later > /dev/.strata/now
rm /dev/.strata/later
# The list is not the commands' input: a hook that reads its own would take the rest of it.
while read -r version folder <&3; do
    file=$folder/initrd.img-$version
    if ! [ -e "$file" ] || [ -s "$file" ]; then continue; fi
    update-initramfs -u -k "$version" -b "$folder" < /dev/null
    if ! [ -s "$file" ]; then # update_initramfs=no in update-initramfs.conf(5)
        rm "$file"
        update-initramfs -c -k "$version" -b "$folder" < /dev/null
    fi
    [ -s "$file.bak" ] || rm -f "$file.bak"
    if ! [ -s "$file" ]; then
        echo "error: $file is empty"
        exit 1
    fi
done 3< /dev/.strata/now
