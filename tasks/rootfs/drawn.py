"""What packages draw by chance, or date by the clock: the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from . import jks

REMOVED, NEUTRAL, DATED, KEPT = "removed", "made neutral", "dated anew", "kept"
"""What is done with what a package drew."""


PERHAPS = "perhaps"
"""What a package may have drawn, by what its scripts call: where is not known, so it stays."""


Make = Callable[[bytes, bytes | None, int], bytes | None]
"""A file's content, that of the tree below it, the stage's epoch → its new content, or None."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One thing that a package draws; `paths` are patterns below the tree, `*` within one name."""

    package: str
    what: str
    paths: tuple[str, ...]
    done: str = REMOVED
    again: str = ""
    """How a machine makes its own; "" where it happens by itself or nobody needs it: not told."""
    by: tuple[str, ...] = ()
    """Packages that make it at a machine's first boot: where one is installed, nobody is told."""
    make: Make | None = None
    links: tuple[str, ...] = ()
    """Patterns of symlinks that go with a removed file whose name they lead to."""
    also: tuple[str, ...] = ()
    """Patterns of what is other in each build only because `paths` are: copies and sums of them."""


def _generate_name(_content: bytes, _below: bytes | None, _epoch: int) -> bytes:
    """iscsid's startup-checks.sh draws a name where it finds this, at the first start."""
    return b"GenerateName=yes\n"


def _without_host(content: bytes, below: bytes | None, _epoch: int) -> bytes:
    """popularity-contest.conf without its host's ID and day; the postinst adds what is not set.

    "If MY_HOSTID is not set, add it. This is useful when disk images are prepared", it says.
    """
    old = set((below or b"").splitlines(keepends=True))
    return b"".join(
        line
        for line in content.splitlines(keepends=True)
        if line in old or not re.match(rb'(MY_HOSTID|DAY)="', line)
    )


def _dated(content: bytes, _below: bytes | None, epoch: int) -> bytes | None:
    return jks.dated(content, epoch)


RECONFIGURE = "dpkg-reconfigure -f noninteractive {}"


def _ucf(*patterns: str) -> tuple[str, ...]:
    """What ucf(1) keeps of configuration files that it was given."""
    caches = tuple("var/lib/ucf/cache/:" + one.replace("/", ":") for one in patterns)
    return (*caches, "var/lib/ucf/hashfile", "var/lib/ucf/hashfile.[0-9]")


