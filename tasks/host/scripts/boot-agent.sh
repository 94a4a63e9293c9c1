#!/bin/sh
# Inside a machine that is tested: tells how its start went, runs the scripts that it is sent, and
# answers with what they said, all by descriptor 3. tasks/host/agent.py has the other end, and
# what goes between.
set -u
# /run may not have programs run from it.
work=/dev/shm/strata-test
[ -d "$work" ] || mkdir -m 700 "$work" || exit 1

say() { # WORD STATUS FILE
    length=$(head -c 1048576 "$3" | wc -c)
    echo "$1 $2 $length" >&3
    # No more than was told, if it still grows.
    head -c "$length" "$3" >&3
}

tell() { # WORD STATUS TEXT: without a file, for which there may be no room
    echo "$1 $2 $(printf %s "$3" | wc -c)" >&3
    printf %s "$3" >&3
}

refuse() { # WHY
    tell result 125 "the script was not run: $1: $(df -h "$work" | tail -n 1)"
}

echo "hello $(systemctl --version 2> /dev/null | { read -r _ version _; echo "${version:-none}"; })" >&3
cd /
while read -r order seconds size <&3; do
    case $order in
        wait)
            STRATA_STATE=$(timeout "$seconds" systemctl is-system-running --wait 2> /dev/null)
            [ -n "$STRATA_STATE" ] || STRATA_STATE=$(systemctl is-system-running 2> /dev/null)
            export STRATA_STATE
            tell state "${STRATA_STATE:-unknown}" "$({
                systemctl list-units --failed --no-legend --plain
                [ "$STRATA_STATE" = running ] || systemctl list-jobs --no-legend
                systemctl list-units --failed --no-legend --plain | while read -r unit _; do
                    systemctl status --no-pager --lines=20 "$unit"
                done
            } 2>&1 | head -c 65536)"
            ;;
        run)
            rm -rf "$work/script" "$work/pipe" "$work/output"
            # All of it is read, whether it can be kept or not: what comes next is an order.
            head -c "$size" <&3 | (cat > "$work/script"; exec cat > /dev/null)
            # Cut off, it could still end with 0.
            kept=$(wc -c < "$work/script")
            if [ "${kept:-0}" -ne "$size" ]; then
                refuse "of its $size bytes ${kept:-0} could be kept in $work"
                continue
            fi
            if ! chmod 700 "$work/script" || ! mkfifo "$work/pipe"; then
                refuse "nothing more can be made in $work"
                continue
            fi
            by=
            # A shell runs what has no `#!` line; the kernel does not.
            [ "$(head -c 4 "$work/script" | tr -d '\0')" = "$(printf '\177ELF')" ] ||
                [ "$(head -c 2 "$work/script" | tr -d '\0')" = '#!' ] || by=/bin/sh
            # A MiB of it is kept, the rest only read; head(1) would hold back what it has.
            (
                (ulimit -f 2048; exec cat > "$work/output")
                exec cat > /dev/null
            ) < "$work/pipe" 2> /dev/null 3>&- &
            reader=$!
            HOME=/root timeout -k 5 "$seconds" $by "$work/script" < /dev/null > "$work/pipe" 2>&1 3>&-
            status=$?
            # What a script left running may hold the pipe open for ever.
            (sleep 1; kill "$reader") > /dev/null 2>&1 3>&- &
            patience=$!
            wait "$reader"
            kill "$patience"
            say result "$status" "$work/output"
            ;;
        *) exit ;;
    esac
done
