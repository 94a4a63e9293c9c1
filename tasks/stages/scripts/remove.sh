#!/bin/sh
# Removes what the patterns after $1 stand for, and notes in $1, by pattern, how many files and paths it was. The tree's packages are not told: they have their files again when they are upgraded.
set -e
noted=$1
shift
IFS=
for pattern do
    files=0 paths=0
    # Unquoted, so that it is expanded; IFS leaves blanks in it alone.
    for path in $pattern; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            files=$((files + $(find "$path" ! -type d | wc -l)))
            paths=$((paths + 1))
            rm -rf --one-file-system -- "$path"
        fi
    done
    printf '%s %s %s\n' "$files" "$paths" "$pattern" >> "$noted"
done
