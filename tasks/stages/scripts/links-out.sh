#!/bin/sh
# Ends the layer where a folder, of those after $1, is behind a link to where no image keeps it. $1
# is what is said, in two parts with | between. It runs before tar, which fails where a link leads
# to what is not there yet, and after it, for links that came with it.
message=$1
shift
lost='^/(dev|proc|sys|run|tmp)(/|$)'
readlink -m -- "$@" | grep -qE "$lost" || exit 0
for path do
    there=$(readlink -m -- "$path")
    if printf '%s\n' "$there" | grep -qE "$lost"; then
        printf 'error: %s: %s leads to %s, and %s\n' "${message%%|*}" "$path" "$there" \
            "${message#*|}"
        exit 1
    fi
done
