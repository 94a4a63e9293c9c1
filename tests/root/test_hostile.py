"""Hostile packages in real builds: whatever their scripts and archives try, the host stays as it was."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import hashlib
import io
import os
import re
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.repository import _Stanza, _stanzas
from support.tally import TALLY
from support.trees import decompress, mounted
from support.world import PROJECT, Build, World
from tasks.errors import BuildError, DamagedEntry
from tasks.host.log import Log
from tasks.rootfs import tarball
from tasks.stages import base

pytestmark = pytest.mark.root


ATTACK = (PROJECT / "tests/support/hostile.pl").read_text()


ATTEMPTS = re.findall(r"^try (\w+)", ATTACK, re.M)


SYSCTLS = ("kernel/hostname", "kernel/domainname", "kernel/core_pattern", "kernel/pid_max",
           "kernel/panic", "kernel/modprobe", "vm/overcommit_memory", "fs/file-max",
           "user/max_user_namespaces", "net/ipv4/ip_forward", "kernel/sysrq")  # fmt: skip


NODES = ("null", "zero", "full", "random", "urandom", "tty")


ENTRIES = (
    "/proc/meminfo",
    "/proc/version",
    "/proc/cpuinfo",
    "/proc/sys/kernel/hostname",
    "/proc/fs",
)


libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Host:
    """What a package must neither see nor change; `mark` stands in all of it."""

    mark: str
    canary: Path
    process: subprocess.Popen[bytes]
    key: int
    shm: int
    servers: list[socket.socket]
    reached: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.servers[0].getsockname()[1])

    def attack(self) -> str:
        """The Perl script, aimed at this host."""
        text = ATTACK
        for name, value in {"MARK": self.mark, "PID": self.process.pid, "PORT": self.port,
                            "CANARY": self.canary, "KEY": self.key, "SHM": 0x57A7A}.items():  # fmt: skip
            text = text.replace(f"%{name}%", str(value))
        assert not re.search(r"'%[A-Z]+%'", text)
        return text

    def state(self) -> dict[str, object]:
        """What may not have changed afterwards."""
        files = {
            str(path): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns,
                        path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b"")
            for folder in (self.canary.parent, Path("/etc/apt"))
            for path in [folder, *sorted(folder.rglob("*"))]
        }  # fmt: skip
        sysctls = {name: Path(f"/proc/sys/{name}").read_text()
                   for name in SYSCTLS if Path(f"/proc/sys/{name}").exists()}  # fmt: skip
        return {
            "files": files,
            "folders": {name: (os.stat(name).st_mode, os.stat(name).st_uid, sorted(os.listdir(name)))
                        for name in ("/", "/etc", "/root", "/usr", "/usr/bin", "/var/lib", "/boot", "/opt")},
            "passwd": [Path(f"/etc/{name}").read_bytes() for name in ("passwd", "shadow", "group")],
            "sysctls": sysctls,
            # Their times are whoever's who wrote to them last.
            "nodes": {path: (os.stat(path).st_mode, os.stat(path).st_uid, os.stat(path).st_gid,
                             os.listxattr(path))
                      for path in [*(f"/dev/{name}" for name in NODES), *ENTRIES]},
            "hostname": socket.gethostname(),
            "mounts": self.own(Path("/proc/self/mounts").read_text().splitlines()),
            "loops": self.own(subprocess.run(["losetup", "--all"], check=True, text=True,
                                             capture_output=True).stdout.splitlines()),
            "clock": round((time.time() - time.monotonic()) / 10),
            "process": self.process.poll(),
            "shm": Path("/proc/sysvipc/shm").read_text(),
            "reached": self.reached,
        }  # fmt: skip

    def doit(self, world: World, *words: str, check: bool = True) -> Build:
        """Run doit with the mark in its environment."""
        return world.doit(*words, check=check, STRATA_TEST_SECRET=self.mark,
                          HTTPS_PROXY=f"http://me:{self.mark}@127.0.0.1:9/",
                          SSH_AUTH_SOCK=f"/{self.mark}")  # fmt: skip

    def own(self, lines: list[str]) -> list[str]:
        """Without what other tests on this machine have there at the moment."""
        own = str(self.canary.parent.parent)
        return sorted(line for line in lines
                      if own in line or not re.search("pytest-of-|strata-test-", line))  # fmt: skip

    def processes(self) -> list[str]:
        """Command lines with the mark, but for the host's own process."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_bytes().decode(errors="replace")
                if self.mark in text and path.parent.name != str(self.process.pid):
                    found.append(text)
        return found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A process, a key, shared memory, sockets and files of the host."""
    mark = f"strata-mark-{os.getpid()}-{time.monotonic_ns()}"
    canary = tmp_path / "canary" / "file"
    canary.parent.mkdir()
    canary.write_text("untouched\n")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", mark])
    key = libc.syscall(248, b"user", f"{mark}-key".encode(), b"secret", 6, -4)
    shm = libc.shmget(0x57A7A, 4096, 0o1600)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{mark}")
        abstract.listen()
        found = Host(mark, canary, process, key, shm, [tcp, abstract])

        def listen(server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                server.accept()[0].close()
                found.reached.append(str(server))

        threads = [threading.Thread(target=listen, args=[server], daemon=True)
                   for server in found.servers]  # fmt: skip
        for thread in threads:
            thread.start()
        yield found
        for server in found.servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
    process.kill()
    process.wait()
    libc.shmctl(shm, 0, None)
    libc.syscall(250, 3, key)  # revoked


@contextlib.contextmanager
def unchanged(host: Host) -> Iterator[None]:
    """The block changes nothing of the host, and leaves no process in it."""
    before = host.state()
    yield
    after = host.state()
    for name, value in before.items():
        assert after[name] == value, name
    deadline = time.monotonic() + 2
    while host.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert host.processes() == []


PLACES = ("/tmp", "/var/tmp", "/etc", "/usr", "/root", "/home", "/opt", "/srv", "/mnt", "/boot")
"""Where a host keeps what is its own: programs, settings, users' files, and what is for the moment."""


