#!/bin/sh
# Adds the locale $1 with the character map $2 to locale.gen(5); with $3, generates all in it now.
# $4 is the field of the spec that asks for it.
# What is there already, of a user's file, script or debconf's answers, is generated, too.
set -e
field=${4:-locale}
if [ -z "$2" ]; then
    # A name without a character set says nothing of its map: pl_PL has ISO-8859-2, aa_ER UTF-8.
    known=/usr/share/i18n/SUPPORTED
    while read -r name map; do
        if [ "$name" = "$1" ]; then set -- "$1" "$map" "${3:-}" "$field"; fi
    done < "$known" 2> /dev/null || true
    if [ -z "$2" ]; then
        echo "error: $field: $known of the image knows no $1: name its character set (de_DE.UTF-8)"
        exit 1
    fi
fi
# locale-gen ends well whatever localedef says.
if [ -d /usr/share/i18n/locales ]; then
    definition=${1%%[.@]*}
    case $1 in *@*) definition=$definition@${1##*@} ;; esac
    for there in "locales/$definition:$definition" "charmaps/$2:character set $2"; do
        file=${there%%:*}
        for path in /usr/local/share/i18n/"$file" /usr/share/i18n/"$file" \
            /usr/share/i18n/"$file".gz; do
            if [ -e "$path" ]; then continue 2; fi
        done
        near=$(cd /usr/share/i18n/locales && echo "${definition%%_*}"_*)
        echo "error: $field: the image's package locales has no ${there#*:}, so it cannot make" \
            "$1; of this language it has $near"
        exit 1
    done
fi
if ! grep -qxE "[[:space:]]*$1[[:space:]]+$2[[:space:]]*" /etc/locale.gen 2> /dev/null; then
    if [ -s /etc/locale.gen ] && [ -n "$(tail -c 1 /etc/locale.gen)" ]; then
        echo >> /etc/locale.gen
    fi
    mkdir -p /etc
    echo "$1 $2" >> /etc/locale.gen
    if [ -n "${3:-}" ] && [ -x /usr/sbin/locale-gen ]; then locale-gen; fi
fi
