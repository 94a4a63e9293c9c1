#!/bin/sh
# Makes or changes a user by the tree's own tools, which number it as they would on the machine:
# where name uid home shell comment groups sudo system files. "" leaves a thing to useradd(8), or
# as it is. FILES.shadow has its field in shadow(5), FILES.keys its authorized_keys.
set -e
umask 022
where=$1 name=$2 uid=$3 home=$4 shell=$5 comment=$6 groups=$7 sudo=$8 system=$9
shift 9
files=$1
fail() {
    echo "error: $where$1"
    exit 1
}
command -v useradd > /dev/null || fail ": the image has no useradd; add the package passwd"
if [ -n "$shell" ] && ! [ -x "$shell" ]; then
    fail ".shell: the image has no $shell; add the package that has it"
fi
IFS=,
for group in $groups; do
    getent group "$group" > /dev/null ||
        fail ".groups: the image has no group $group; add it to groups, or the package that makes it"
done
unset IFS
if line=$(getent passwd "$name"); then
    has=$(id -u "$name")
    if [ -n "$uid" ] && [ "$uid" != "$has" ]; then
        fail ".uid: the image has a user $name already, with the number $has"
    fi
    if [ -n "$home$shell$comment" ]; then
        usermod ${home:+--home "$home"} ${shell:+--shell "$shell"} ${comment:+--comment "$comment"} \
            "$name"
    fi
    new=
    if [ -n "$home" ] && ! [ -d "$home" ]; then
        mkdir -p "$home"
        chown "$name:$(id -g "$name")" "$home"
    fi
else
    if [ -n "$uid" ] && line=$(getent passwd "$uid"); then
        fail ".uid: $uid is the number of the user ${line%%:*} of the image"
    fi
    if [ -z "$shell" ]; then
        shell=/bin/bash
        [ -x "$shell" ] || shell=/bin/sh
        [ -z "$system" ] || shell=/usr/sbin/nologin
    fi
    own=--user-group
    if getent group "$name" > /dev/null; then own="--gid $name"; fi
    make=--create-home
    if [ -n "$system" ] && [ -z "$home" ]; then make=--no-create-home home=/nonexistent; fi
    if [ -z "$system" ] && [ -e "${home:-/home/$name}" ]; then
        fail ".home: ${home:-/home/$name} is there before its user is, and is not its own: give what is in it \
in this layer or a later one"
    fi
    # shellcheck disable=SC2086 # an option and its value
    useradd $own $make ${uid:+--uid "$uid"} ${system:+--system} ${home:+--home-dir "$home"} \
        ${comment:+--comment "$comment"} --shell "$shell" "$name"
    new=yes
fi
if [ -n "$groups" ]; then usermod --append --groups "$groups" "$name"; fi
if [ -s "$files.shadow" ]; then
    printf '%s:%s\n' "$name" "$(cat "$files.shadow")" | chpasswd --encrypted
elif [ -n "$new" ]; then
    # No password fits, while `!` would lock out those with a key, too, where sshd has no PAM.
    echo "$name:*" | chpasswd --encrypted
fi
if [ -s "$files.keys" ]; then
    line=$(getent passwd "$name")
    line=${line%:*}
    home=${line##*:}
    if [ ! -d "$home" ]; then
        fail ".ssh_keys: its home $home is no folder of the image, so that no key could be read"
    fi
    group=$(id -g "$name")
    mkdir -p "$home/.ssh"
    # Those of a layer below stay.
    while IFS= read -r line; do
        if ! grep -qxF -e "$line" "$home/.ssh/authorized_keys" 2> /dev/null; then
            printf '%s\n' "$line" >> "$home/.ssh/authorized_keys"
        fi
    done < "$files.keys"
    chown "$name:$group" "$home/.ssh" "$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
fi
if [ -n "$sudo" ]; then
    [ -d /etc/sudoers.d ] || fail ".sudo: the image has no sudo; add the package sudo"
    # sudo reads no file there whose name has a dot; two users have two files.
    rule=/etc/sudoers.d/$(printf '%s' "$name" | sed 's/_/__/g; s/\./_-/g')
    tag=
    [ "$sudo" != nopasswd ] || tag='NOPASSWD:'
    echo "$name ALL=(ALL:ALL) ${tag}ALL" > "$rule"
    chmod 440 "$rule"
fi