def newer(than: Path, older: Sequence[Path]) -> list[str]:
    """What was made or changed in PLACES after a file, but for what tests have there themselves.

    By ctime, which no program can set back. A file that is gone again shows by its folder's, but for
    /tmp and /var/tmp, which are for such; of these two, what other users had there before (`older`)
    is theirs to change.
    """
    left_out = [*(re.escape(str(path)) for path in (PROJECT, *older)),
                "/tmp/(pytest-of-|strata-shared-|gpg-)[^/]*"]  # fmt: skip
    said = subprocess.run(
        ["find", *PLACES, "-xdev", "-regextype", "posix-extended", "-regex", "|".join(left_out),
         "-prune", "-o", "-cnewer", than, "-print"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    # Another program's file may go while find looks at it.
    assert all("No such file" in line for line in said.stderr.splitlines()), said.stderr
    return [path for path in said.stdout.splitlines() if path not in ("/tmp", "/var/tmp")]


def contained(world: World, host: Host, stage: str) -> None:
    """Build a stage: nothing of the host changes, and no file outside Strata's own folders.

    Somebody else may work on this host, too, so what is found is looked for again after another
    build of the stage: a package that can leave something there does it each time, if under a name
    that ends in other letters.
    """
    stamp, layers = world.root.parent / "stamp", world.root / "cache/layers"
    entries = set(layers.iterdir())
    each: set[str] | None = None
    for _ in range(4):
        older = [path for top in ("/tmp", "/var/tmp") for path in Path(top).iterdir()
                 if path.is_dir() and not path.is_symlink()]  # fmt: skip
        stamp.touch()
        time.sleep(0.02)  # the clock of files ticks every 10 ms at the least
        with unchanged(host):
            host.doit(world, stage, "spec=web")
        with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="strata-probe-") as probe:
            left = newer(stamp, older)
            assert probe.name in left, "nothing is found at all"
            left.remove(probe.name)
        shapes = {re.sub(r"[A-Za-z0-9_-]{6,}$", "*", path) for path in left}
        each = shapes if each is None else each & shapes
        if not each:
            return
        for path in set(layers.iterdir()) - entries:
            path.unlink()
    pytest.fail(f"left or changed outside: {each}")


def out_of(world: World, pattern: str, member: str) -> str:
    """The text of one member of the newest tarball in the cache that matches."""
    path = max(
        (world.root / "cache/layers").glob(pattern), key=lambda path: path.stat().st_mtime_ns
    )
    return subprocess.run(["tar", "--extract", "--to-stdout", "--file", path, member],
                          check=True, capture_output=True, text=True).stdout  # fmt: skip


def judge(text: str) -> None:
    """Every attempt was made, and every one failed."""
    results = dict(line.split("\t", 1) for line in text.splitlines())
    assert {name: got for name, got in results.items() if not got.startswith("no: ")} == {}
    mistakes = {name: got for name, got in results.items()
                if re.search(r"line \d+|nothing happens|killed by", got)}  # fmt: skip
    assert mistakes == {}
    assert set(results) >= {*ATTEMPTS, "end"}
    assert len(results) >= 160
    TALLY["hostile attempts"] += len(results) - 1  # `end` is none


def test_hostile_postinst_of_a_layer(built: World, host: Host) -> None:
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": host.attack()}))
    contained(built, host, "layer:app")
    judge(out_of(built, "layer-*.tar.zst", "./var/lib/attack"))


@pytest.mark.parametrize(
    "tool", ["mmdebstrap", pytest.param("debootstrap", marks=pytest.mark.nightly)]
)
def test_hostile_postinst_of_the_base(built: World, host: Host, tool: str) -> None:
    """There the host's own tools run: what leaves their chroot finds a root with nothing in it."""
    built.add(built.deb("villain", "1", priority="required", essential=True,
                        extra={"Pre-Depends": "perl-base"},
                        scripts={"postinst": host.attack()}))  # fmt: skip
    if tool == "debootstrap":
        built.edit("{tool: mmdebstrap, variant: apt}", "{tool: debootstrap, variant: minbase}")
    contained(built, host, "base")
    judge(out_of(built, "base-*.tar.zst", "./var/lib/attack"))


def test_kill_everything_and_a_terminal(built: World, host: Host) -> None:
    """A script that prints its environment and commands for a terminal, then kills all it can."""
    script = r"""
        env | sed 's/^/E: /'
        printf 'E: \033]0;owned\007\033[2J\n'
        cat /dev/.strata/in/* 2> /dev/null | head -n 50
        kill -INT 1; kill -9 1
        kill -9 -1
        exit 9
    """
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": script}))
    built.doit("lock", "spec=web")
    with unchanged(host):
        build = host.doit(built, "layer:app", "spec=web", "lock=frozen", check=False)
    assert build.code == 1
    assert build.err.count("ERROR: ") == 1
    assert "layer app failed (exit status 137)" in build.text
    assert "Traceback" not in build.text
    assert "E: ?]0;owned??[2J" in build.text
    log = (built.root / "out/web/log/layer-app.log").read_text()
    assert "E: PATH=" in log
    for text in (build.text, log):
        assert host.mark not in text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


# ---------------------------------------------------------------- links on the host's side


def test_links_in_a_tree_are_never_followed_on_the_host(
    built: World, host: Host, tmp_path: Path
) -> None:
    """Everything that Strata itself does to a tree from outside, with links in its way."""
    folder = host.canary.parent
    for name in ("x.log", "ssh_host_rsa_key", "apt/history.log", "lists/index", "status", "machine-id",
                 "status-old", "lock", "aux-cache", "boot/kernel", "random-seed"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"host's own {name}\n")
        os.utime(folder / name, (4e9, 4e9))
    built.write("scripts/app.sh", f"""#!/bin/sh
        set -eu
        away() {{ rm -rf "$1"; mkdir -p "$(dirname "$1")"; ln -s "{folder}$2" "$1"; }}
        away /var/log ""
        away /etc/ssh ""
        away /var/cache/apt ""
        away /var/cache/ldconfig ""
        away /var/lib/apt/lists /lists
        away /var/lib/dbus ""
        away /var/lib/systemd ""
        away /var/cache/debconf ""
        away /etc/machine-id /machine-id
        away /root /boot
        away /usr/sbin/policy-rc.d /file
        away /etc/apt/sources.list.d ""
        cp /etc/shadow /etc/other-shadow
        ln -s {folder} /outside; mkdir -p /boot; ln -s {folder} /boot/link
        ln /etc/passwd /boot/hard
    """, 0o755)  # fmt: skip
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + "root_password: hunter2\nhostname: inside\n")
    # Of a script's it would be refused.
    built.add(built.deb("beta", "2", depends="gamma",
                        scripts={"postinst": f"ln -sf {folder}/file /etc/hostname"}))  # fmt: skip
    with unchanged(host):
        built.build()
    for image, member in (("web.img.gz", "etc/machine-id"), ("web-boot.img.gz", "link")):
        raw = tmp_path / "raw.img"
        raw.unlink(missing_ok=True)
        decompress(built.root / "out/web" / image, raw)
        assert b"host's own" not in raw.read_bytes()
        with mounted(raw, tmp_path / image) as root:
            assert os.readlink(root / member) == str(folder) + (
                "/machine-id" if "etc" in member else ""
            )


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        ("rm -rf /boot; ln -s {0}/boot /boot",
         ["images./boot: the tree has no directory /boot"]),
        ("mv /var/lib/dpkg/status /var/lib/dpkg/saved; ln -s {0}/status /var/lib/dpkg/status",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("rm /var/lib/dpkg/status; perl -MPOSIX -e 'mkfifo(\"/var/lib/dpkg/status\", 0644)'",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("rm -rf /var/lib/dpkg; ln -s {0} /var/lib/dpkg",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("printf 'Package: \\033[2J\\377\\nStatus: install ok broken\\n\\n' >> /var/lib/dpkg/status",
         ["layer app: the script specs/scripts/app.sh changed which packages", "?[2J"]),
    ],
    ids=["boot", "status", "fifo", "dpkg", "bytes"],
)  # fmt: skip
def test_links_that_cannot_be_built(
    built: World, host: Host, script: str, parts: list[str]
) -> None:
    folder = host.canary.parent
    for name in ("status", "boot/kernel"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(
            "Package: stolen\nVersion: 1\nStatus: install ok half-installed\n"
        )
    built.write(
        "scripts/app.sh", "#!/bin/sh\nset -e\nmkdir -p /boot\n" + script.format(folder), 0o755
    )
    with unchanged(host):
        build = built.doit("image:/boot", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert "stolen is" not in build.text
    if parts:
        assert build.code == 1, build.text
    text = re.sub(r"\s+", " ", build.text)
    for part in parts:
        assert part in text, build.text
    for image in (built.root / "out/web").glob("*.img.gz"):
        raw = subprocess.run(["gzip", "-dc", image], check=True, capture_output=True).stdout
        assert b"untouched\n" not in raw


def test_vfat_takes_no_file_of_the_host(built: World, host: Host, tmp_path: Path) -> None:
    """A newline in a name must not make a path of what follows it."""
    trap = f"/boot/x\n{host.canary.parent}"
    built.write("scripts/app.sh", f"#!/bin/sh\nset -eu\nmkdir -p '{trap}' '/boot{host.canary.parent}'\necho inside > '{trap}/file'\n"
                "echo kernel > '/boot/a b'\n", 0o755)  # fmt: skip
    built.edit("/boot: {file: web-boot.img.gz, format: ext2}",
               "/boot: {file: boot.img, format: vfat, container: raw}")  # fmt: skip
    with unchanged(host):
        build = built.doit("image:/boot", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert re.search(r"images./boot.format: vfat cannot hold /boot/x\?: ", build.text), build.text


# ---------------------------------------------------------------- archives


def member(name: str, content: str = "", *, link: str = "", kind: bytes = b"", mode: int = 0o644,
           device: tuple[int, int] = (0, 0)) -> tuple[tarfile.TarInfo, bytes]:  # fmt: skip
    """One member of a tar, under exactly this name."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.size = 1_700_000_000, mode, len(content)
    info.type = kind or (tarfile.SYMTYPE if link else tarfile.REGTYPE)
    info.linkname = link
    info.devmajor, info.devminor = device
    return info, content.encode()


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def raw_deb(
    folder: Path, name: str, version: str, data: Sequence[tuple[tarfile.TarInfo, bytes]],
    *, control: Sequence[tuple[tarfile.TarInfo, bytes]] = (), date: str = "1700000000",
    says: tuple[str, str] | None = None,
) -> Path:  # fmt: skip
    """A .deb as dpkg-deb would never make it; `says` is what its control has for name and version."""
    package, number = says or (name, version)
    text = (f"Package: {package}\nVersion: {number}\nArchitecture: all\nMaintainer: x <x@x.invalid>\n"
            "Depends: gamma\nDescription: x\n")  # fmt: skip
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(tar_of([member("./control", text), *control]), mtime=0),
        "data.tar.gz": gzip.compress(tar_of(data), mtime=0),
    }
    ar = b"!<arch>\n"
    for part, content in parts.items():
        ar += f"{part:<16}{date:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        ar += content + b"\n" * (len(content) % 2)
    path = folder / f"{name}_{version}_all.deb"
    path.write_bytes(ar)
    info = path.stat()
    # What the index says, whatever the file does: dpkg-deb might not read it.
    claim = text.replace(f"Package: {package}\nVersion: {number}",
                         f"Package: {name}\nVersion: {version}")  # fmt: skip
    _stanzas[info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size] = _Stanza(
        package=name, version=version, arch="all",
        text=f"{claim}Size: {info.st_size}\nSHA256: {hashlib.sha256(ar).hexdigest()}\n",
    )  # fmt: skip
    return path


def tricks(canary: Path) -> dict[str, list[tuple[tarfile.TarInfo, bytes]]]:
    """Members that aim out of the folder in which they are unpacked."""
    folder = canary.parent
    up = "../" * 12
    return {
        "dotdot": [member(f"./{up}{str(folder)[1:]}/new", "x")],
        "absolute": [member(f"/{folder}/new", "x"), member(str(canary), "x")],
        "link then file": [member("./way", link=str(folder)), member("./way/new", "x"),
                           member("./way/file", "x")],
        "dotdot link": [member("./way", link=f"{up}{str(folder)[1:]}"), member("./way/new", "x")],
        "hard link": [member("./hard", link=str(canary), kind=tarfile.LNKTYPE), member("./hard", "x")],
        "hard dotdot": [member("./hard", link=f"{up}{str(canary)[1:]}", kind=tarfile.LNKTYPE),
                        member("./hard", "x")],
        "hard through link": [member("./way", link=str(folder)),
                              member("./hard", link="./way/file", kind=tarfile.LNKTYPE),
                              member("./hard", "x")],
        "link to /proc": [member("./way", link="/proc/1/root"), member(f"./way{folder}/new", "x")],
        "folder over link": [member("./way", link=str(folder)),
                             member("./way", kind=tarfile.DIRTYPE, mode=0o777), member("./way/new", "x")],
    }  # fmt: skip


TRICKS = tuple(tricks(Path("/a/b")))


@pytest.mark.parametrize("trick", TRICKS)
def test_tarball_that_aims_out_of_its_folder(host: Host, tmp_path: Path, trick: str) -> None:
    """A layer tarball is unpacked on the host: even with its digest right, none of it gets out."""
    content = tar_of([member("./.", kind=tarfile.DIRTYPE, mode=0o755), *tricks(host.canary)[trick]])
    path = tmp_path / "layer.tar.zst"
    path.write_bytes(
        subprocess.run(["zstd", "-c"], input=content, check=True, capture_output=True).stdout
    )
    with unchanged(host), contextlib.suppress(BuildError):
        tarball.unpack(
            path, hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "to", Log(None)
        )
    with pytest.raises(DamagedEntry):
        tarball.unpack(path, "0" * 64, tmp_path / "other", Log(None))
    TALLY["hostile attempts"] += 1


EVIL_CONTROL = [member("./../../../evil", "x"), member("/tmp/../evil", "x"),
                member("./postinst", link="/etc/shadow")]  # fmt: skip


@pytest.mark.parametrize("trick", ["dotdot", "link then file", "hard link", "control"])
def test_deb_that_aims_out_of_the_tree(built: World, host: Host, trick: str) -> None:
    """dpkg unpacks it where / is the tree: it may fail or not, but nothing gets out."""
    members, control = (
        tricks(host.canary).get(trick, []),
        EVIL_CONTROL if trick == "control" else [],
    )
    built.add(raw_deb(built.debs, "beta", "2", members, control=control))
    with unchanged(host):
        build = built.doit("layer:app", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert build.code == 1
    assert build.err.count("ERROR: ") == 1
    TALLY["hostile attempts"] += 1
    # Links on the way are followed, but within the tree, where there is no such folder.
    assert "layer app failed (exit status 100)" in build.text or trick == "control", build.text


@pytest.mark.parametrize("trick", [
    "dotdot", pytest.param("link then file", marks=pytest.mark.nightly), "control",
])  # fmt: skip
def test_deb_of_a_base_that_aims_out_of_the_tree(world: World, host: Host, trick: str) -> None:
    """The host's own dpkg-deb and tar unpack it, before there is any chroot."""
    members, control = (
        tricks(host.canary).get(trick, []),
        EVIL_CONTROL if trick == "control" else [],
    )
    world.add(raw_deb(world.debs, "epsilon", "2", members, control=control))
    text = (world.root / "specs/web.yaml").read_text().partition("packages:")[0]
    base = "{tool: mmdebstrap, variant: extract, include: [epsilon]}"
    world.write("evil.yaml", text.replace("{tool: mmdebstrap, variant: apt}", base)
                + "images:\n  /: {file: v.img, format: ext4}\n")  # fmt: skip
    with unchanged(host):
        build = world.doit("base", "spec=evil", check=False)
    assert "Traceback" not in build.text
    TALLY["hostile attempts"] += 1
    # The variant extract looks at no control archive.
    assert build.code == (0 if trick == "control" else 1)
    assert build.err.count("ERROR: ") == build.code
    assert "mmdebstrap of the base failed" in build.text or trick == "control", build.text


@pytest.mark.parametrize("name", ["tmp", "run", "sys"])
@pytest.mark.parametrize("to", ["folder", "file", "nothing"])
def test_top_folder_that_became_a_link(host: Host, tmp_path: Path, name: str, to: str) -> None:
    """The base's /tmp gets mode 1777 from outside: through a link that would be the host's."""
    target = {"folder": host.canary.parent, "file": host.canary, "nothing": tmp_path / "none"}[to]
    (tmp_path / name).symlink_to(target)
    with unchanged(host), pytest.raises(BuildError, match=f"base: /{name} is no folder"):
        base._folder(tmp_path / name)


def test_deb_that_is_another_than_the_index_says(built: World, host: Host) -> None:
    for says in (("beta", "3"), ("delta", "2"), ("base-files", "99")):
        built.repository.remove("beta")
        built.add(raw_deb(built.debs, "beta", "2", [member("./x", "x")], says=says))
        with unchanged(host):
            build = built.doit("layer:app", "spec=web", check=False)
        assert build.code == 1
        assert build.err.count("ERROR: ") == 1
        assert "Traceback" not in build.text
        assert "beta" in build.err


def test_deb_of_odd_dates_devices_and_modes(built: World, host: Host) -> None:
    """Such are a .deb's to have: its date is clamped, its nodes and setuid programs are packed."""
    members = [
        member("./opt", kind=tarfile.DIRTYPE, mode=0o755),
        member("./opt/program", "#!/bin/sh\n", mode=0o4755),
        member("./opt/null", kind=tarfile.CHRTYPE, device=(1, 3)),
        member("./opt/disk", kind=tarfile.BLKTYPE, device=(7, 0)),
        member("./opt/fifo", kind=tarfile.FIFOTYPE),
        member("./opt/large", "\0" * 50_000_000),
    ]
    built.add(raw_deb(built.debs, "beta", "2", members, date="999999999999"))
    with unchanged(host):
        built.doit("layer:app", "spec=web")
    path = max(
        (built.root / "cache/layers").glob("layer-*.zst"), key=lambda one: one.stat().st_mtime_ns
    )
    listed = subprocess.run(["tar", "--list", "--verbose", "--numeric-owner", "--file", path],
                            check=True, capture_output=True, text=True).stdout  # fmt: skip
    for pattern in (r"^-rwsr-xr-x 0/0 .*/opt/program$", r"^crw-r--r-- 0/0 +1,3 .*/opt/null$",
                    r"^brw-r--r-- 0/0 +7,0 .*/opt/disk$", r"^prw-r--r-- .*/opt/fifo$"):  # fmt: skip
        assert re.search(pattern, listed, re.M), listed
    record = max(
        (built.root / "cache/layers").glob("layer-*.json"), key=lambda one: one.stat().st_mtime_ns
    )
    assert '"epoch": 4102444800' in record.read_text()


def test_tree_that_is_deeper_than_a_path_may_be_long(built: World) -> None:
    """It ends its own build, and no later one: what is left of it can be removed."""
    script = "#!/bin/sh\nset -e\nmkdir -p /boot /srv/deep && cd /srv/deep\n"
    script += """perl -e 'for (1 .. 1500) { mkdir "abcdef"; chdir "abcdef" or die }'\n"""
    built.write("scripts/app.sh", script, 0o755)
    said = built.refused("layer app", "a path is longer than Linux takes")
    assert "Traceback" not in said
    built.write("scripts/app.sh", "#!/bin/sh\nmkdir -p /boot; echo fine > /boot/kernel\n", 0o755)
    assert built.build()["app"] == "built"
