"""What packages draw by chance or date by the clock: removed, made neutral, dated anew, or told."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.trees import mounted
from support.world import World, says
from tasks.rootfs import drawn, identities, jks
from tasks.rootfs.drawn import KEPT, TABLE, Drawn
from tasks.rootfs.identities import Notice, Tree

PEM = "-----BEGIN {}PRIVATE KEY-----\nMC4CAQ\n-----END {}PRIVATE KEY-----\n"


def put(root: Path, name: str, content: str | bytes = "drawn\n") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def sweep(root: Path, **more: object) -> list[Notice]:
    return identities.sweep(replace(Tree(upper=root, epoch=1_700_000_000), **more))  # type: ignore[arg-type]


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.package}: {row.what}")
def test_each_row_does_what_it_says_and_tells_it(tmp_path: Path, row: Drawn) -> None:
    names = [pattern.replace("*", "x1") for pattern in row.paths]
    for name in names:
        put(tmp_path, name)
    beside = put(tmp_path, "etc/hosts")
    notices = sweep(tmp_path)
    left = files(tmp_path)
    assert beside.exists()
    assert [name for name in names if name in left] == (
        [] if row.done == drawn.REMOVED else sorted(names, key=names.index)
    )
    told = identities.told(notices, set())
    if row.again:
        assert [notice.package for notice in told] == [row.package]
        assert set(told[0].paths) <= {f"/{name}" for name in names}
        says(told[0].text(), row.package, row.what, told[0].paths[0], row.again)
    else:
        assert told == []
    # What may have other bytes is what stays, and nothing beside it.
    for name in names:
        kept = row.done == KEPT
        assert bool(identities.differing(notices, f"/{name}")) == kept
        assert bool(identities.differing(notices, f"/{name}/below/it")) == kept
    assert identities.differing(notices, "/etc/hosts") is None
    assert identities.read(identities.facts(notices)) == notices


def test_what_ucf_keeps_of_a_drawn_file_may_differ_only_where_it_was_drawn(tmp_path: Path) -> None:
    for name in ("etc/bacula/bacula-fd.conf", "etc/bacula/common_default_passwords",
                 "var/lib/ucf/hashfile", "var/lib/ucf/cache/:etc:bacula:bacula-fd.conf"):  # fmt: skip
        put(tmp_path, name)
    (notice,) = sweep(tmp_path)
    assert notice.package == "bacula-common"
    assert notice.paths == ("/etc/bacula/bacula-fd.conf", "/etc/bacula/common_default_passwords")
    for name in ("hashfile", "cache/:etc:bacula:bacula-fd.conf", "cache/:etc:bacula:bconsole.conf"):
        assert identities.differing([notice], f"/var/lib/ucf/{name}") is notice
    assert identities.differing([notice], "/var/lib/ucf/cache/:etc:default:grub") is None
    # Other packages use ucf, too.
    put(tmp_path / "other", "var/lib/ucf/hashfile")
    assert sweep(tmp_path / "other") == []
    assert identities.differing([], "/var/lib/ucf/hashfile") is None


@pytest.mark.parametrize(
    ("ending", "text", "calls"),
    [
        ("postinst", "x=$(pwgen -s 12 1)", "pwgen"),
        ("postinst", "head -c9 < /dev/urandom", "/dev/urandom"),
        ("config", "p=`openssl  rand -hex 8`", "openssl rand"),
        ("preinst", "mcookie > /etc/x", "mcookie"),
        ("postinst", "cat /proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/uuid"),
        ("postinst", "echo $RANDOM", "$RANDOM"),
        ("postinst", ". /usr/share/odd/functions\ndraw", "/dev/urandom"),
        ("prerm", "pwgen", None),
        ("postinst", "# as pwgen does\ndbus-uuidgen --ensure; rm -f /etc/pwgen.conf", None),
        ("postinst", "openssl x509 -in y; dpkg-query -W pwgen-x", None),
        ("postinst", ". /usr/share/dbconfig-common/dpkg/postinst", None),
        ("postinst", ". /usr/share/none; . /etc/default/odd", None),
    ],
)
def test_a_package_of_no_row_whose_scripts_draw_is_told(
    tmp_path: Path, ending: str, text: str, calls: str | None
) -> None:
    put(tmp_path, f"var/lib/dpkg/info/odd:amd64.{ending}", f"#!/bin/sh\n{text}\n")
    put(tmp_path, f"var/lib/dpkg/info/munge.{ending}", f"#!/bin/sh\n{text}\n")
    for name in ("odd/functions", "dbconfig-common/dpkg/postinst"):
        put(tmp_path, f"usr/share/{name}", "draw() { tr -dc a-z < /dev/urandom | head -c 9; }\n")
    notices = sweep(tmp_path)
    assert identities.told(notices, set()) == notices
    assert identities.read(identities.facts(notices)) == notices
    assert [notice.package for notice in notices] == ([] if calls is None else ["odd"])
    if calls is not None:
        says(notices[0].text(), f"odd: its {ending} calls {calls} (",
             f"/var/lib/dpkg/info/odd:amd64.{ending}", "the same in every copy")  # fmt: skip
        assert identities.differing(notices, "/etc/x") is None


def test_what_is_the_users_stays(tmp_path: Path) -> None:
    root, below = tmp_path / "upper", tmp_path / "below"
    mine = "my own key\n"
    put(root, "etc/munge/munge.key", mine)
    put(root, "etc/ssh/ssh_host_rsa_key")
    put(root, "etc/bind/rndc.key", "touched by a postinst\n")
    put(below, "etc/bind/rndc.key")
    put(root, "etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.mine\n")
    put(root, "etc/ssl/private/web.key", PEM.format("", ""))
    before = files(root)
    put(root, "etc/nvme/hostid")

    def lower(name: str) -> Path | None:
        return below / name if (below / name).exists() else None

    notices = sweep(
        root, below=lower, kept={"etc/ssh/ssh_host_rsa_key", "etc/iscsi/initiatorname.iscsi"},
        given={hashlib.sha256(mine.encode()).hexdigest()},
    )  # fmt: skip
    assert files(root) == before
    assert (root / "etc/iscsi/initiatorname.iscsi").read_text() == "InitiatorName=iqn.mine\n"
    assert [notice.package for notice in notices] == ["nvme-cli"]


def test_no_link_is_followed_and_the_hash_link_goes_with_its_certificate(tmp_path: Path) -> None:
    root, outside = tmp_path / "tree", tmp_path / "outside"
    theirs = put(outside, "ssl-cert-snakeoil.key")
    (root / "etc/ssl/certs").mkdir(parents=True)
    (root / "etc/ssl/private").symlink_to(outside)
    (root / "etc/munge").mkdir()
    (root / "etc/munge/munge.key").symlink_to(theirs)
    put(root, "etc/ssl/certs/ssl-cert-snakeoil.pem")
    (root / "etc/ssl/certs/62742064.0").symlink_to("ssl-cert-snakeoil.pem")
    (root / "etc/ssl/certs/0b1b94ef.0").symlink_to("other.pem")
    sweep(root)
    assert theirs.read_text() == "drawn\n"
    assert files(root) == ["etc/ssl/certs/0b1b94ef.0"]
    assert (root / "etc/ssl/private").is_symlink()


def test_neutral_files_are_those_that_the_packages_fill_again(tmp_path: Path) -> None:
    conf = '# text\nMY_HOSTID="{}"\nPARTICIPATE="no"\nDAY="{}"\n'
    path = put(tmp_path, "etc/popularity-contest.conf", conf.format("0" * 32, 5))
    path.chmod(0o604)
    name = put(tmp_path, "etc/iscsi/initiatorname.iscsi", "## text\nInitiatorName=iqn.x\n")
    inode = path.stat().st_ino
    sweep(tmp_path)
    assert path.read_text() == '# text\nPARTICIPATE="no"\n'
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o604)
    assert name.read_text() == "GenerateName=yes\n"
    # The ID that a user gave in a layer below is not drawn here.
    below = put(tmp_path / "below", "conf", conf.format("mine", 1))
    path.write_text(conf.format("mine", 3))
    sweep(tmp_path, below=lambda name: below if name.endswith("contest.conf") else None)
    assert path.read_text() == '# text\nMY_HOSTID="mine"\nPARTICIPATE="no"\n'


def test_what_cloud_init_makes_at_first_boot_is_not_told_where_it_is_installed(
    tmp_path: Path,
) -> None:
    put(tmp_path, "etc/ssh/ssh_host_rsa_key")
    notices = sweep(tmp_path)
    assert identities.told(notices, {"openssh-server"}) == notices != []
    assert identities.told(notices, {"openssh-server", "cloud-init"}) == []


NOTICE = {"package": "x", "what": "y", "done": KEPT, "again": "z", "paths": ["/a"]}


def test_facts_are_read() -> None:
    (notice,) = identities.read([NOTICE])
    assert (notice.package, notice.paths, notice.by, notice.more) == ("x", ("/a",), (), 0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        [1],
        [{}],
        [{"paths": 3}],
        [{**NOTICE, "odd": 1}],
        [{**NOTICE, "paths": [1]}],
        [{**NOTICE, "package": None}],
        [{**NOTICE, "more": "x"}],
        [{**NOTICE, "by": 1}],
    ],
)
def test_facts_of_another_form_tell_nothing(value: object) -> None:
    assert identities.read(value) == []


# ---------------------------------------------------------------- private keys


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "])
def test_a_private_key_that_no_package_ships_is_told(tmp_path: Path, kind: str) -> None:
    put(tmp_path, "var/lib/dpkg/info/odd.list", "/.\n/lib/odd/test.key\n/etc/odd\n")
    put(tmp_path, "usr/lib/odd/test.key", PEM.format(kind, kind))  # of a merged /usr
    put(tmp_path, "var/lib/dpkg/info/odd.postinst", PEM.format(kind, kind))
    put(tmp_path, "etc/odd/cert.pem", "-----BEGIN CERTIFICATE-----\n")
    put(tmp_path, "etc/odd/help", "it begins with '-----BEGIN PRIVATE KEY-----'\n")
    put(tmp_path, "etc/odd/both.pem", "-----BEGIN CERTIFICATE-----\n" * 99 + PEM.format(kind, kind))
    (tmp_path / "etc/odd/link.pem").symlink_to("both.pem")
    notices = sweep(tmp_path)
    assert [(one.package, one.paths, one.done) for one in notices] == [
        ("", ("/etc/odd/both.pem",), KEPT)
    ]
    assert identities.told(notices, set()) == notices
    says(notices[0].text(), "private key", "/etc/odd/both.pem", "the same in every copy")
    assert identities.differing(notices, "/etc/odd/both.pem") is None
    assert sweep(tmp_path, kept={"etc/odd/both.pem"}) == []


def test_a_name_cannot_command_a_terminal_and_many_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "var/lib/dpkg/info/odd.list", "/.\n")
    for number in range(12):
        put(tmp_path, f"srv/\x1b[31m{number}.pem", PEM.format("", ""))
    (notice,) = sweep(tmp_path)
    assert "\x1b" not in notice.text()
    says(notice.text(), "and 4 more")


# ---------------------------------------------------------------- Java's keystores


def keystore(dates: Sequence[int], password: str = "changeit") -> bytes:
    """A keystore of version 2 with a certificate for each date, in ms, and one private key."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    certificate = text("X.509") + struct.pack(">I", 3) + b"DER"
    body = b"\xfe\xed\xfe\xed" + struct.pack(">II", 2, len(dates) + 1)
    for number, date in enumerate(dates):
        body += struct.pack(">I", 2) + text(f"debian:{number}.pem") + struct.pack(">Q", date)
        body += certificate
    body += struct.pack(">I", 1) + text("own") + struct.pack(">QI", dates[0], 4) + b"KEY!"
    body += struct.pack(">I", 2) + certificate * 2
    digest = hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body)
    return body + digest.digest()


