"""What files and scripts give is in the tree, or refused and why: never lost or overwritten in silence."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from support.trees import only_root, tree_of
from support.world import World
from tasks.plan.entries import Entry
from tasks.rootfs import clean, paths
from tasks.rootfs.overlay import Upper
from tasks.stages import own
from tasks.stages.inside import SCRIPTS


def entry(target: str, content: str = "x") -> Entry:
    return Entry(target=target, kind="file", source=None, content=content.encode(),
                        mode=0o644, owner="0:0")  # fmt: skip


def test_sweep_keeps_what_is_the_users(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    for name in ("etc/machine-id", "etc/ssh/ssh_host_a", "etc/ssh/ssh_host_b", "var/log/x.log/mine",
                 "var/log/x.log/other", "var/log/y.log/z"):  # fmt: skip
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    clean.sweep(top, kept={"etc/machine-id", "etc/ssh/ssh_host_a", "var/log/x.log/mine"})
    left = sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())
    assert left == ["etc/machine-id", "etc/ssh/ssh_host_a", "var/log/x.log/mine"]
    assert (top / "etc/machine-id").read_text() == "x"


def test_a_path_is_resolved_within_the_tree(tmp_path: Path) -> None:
    for name in ("upper/var", "lower/real", "lower/etc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "upper/var/log").symlink_to("/logs")
    (tmp_path / "lower/logs").symlink_to("../../etc/../real")
    (tmp_path / "lower/etc/loop").symlink_to("loop")
    stack = ["upper", "lower"]
    assert paths.resolved(tmp_path, stack, "/var/log/a.log") == "real/a.log"
    assert paths.resolved(tmp_path, stack, "/./etc/x") == "etc/x"
    assert paths.resolved(tmp_path, stack, "/new/place") == "new/place"
    assert paths.resolved(tmp_path, stack, "/etc/loop") == "etc/loop"
    assert paths.resolved(tmp_path, stack, "/etc/loop/x").startswith("etc/loop")
    entries = [entry(target) for target in ("/var/log/a.log", "/etc/machine-id", "/etc/motd")]
    made = own.files_made(own.places(tmp_path, stack, entries, "x"))
    assert made == {"etc/machine-id"}


def test_what_a_package_adds_to_a_log_of_a_layer_below_goes(tmp_path: Path) -> None:
    lower, top = tmp_path / "lower", tmp_path / "upper"
    changed = ("var/log/dpkg.log", "var/log/app.log", "var/lib/dpkg/status-old")
    names = (*changed, "var/log/same.log", "etc/ssh/ssh_host_a", "var/log/alternatives.log")
    for name in names:
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text("mine\n")
    for name in names[:-1]:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("mine\n" if "same" in name else "mine\n2031-01-01 by the clock\n")
    upper = Upper(base=tmp_path, name="upper", lower=["lower"], begun=0)
    kept = own.shielded(upper, ["lower"], names)
    assert kept == {"var/log/same.log", "etc/ssh/ssh_host_a", "var/log/alternatives.log"}
    clean.sweep(top, kept=kept)
    for name in changed:  # with no whiteout in its place
        assert not (top / name).exists()
        found = paths.find_in(tmp_path, ["upper", "lower"], name)
        assert found is not None
        assert found.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("content", "mode", "left"),
    [("", 0o444, 0o444), ("", 0o600, 0o600), ("0123\n", 0o444, 0o644)],
)
def test_an_empty_machine_id_keeps_its_mode(
    tmp_path: Path, content: str, mode: int, left: int
) -> None:
    path = tmp_path / "etc/machine-id"
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(mode)
    clean.sweep(tmp_path)
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("", left)


def test_what_tools_note_is_no_wider_than_what_they_write(tmp_path: Path) -> None:
    theirs = ("var/log/apt/history.log", "var/log/apt/term.log", "var/log/apt/eipp.log.xz",
              "var/cache/apt/pkgcache.bin", "var/lib/dpkg/status-old", "var/lib/dpkg/lock-frontend",
              "var/cache/debconf/config.dat-old")  # fmt: skip
    mine = ("var/log/apt/mine.txt", "var/cache/apt/my.bin", "var/lib/dpkg/my-old",
            "var/lib/dpkg/locksmith", "var/cache/debconf/my-old")  # fmt: skip
    for name in (*theirs, *mine):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    made = own.script_made(tmp_path, {})
    assert made == set(mine)
    clean.sweep(tmp_path, kept=made)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(mine)


@pytest.mark.root
def test_nodes_and_empty_folders_that_a_script_makes_are_its_own(tmp_path: Path) -> None:
    """The step's own shell tells what was there, as `sum_of` tells what is."""
    log = tmp_path / "var/log"
    log.mkdir(parents=True)
    notes = tmp_path / "notes"
    os.mkfifo(log / "was.log")
    os.mknod(log / "dev.log", 0o600 | stat.S_IFCHR, os.makedev(1, 300))
    (log / "deep.log/in").mkdir(parents=True)
    (log / "deep.log/in/x").write_text("1")
    (log / "link.log").symlink_to("nowhere")
    code = (SCRIPTS / "note-before.sh").read_text()
    code = code.replace("/dev/.strata/leaving", "/dev/null").replace(own.LISTED, str(notes))
    subprocess.run(["/bin/sh", "-c", f"set -- {log}/*.log {log}/none/*\n{code}"], check=True)
    before = {name.removeprefix(f"{tmp_path}/".lstrip("/")): value
              for name, value in own.sums(notes.read_text()).items()}  # fmt: skip
    assert {f"var/log/{name}" for name in (
        "was.log", "dev.log", "deep.log", "deep.log/in", "deep.log/in/x", "link.log"
    )} == set(before)  # fmt: skip
    assert own.script_made(tmp_path, before) == set()
    (log / "was.log").chmod(0o600)  # touched alone
    (log / "dev.log").unlink()
    os.mknod(log / "dev.log", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(log / "white.log", 0o600 | stat.S_IFCHR, 0)
    os.mkfifo(log / "pipe.log")
    (log / "dir.log").mkdir()
    (tmp_path / "var/lib/apt/lists/auxd").mkdir(parents=True)
    made = own.script_made(tmp_path, before)
    assert made == {"var/log/dev.log", "var/log/pipe.log", "var/log/dir.log",
                    "var/lib/apt/lists/auxd"}  # fmt: skip
    clean.sweep(tmp_path, kept=made)
    assert {path.name for path in log.iterdir()} == {"dev.log", "pipe.log", "dir.log", "white.log"}
    assert (tmp_path / "var/lib/apt/lists/auxd").is_dir()


def test_of_a_folder_that_a_script_left_its_content_is_not_told() -> None:
    text = own.warning("app", "x.sh", "/dev/foo\n/dev/bar\n/dev/bar/a\n/dev/bar/a/b\n/run/x/y\n")
    assert "x.sh left /dev/foo, /dev/bar, /run/x/y: in no image" in text


DRAWN = """
set -e
mkdir -p /etc/ssh
for key in a b c; do echo drawn > /etc/ssh/ssh_host_$key; done
mkdir -p /etc/bind /etc/munge; echo drawn > /etc/bind/rndc.key; echo drawn > /etc/munge/munge.key
echo 0123 > /etc/machine-id
echo package > /var/log/beta.log
echo package > /var/log/both.log
"""


SCRIPT = """#!/bin/sh
set -eu
chmod 600 /etc/ssh/*                                        # touched: still the package's
echo mine > /root/b; touch -r /etc/passwd /root/b; cp -p /root/b /etc/ssh/ssh_host_b
echo mine > /etc/ssh/ssh_host_d
echo mine > /etc/munge/munge.key
echo fedcba9876543210fedcba9876543210 > /etc/machine-id
echo mine > /var/log/own.log
echo x >> /var/log/dpkg.log                                 # a tool's, whoever ran it
echo lost > /run/lost
echo lost > /dev/foo; mkdir /dev/bar; mkdir -p /run/lock; echo lost > /run/lock/deep
mkfifo /var/log/pipe.log; mknod /var/log/n.log c 1 3; mkdir /var/log/dir.log
echo mine > /var/log/apt/mine.txt
echo mine > /usr/sbin/policy-rc.d.strata
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) and bind(S, sockaddr_un("/srv/s")) or die $!'
"""


POLICY = "#!/bin/sh\\nexit 101\\n"


@pytest.mark.root
def test_what_files_and_scripts_make_is_kept_and_what_packages_draw_goes(
    built: World, tmp_path: Path
) -> None:
    only_root(built)
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": DRAWN}))
    built.write("scripts/app.sh", SCRIPT, 0o755)
    built.edit("files: {/etc/motd: files/motd}", f"""files:
      /etc/hosts: {{content: "10.0.0.5 db\\n"}}
      /etc/ssh/ssh_host_c: {{content: "mine\\n"}}
      /var/log/both.log: {{content: "mine\\n"}}
      /usr/sbin/policy-rc.d: {{content: "{POLICY}", mode: "0755"}}""")  # fmt: skip
    built.edit("images:", "hostname: web1.example\nroot_password: x\nimages:")
    build = built.doit("build", "spec=web")
    left = re.search(r"app\.sh left (.+): in no image", build.text)
    assert left is not None
    assert {"/run/lost", "/dev/foo", "/dev/bar"} <= set(left[1].split(", "))
    assert "/run/lock" in left[1]
    assert "layer app: /srv/s: in no image" in build.text
    with tree_of(built, tmp_path) as root:
        assert (root / "etc/hosts").read_text() == "10.0.0.5 db\n"
        assert (root / "etc/hostname").read_text() == "web1.example\n"
        keys = {path.name[-1]: path.read_text() for path in (root / "etc/ssh").iterdir()}
        assert keys == {"b": "mine\n", "c": "mine\n", "d": "mine\n"}
        assert (root / "etc/munge/munge.key").read_text() == "mine\n"
        assert not (root / "etc/bind/rndc.key").exists()
        logs = {path.name: path.read_text() for path in (root / "var/log").glob("*.log")
                if path.is_file()}  # fmt: skip
        assert logs == {"own.log": "mine\n", "both.log": "mine\n"}
        assert (root / "var/log/pipe.log").is_fifo()
        assert (root / "var/log/n.log").is_char_device()
        assert (root / "var/log/dir.log").is_dir()
        assert (root / "var/log/apt/mine.txt").read_text() == "mine\n"
        assert (root / "usr/sbin/policy-rc.d.strata").read_text() == "mine\n"
        assert not (root / "srv/s").exists()
        assert (root / "etc/machine-id").read_text().startswith("fedcba")
        assert (root / "usr/sbin/policy-rc.d").read_text() == "#!/bin/sh\nexit 101\n"
        assert re.search(r"^root:\$6\$", (root / "etc/shadow").read_text(), re.M)


@pytest.mark.root
def test_what_is_one_file_in_the_image_is_not_given_twice(built: World, tmp_path: Path) -> None:
    """/bin is a link; and an empty folder of `files` is no trace, wherever it lies."""
    only_root(built)
    for folder in ("logs/empty", "none.log"):
        (built.root / "specs/files" / folder).mkdir(parents=True)
    given = """files:
      /var/log/apt/given: files/logs
      /var/log/none.log: files/none.log
      /bin/xx: {content: "one"}
      /usr/bin/xx: {content: """
    built.edit("files: {/etc/motd: files/motd}", given + '"two"}')
    built.doit("lock", "spec=web")
    built.refused("layers.app.files: '/bin/xx' and '/usr/bin/xx' are one file in the image, "
                  "/usr/bin/xx", "remove one of the two")  # fmt: skip
    built.edit('"two"', '"one"')
    built.build()
    with tree_of(built, tmp_path) as root:
        assert (root / "usr/bin/xx").read_text() == "one"
        for folder in ("apt/given/empty", "none.log"):
            assert (root / "var/log" / folder).is_dir(), folder


@pytest.mark.root
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("files: {/var/run/app/x: {content: a}}",
         ["layers.app.files", "/var/run/app leads to /run/app", "in no image", "tmpfiles.d"]),
        ("files: {/var/lock/x: {content: a}}", ["layers.app.files", "/var/lock leads to /run/lock"]),
        ("files: {/srv/link: files/some}", ["layers.app.files", "/srv/link leads to /tmp"]),
    ],
)  # fmt: skip
def test_files_that_a_link_leads_away_are_refused(
    built: World, change: str, parts: list[str]
) -> None:
    built.add(built.deb("beta", "2", depends="gamma",
                        scripts={"postinst": "ln -s ../tmp /srv/link"}))  # fmt: skip
    built.doit("lock", "spec=web")
    built.write("files/some/one", "1\n")
    built.edit("files: {/etc/motd: files/motd}", change)
    built.refused(*parts)


