#!/bin/sh
# What apt's method runs in the place of apt-key(8), as `[OPTION]... verify ARGUMENTS-OF-GPGV`, up to
# apt 2: later ones ask for no such program. apt-key asks apt-config(8) eight times which keys there
# are, which takes longer than all else that is done for a repository that has nothing new. Here they
# are known: TMPDIR is the folder of an apt of ours (repos/private.py), whose trusted.gpg.d has them as
# gpgv(1) reads them.
set -eu
while [ "${1-verify}" != verify ]; do shift; done
shift
command -v gpgv > /dev/null || {
    # As apt-key tells it: apt asks for gpgv's status at this number.
    [ "${1-}" != --status-fd ] || echo "[APTKEY:] ERROR gpgv is required for verification" >&"$2"
    exit 29
}
count=0
for keyring in "$TMPDIR"/trusted.gpg.d/*.gpg; do
    if [ -f "$keyring" ]; then
        set -- --keyring "$keyring" "$@"
        count=$((count + 1))
    fi
done
# Without any, gpgv would look for one in its home.
[ "$count" -gt 0 ] || set -- --keyring /dev/null "$@"
exec gpgv --homedir "$TMPDIR" --ignore-time-conflict "$@"