def test_a_keystore_has_the_epoch_for_every_date_and_stays_whole(tmp_path: Path) -> None:
    epoch = 1_700_000_000
    expected = keystore([epoch * 1000] * 3)
    for clock in (1, 2):
        assert jks.dated(keystore([clock, clock + 5, clock + 9]), epoch) == expected
    assert jks.dated(expected, epoch) == expected
    path = put(tmp_path, "etc/ssl/certs/java/cacerts", keystore([1, 2, 3]))
    assert sweep(tmp_path) == []
    assert path.read_bytes() == expected


def test_what_is_no_keystore_with_debians_password_is_left_alone(tmp_path: Path) -> None:
    whole = keystore([1, 2])
    for content in (
        b"", whole[:-1], whole[:40], whole + b"x", b"\0" + whole[1:], keystore([1], "other"),
        whole[:50] + b"\xff" + whole[51:],
    ):  # fmt: skip
        assert jks.dated(content, 5) is None
        path = put(tmp_path, "etc/ssl/certs/java/cacerts", content)
        sweep(tmp_path)
        assert path.read_bytes() == content


# ---------------------------------------------------------------- in a build

DRAW = "od -An -tx1 -N16 /dev/urandom | tr -d ' \\n'"


SSL_CERT = f"""
umask 022
mkdir -p /etc/ssl/private /etc/ssl/certs
{{ echo '-----BEGIN PRIVATE KEY-----'; {DRAW}; }} > /etc/ssl/private/ssl-cert-snakeoil.key
{DRAW} > /etc/ssl/certs/ssl-cert-snakeoil.pem
ln -s ssl-cert-snakeoil.pem /etc/ssl/certs/62742064.0
"""