@pytest.mark.root
def test_a_package_that_replaces_a_file_of_a_layer_below_is_refused(built: World) -> None:
    only_root(built)
    path = "/usr/share/delta/version"
    built.edit("files: {/etc/motd: files/motd}",
               f"files: {{{path}: {{content: mine}}, /etc/delta.conf: {{content: mine}}}}")  # fmt: skip
    built.edit("images:", "  - {name: top, packages: [delta]}\nimages:")
    # A conffile stays the user's, and what a script adds to is not lost.
    built.add(built.deb("delta", "2", scripts={
        "conffiles": "/etc/delta.conf\n", "postinst": "echo added >> /etc/delta.conf"},
        files={path: "2\n", "/etc/delta.conf": "theirs\n"}))  # fmt: skip
    built.doit("lock", "spec=web")
    built.refused(f"layers.top: its package delta replaces {path}",
                  "files of the layer app gave", "give it in the layer top")  # fmt: skip
    built.edit("top, packages", f"top, files: {{{path}: {{content: mine}}}}, packages")
    assert built.build()["top"] == "built"


@pytest.mark.root
def test_a_file_that_goes_with_its_package_is_refused(built: World) -> None:
    """A new version has it no more; a script may remove it."""
    only_root(built)
    path = "/usr/share/beta/version"
    built.edit("files: {/etc/motd: files/motd}", f"files: {{{path}: {{content: mine}}}}")
    built.edit("packages: [beta]", "packages: [beta=1]")
    built.edit("images:", "  - {name: top, packages: [delta]}\nimages:")
    built.add(built.deb("beta", "2", depends="gamma", files={"/usr/share/beta/other": "2\n"}),
              built.deb("delta", "2", depends="beta (>= 2)"))  # fmt: skip
    built.doit("lock", "spec=web")
    built.refused(f"layers.top: the upgrade or removal of beta takes away {path}, which files "
                  "of the layer app gave", "give it in the layer top")  # fmt: skip
    built.write("scripts/top.sh", f"#!/bin/sh\nrm {path}\n")
    built.edit("top, packages: [delta]", "top, packages: [epsilon], script: scripts/top.sh")
    assert built.build()["top"] == "built"


@pytest.mark.root
@pytest.mark.parametrize(
    ("script", "fields", "parts"),
    [
        ("echo other > /etc/hostname", "hostname: web", ["hostname: the layer app makes /etc/hostname"]),
        ("usermod -p '$6$a$b' root", "root_password: secret",
         ["root_password: a package or a script has given root a password"]),
        ("mkdir -p /etc/default; echo LANG=C > /etc/default/locale", "locale: C.UTF-8",
         ["locale: the layer app makes /etc/default/locale"]),
    ],
)  # fmt: skip
def test_a_script_that_contradicts_a_field_is_refused(
    built: World, script: str, fields: str, parts: list[str]
) -> None:
    built.write("scripts/app.sh", f"#!/bin/sh\nset -eu\n{script}\n", 0o755)
    built.edit("images:", f"{fields}\nimages:")
    built.doit("lock", "spec=web")
    text = built.refused(*parts)
    assert "secret" not in text
