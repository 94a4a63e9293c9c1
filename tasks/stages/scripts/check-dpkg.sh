#!/bin/sh
# Ends the layer where a dpkg.cfg(5), in the folder $1 or the file $2, keeps dpkg from working on the
# image; $3 is the remedy. dpkg(1) reads these of the files whose names run-parts(8) would take, and
# no option turns it off. What is said with its default value says nothing.
for file in "$1"/dpkg.cfg "$1"/dpkg.cfg.d/* "$2"; do
    case $file in "$1"/dpkg.cfg.d/*[!A-Za-z0-9_-]*) continue ;; esac
    [ -f "$file" ] || continue
    line=$(grep -anE '^(no-act|dry-run|simulate|admindir|instdir|root)([^[:alnum:]-]|$)' "$file" |
        grep -avE ':(admindir[= ]+"?/var/lib/dpkg/?|(instdir|root)[= ]+"?/)"?[[:space:]]*$' |
        head -n 1)
    if [ -n "$line" ]; then
        printf 'error: %s: line %s: %s: %s\n' "$file" "${line%%:*}" "${line#*:}" \
            "with this, dpkg installs nothing that is locked into the image; $3"
        exit 1
    fi
done
