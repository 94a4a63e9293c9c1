#!/bin/sh
# Inside a machine that is tested: tells how its start went, runs the scripts that it is sent, and
# answers with what they said, all by descriptor 3. tasks/host/agent.py has the other end, and
# what goes between.
set -u
# /run may not have programs run from it.
work=/dev/shm/strata-test
mkdir -p -m 700 "$work" || exit 1

say() { # WORD STATUS FILE
    echo "$1 $2 $(wc -c < "$3")" >&3
    cat "$3" >&3
}

echo "hello $(systemctl --version 2> /dev/null | { read -r _ version _; echo "${version:-none}"; })" >&3
while read -r order seconds size <&3; do
    case $order in
        wait)
            STRATA_STATE=$(timeout "$seconds" systemctl is-system-running --wait 2> /dev/null)
            [ -n "$STRATA_STATE" ] || STRATA_STATE=$(systemctl is-system-running 2> /dev/null)
            export STRATA_STATE
            {
                systemctl list-units --failed --no-legend --plain
                [ "$STRATA_STATE" = running ] || systemctl list-jobs --no-legend
                systemctl list-units --failed --no-legend --plain | while read -r unit _; do
                    systemctl status --no-pager --lines=20 "$unit"
                done
            } 2>&1 | head -c 65536 > "$work/state"
            say state "${STRATA_STATE:-unknown}" "$work/state"
            ;;
        run)
            head -c "$size" <&3 > "$work/script"
            chmod 700 "$work/script"
            by=
            # A shell runs what has no `#!` line; the kernel does not.
            [ "$(head -c 4 "$work/script" | tr -d '\0')" = "$(printf '\177ELF')" ] ||
                [ "$(head -c 2 "$work/script" | tr -d '\0')" = '#!' ] || by=/bin/sh
            {
                cd / && HOME=/root timeout -k 5 "$seconds" $by "$work/script" < /dev/null 2>&1 3>&-
                echo $? > "$work/status"
            } | { head -c 1048576 > "$work/output"; cat > /dev/null; }
            say result "$(cat "$work/status")" "$work/output"
            ;;
        *) exit ;;
    esac
done
