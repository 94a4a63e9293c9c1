#!/bin/sh
# Does $2 (enable, disable or mask) to each unit of the arguments after it, by the tree's own
# systemctl; $1 is what names them in messages. What would do nothing is an error, not a silence.
set -e
where=$1 verb=$2
shift 2
fail() {
    echo "error: $where: $1"
    exit 1
}
command -v systemctl > /dev/null || fail "the image has no systemctl; add the package systemd-sysv"
for unit do
    kind=${unit##*.}
    name=${unit%.*}
    file=$unit
    case $name in *@?*) file=${name%%@*}@.$kind ;; esac
    # Its status is 1 where there is none.
    known=$(systemctl list-unit-files --no-legend --no-pager -- "$file" "$unit" 2> /dev/null || true)
    if [ -z "$known" ] && ! { [ "$kind" = service ] && [ -x "/etc/init.d/$name" ]; }; then
        near=$(systemctl list-unit-files --no-legend --no-pager -- "*${name%%[@.-]*}*" 2> /dev/null |
            while read -r one _; do printf ' %s' "$one"; done)
        fail "the image has no unit $unit; add the package that has it, or its file to units${near:+. It has:$near}"
    fi
    systemctl --quiet "$verb" -- "$unit" || fail "systemctl $verb $unit failed"
    state=$(systemctl is-enabled -- "$unit" 2> /dev/null || true)
    case $verb:$state in
        enable:static)
            fail "nothing starts $unit at boot: its [Install] section is empty; give it WantedBy=" ;;
        enable:disabled | enable:masked*)
            fail "$unit is $state after it was enabled" ;;
        disable:static)
            fail "$unit is started by what needs it, not by itself: to keep it off, mask it" ;;
    esac
done