POSTGRESQL = f"""
mkdir -p /var/lib/postgresql/15/main/global
{DRAW} > /var/lib/postgresql/15/main/global/pg_control
touch /var/lib/postgresql/15/main/base-$({DRAW})
"""


MUNGE = f"mkdir -p /etc/munge; test -e /etc/munge/munge.key || {DRAW} > /etc/munge/munge.key"


NVME = f"mkdir -p /etc/nvme; {DRAW} > /etc/nvme/hostid; {DRAW} > /etc/nvme/hostnqn"


ODD = f"""
mkdir -p /etc/odd
{{ echo '-----BEGIN RSA PRIVATE KEY-----'; {DRAW}; }} > /etc/odd/odd.key
"""


@pytest.mark.root
def test_a_build_ships_no_drawn_key_tells_what_is_shared_and_is_reproduced(
    built: World, tmp_path: Path
) -> None:
    built.add(*(
        built.deb(name, files={f"/usr/share/{name}": "1\n"}, scripts={"postinst": text})
        for name, text in {"ssl-cert": SSL_CERT, "postgresql": POSTGRESQL, "munge": MUNGE,
                           "nvme-cli": NVME, "odd": ODD}.items()
    ))  # fmt: skip
    built.write("files/munge.key", "the cluster's own\n")
    built.write("scripts/app.sh", "#!/bin/sh\nset -e\nmkdir -p /boot\necho k > /boot/kernel\n"
                "echo mine > /etc/nvme/hostid\n", 0o755)  # fmt: skip
    built.edit("  /boot: {file: web-boot.img.gz, format: ext2}\n", "")
    built.edit("{file: web.img.gz, format: ext4}", "{file: web.img, format: ext4, container: raw}")
    built.edit("packages: [beta]", "packages: [beta, ssl-cert, postgresql, munge, nvme-cli]")
    built.edit("{/etc/motd: files/motd}",
               "{/etc/motd: files/motd, /etc/munge/munge.key: files/munge.key}")  # fmt: skip
    exports = "exports: {web.tar: {format: tar}, oci: {format: oci}}\n"
    built.write("web.yaml", (built.root / "specs/web.yaml").read_text() + exports)
    first = built.doit("build", "spec=web")
    told = [line for line in first.out.splitlines() if line.startswith("warning: ")]
    assert len(told) == 3
    says(told[0], "app: ssl-cert", "/etc/ssl/private/ssl-cert-snakeoil.key", "removed",
         "make-ssl-cert generate-default-snakeoil")  # fmt: skip
    says(told[1], "app: nvme-cli", ": /etc/nvme/hostnqn: removed")  # the script made the other
    says(told[2], "app: postgresql", "/var/lib/postgresql/15/main", "the same in every copy")
    assert [(one["layer"], one["package"], one["done"]) for one in built.json()["warnings"]] == [
        ("app", "ssl-cert", "removed"), ("app", "nvme-cli", "removed"),
        ("app", "postgresql", "kept"),
    ]  # fmt: skip
    with mounted(built.root / "out/web/web.img", tmp_path / "tree") as root:
        assert not list((root / "etc/ssl").rglob("*snakeoil*"))
        assert not (root / "etc/ssl/certs/62742064.0").is_symlink()
        assert (root / "etc/munge/munge.key").read_text() == "the cluster's own\n"
        assert (root / "etc/nvme/hostid").read_text() == "mine\n"
        assert not (root / "etc/nvme/hostnqn").exists()
        assert (root / "var/lib/postgresql/15/main/global/pg_control").read_text()

    again = built.doit("build", "spec=web")
    assert set(built.results().values()) <= {"hit", "skipped"}
    assert [line for line in again.out.splitlines() if line.startswith("warning: ")] == told

    done = built.doit("reproduce", "spec=web")
    control = "postgresql (/var/lib/postgresql/15/main/"
    assert done.out.count(f"but for what packages drew by chance: {control}") == 2, done.out
    says(done.out, "other bytes, which follows from layer app", "export oci",
         "has other bytes, which follows from layer app", "web.tar has other bytes, which follows from layer app",
         "reproduced out/web/: 3 files, but for what postgresql drew by chance")  # fmt: skip

    built.edit("munge, nvme-cli]", "munge, nvme-cli, odd]")
    build = built.doit("build", "spec=web")
    says(build.out, "warning: app: drawn at install: a private key that no package ships",
         "/etc/odd/odd.key", "the same in every copy",
         "warning: app: odd: its postinst calls /dev/urandom (")  # fmt: skip