# Found in the maintainer scripts of 535 packages of bookworm, and in what two builds differed in.
TABLE = (
    # --- comes back by itself, as does what clean.REMOVED has
    Drawn(package="network-manager", what="a secret and networks seen", paths=(
        "var/lib/NetworkManager/secret_key", "var/lib/NetworkManager/seen-bssids")),
    Drawn(package="open-iscsi", what="the initiator's name", done=NEUTRAL, make=_generate_name,
          paths=("etc/iscsi/initiatorname.iscsi",)),
    # --- comes back by a command, or by cloud-init
    Drawn(package="openssh-server", what="host keys", paths=("etc/ssh/ssh_host_*",),
          again="ssh-keygen -A", by=("cloud-init",)),
    Drawn(package="dropbear", what="host keys", paths=("etc/dropbear/dropbear_*_host_key*",),
          again=RECONFIGURE.format("dropbear")),
    Drawn(package="ssl-cert", what="a private key and its certificate", paths=(
        "etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"),
        links=("etc/ssl/certs/*.[0-9]",), again="make-ssl-cert generate-default-snakeoil"),
    Drawn(package="popularity-contest", what="the host's ID, day and minute", done=NEUTRAL,
          make=_without_host, paths=("etc/popularity-contest.conf",),
          again=RECONFIGURE.format("popularity-contest")),
    Drawn(package="popularity-contest", what="the minute of its cron job",
          paths=("etc/cron.d/popularity-contest",)),
    Drawn(package="nvme-cli", what="the host's ID and name", again=RECONFIGURE.format("nvme-cli"),
          paths=("etc/nvme/hostid", "etc/nvme/hostnqn")),
    Drawn(package="bind9", what="the key of rndc", paths=("etc/bind/rndc.key",),
          again=RECONFIGURE.format("bind9")),
    Drawn(package="munge", what="the key of the cluster", paths=("etc/munge/munge.key",),
          again=RECONFIGURE.format("munge") + ", or give the cluster's own"),
    Drawn(package="rabbitmq-server", what="the cookie of Erlang", again=RECONFIGURE.format(
        "rabbitmq-server"), paths=("var/lib/rabbitmq/.erlang.cookie",)),
    Drawn(package="unbound", what="keys and certificates of its control", paths=(
        "etc/unbound/unbound_server.key", "etc/unbound/unbound_server.pem",
        "etc/unbound/unbound_control.key", "etc/unbound/unbound_control.pem"),
        again="unbound-control-setup"),
    Drawn(package="nsd", what="keys and certificates of its control", paths=(
        "etc/nsd/nsd_server.key", "etc/nsd/nsd_server.pem",
        "etc/nsd/nsd_control.key", "etc/nsd/nsd_control.pem"), again="nsd-control-setup"),
    Drawn(package="dnssec-trigger", what="keys and certificates of its control", paths=(
        "etc/dnssec-trigger/dnssec_trigger_*.key", "etc/dnssec-trigger/dnssec_trigger_*.pem"),
        again="dnssec-trigger-control-setup"),
    Drawn(package="xrdp", what="RSA keys", paths=("etc/xrdp/rsakeys.ini",),
          again=RECONFIGURE.format("xrdp")),
    Drawn(package="varnish", what="the secret of its control", paths=("etc/varnish/secret",),
          again=RECONFIGURE.format("varnish")),
    Drawn(package="ircd-hybrid", what="a private key and its certificate", paths=(
        "etc/ircd-hybrid/key/ircd.key", "etc/ircd-hybrid/key/ircd.pem"),
        again=RECONFIGURE.format("ircd-hybrid")),
    Drawn(package="redmine", what="the secret of its sessions",
          paths=("etc/redmine/*/secret_key.txt",), again=RECONFIGURE.format("redmine")),
    Drawn(package="dkms", what="the key that signed its modules", paths=(
        "var/lib/dkms/mok.key", "var/lib/dkms/mok.pub",
        "var/lib/shim-signed/mok/MOK.priv", "var/lib/shim-signed/mok/MOK.der"),
        again="dkms build --force, for each module"),
    Drawn(package="phpmyadmin", what="the secret of its cookies",
          paths=("var/lib/phpmyadmin/blowfish_secret.inc.php",),
          again=RECONFIGURE.format("phpmyadmin")),
    # --- the clock, and logs of the build
    Drawn(package="ca-certificates-java", what="dates of the clock", done=DATED, make=_dated,
          paths=("etc/ssl/certs/java/cacerts",)),
    Drawn(package="dkms", what="a log of the build", paths=("var/lib/dkms/*/*/*/*/log",)),
    # --- stays, since the package does not work without
    Drawn(package="postgresql", what="a database cluster with its system identifier", done=KEPT,
          paths=("var/lib/postgresql/*/*",),
          again="pg_dropcluster VERSION main && pg_createcluster VERSION main"),
    Drawn(package="mariadb-server", what="a database with dates and UUIDs", done=KEPT, paths=(
        "var/lib/mysql",), again="empty it, then mariadb-install-db"),
    Drawn(package="slapd", what="a directory with its administrator's password", done=KEPT, paths=(
        "etc/ldap/slapd.d", "var/lib/ldap"), again="dpkg-reconfigure slapd"),
    Drawn(package="etckeeper", what="a history of /etc, with what was drawn in it", done=KEPT,
          paths=("etc/.git", "etc/.etckeeper"), again="rm -r /etc/.git && etckeeper init"),
    Drawn(package="dropbear-initramfs", what="host keys, which are in the initrd, too", done=KEPT,
          paths=("etc/dropbear/initramfs/dropbear_*_host_key*",),
          again="rm the keys, then dpkg-reconfigure dropbear-initramfs"),
    Drawn(package="dbconfig-common", what="a database with what was drawn for it", done=KEPT,
          paths=("var/lib/dbconfig-common/sqlite3/*/*",),
          again="dpkg-reconfigure the package that has it"),
    Drawn(package="roundcube-core", what="the key of its sessions", done=KEPT,
          paths=("etc/roundcube/config.inc.php",), again="draw another des_key",
          also=_ucf("etc/roundcube/config.inc.php")),
    Drawn(package="zoneminder", what="secrets of its API", done=KEPT,
          paths=("etc/zm/zm.conf", "etc/zm/conf.d/*"), again="draw other ones"),
    Drawn(package="mailman3", what="the password of its API", done=KEPT,
          paths=("etc/mailman3/mailman.cfg",), again="draw another one",
          also=_ucf("etc/mailman3/mailman.cfg")),
    # Its functions draw them for bacula-fd, -sd, -director and -console.
    Drawn(package="bacula-common", what="passwords between its daemons", done=KEPT, paths=(
        "etc/bacula/common_default_passwords", "etc/bacula/bacula-fd.conf",
        "etc/bacula/bacula-sd.conf", "etc/bacula/bacula-dir.conf", "etc/bacula/bconsole.conf"),
        again="put other ones into /etc/bacula/*.conf, and rm common_default_passwords",
        also=_ucf("etc/bacula/*.conf")),
    Drawn(package="ejabberd", what="a private key and its certificate", done=KEPT,
          paths=("etc/ejabberd/ejabberd.pem",),
          again="rm it, then dpkg-reconfigure ejabberd"),
    # --- stays, other in each build, and is no secret: not told
    Drawn(package="dkms", what="modules, signed with a key drawn for this build", done=KEPT,
          paths=("lib/modules/*/updates/dkms/*", "usr/lib/modules/*/updates/dkms/*",
                 "var/lib/dkms/*/*/*/*/module/*")),
    Drawn(package="freeradius", what="parameters of Diffie-Hellman", done=KEPT,
          paths=("etc/freeradius/*/certs/dh",)),
    Drawn(package="courier-base", what="parameters of Diffie-Hellman", done=KEPT,
          paths=("etc/courier/dhparams.pem",)),
    Drawn(package="ircd-hybrid", what="parameters of Diffie-Hellman", done=KEPT,
          paths=("etc/ircd-hybrid/key/dhparam.pem",)),
    Drawn(package="apticron", what="the minute of its cron job", done=KEPT,
          paths=("etc/cron.d/apticron",)),
    Drawn(package="clamav-freshclam", what="the minute of its cron job", done=KEPT,
          paths=("etc/cron.d/clamav-freshclam",)),
)  # fmt: skip
