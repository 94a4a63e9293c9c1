#!/bin/sh
# Removes what `docs: false` leaves out, and notes in $1 how many files it was. Copyright files stay, as
# licences want it, and links between packages' folders, behind which they are.
set -e
noted=$1
if [ -d /usr/share/doc ]; then
    files=$(find /usr/share/doc ! -type d ! -type l ! -name copyright -print -delete | wc -l)
    find /usr/share/doc -xtype l -delete
    find /usr/share/doc -mindepth 1 -type d -empty -delete
    printf '%s 1 %s\n' "$files" '/usr/share/doc/*' >> "$noted"
fi
for name in groff info linda lintian man; do
    if [ -d "/usr/share/$name" ]; then
        files=$(find "/usr/share/$name" -mindepth 1 ! -type d -print -delete | wc -l)
        find "/usr/share/$name" -mindepth 1 -type d -empty -delete
        printf '%s 1 %s\n' "$files" "/usr/share/$name/*" >> "$noted"
    fi
done
