"""Real .debs made light and few: what no test looks at is left out, all else is laid out as in Debian 13.

A base of Debian 12's own .debs is 170 MB, most of it documentation, translations and a Perl that
is needed once, to move /bin into /usr: nearly each test packs and unpacks all of it. Here the
files lie in /usr from the start, base-files ships the links (as it does from Debian 13 on), and
`usr-is-merged` takes the place of usrmerge. Programs and maintainer scripts are Debian's own.

A base has 82 packages, and dpkg takes its time for each of them, not for what is in it. Libraries lie
in libc6 and small tools in coreutils here, which provide the packages that they take in: 16 are left,
those whose maintainer scripts do something and those that debootstrap knows by name.
The specs that Strata ships are tested with what the host's mirror has, as it is.

Where a test wants a tree in which a script runs, and nothing else of it, there is `shell`: one package with a
shell and the few programs that such scripts call, a tenth of a base.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of / that are links into /usr."""

UNSEEN = (
    "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/gcc",
    "usr/share/bash-completion", "usr/share/doc/*/changelog*", "usr/share/doc/*/NEWS*",
    "usr/share/doc/*/README*", "usr/share/doc/bash", "usr/share/doc/mawk/examples",
    *(f"usr/lib/x86_64-linux-gnu/{name}" for name in (
        "gconv", "libdb-5.3.so", "libgnutls.so*", "libhogweed.so*", "libidn2.so*", "libmvec.so*",
        "libnettle.so*", "libp11-kit.so*", "libtasn1.so*", "libunistring.so*",
        "perl-base/unicore/lib", "perl-base/unicore/To/NFKCCF.pl", "security/pam_userdb.so")),
    # What these libraries are for: inside a tree, packages come from a folder.
    *(f"usr/lib/apt/methods/{name}" for name in ("cdrom", "ftp", "http*", "mirror*", "rsh", "ssh")),
    *(f"usr/*bin/{name}" for name in (
        "blkdiscard", "blkzone", "csplit", "dir", "fsck.*", "fsfreeze", "fstrim", "losetup", "ls[bcfi]*", "mkfs.*",
        "mkswap", "numfmt", "partx", "pinky", "ptx", "sfdisk", "swap*", "vdir", "wdctl", "zramctl",
        "addpart", "agetty", "b2sum", "base32", "basenc", "blockdev", "chage", "chcon", "chcpu", "chfn", "chgpasswd",
        "chmem", "choom", "chrt", "chsh", "cksum", "cpgr", "cppw", "ctrlaltdel", "delpart", "diff3", "dircolors",
        "dmesg", "expiry", "factor", "fincore", "fold", "gpasswd", "groupmems", "hardlink", "hwclock", "iconvconfig",
        "infocmp", "ipc*", "isosize", "ldattach", "localedef", "logname", "lslocks", "lslogins", "lsmem", "lsns",
        "namei", "newusers", "paste", "pathchk", "pldd", "readprofile", "resizepart", "rtcwake", "runcon",
        "scriptlive", "scriptreplay", "sdiff", "setterm", "sha224sum", "sha384sum", "shred", "shuf", "stdbuf",
        "sulogin", "tac", "tic", "toe", "tset", "uclampset", "unexpand", "utmpdump", "vigr", "vipw",
        "whereis", "wipefs")),
)  # fmt: skip
"""What is left out, as patterns of paths: no maintainer script and no test reads it."""

APART = {
    "apt", "base-files", "base-passwd", "bash", "coreutils", "dash", "debconf", "debianutils", "dpkg",
    "libc-bin", "libc6", "libpam-runtime", "mawk", "passwd", "perl-base", "usr-is-merged",
}  # fmt: skip
"""Packages that stay packages of their own; the others are taken in."""


LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"

SHELL = (
    *(f"bin/{name}" for name in (
        "cat", "chmod", "chown", "cp", "dash", "env", "find", "grep", "ln", "mkdir", "mv", "readlink", "rm", "rmdir", "sleep",
        "sort", "stat", "tar", "touch")),
    *(f"lib/x86_64-linux-gnu/{name}.so.*" for name in (
        "libc", "libm", "libselinux", "libpcre2-8", "libacl", "libattr")),
    LOADER,
)  # fmt: skip
"""What is in the package `shell`, below usr/, with the links of /lib64 and the like."""


def slim_debs(cache: Path, debs: Sequence[Path]) -> list[Path]:
    """The light forms of .debs, in a folder of `cache` that is kept: one for each of APART, and `shell`.

    Raises RuntimeError where a path is shipped twice, by two of them or in / and in /usr.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = cache / f"slim-{recipe}"
    kept.mkdir(parents=True, exist_ok=True)
    with (cache / "slim.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        homes: dict[str, list[Path]] = {}
        for deb in sorted(debs, key=lambda deb: deb.name):
            homes.setdefault(_home(deb), []).append(deb)
        made = {name: kept / next(deb for deb in group if _name(deb) == name).name
                for name, group in homes.items()}  # fmt: skip
        missing = [name for name, path in made.items() if not path.exists()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda name: _repack(homes[name], made[name]), missing))
        shell = kept / "shell_1_amd64.deb"
        if not shell.exists():
            _make_shell([made[name] for name in ("dash", "coreutils", "libc6")], shell)
    return [*made.values(), shell]


def _make_shell(debs: Sequence[Path], made: Path) -> None:
    tree = made.with_name(f".{made.name}.tree")
    whole = made.with_name(f".{made.name}.whole")
    for folder in (tree, whole):
        shutil.rmtree(folder, ignore_errors=True)
    for deb in debs:
        subprocess.run(["dpkg-deb", "--extract", deb, whole], check=True)
    for pattern in SHELL:
        found = list((whole / "usr").glob(pattern))
        assert found, f"{pattern} is in none of {[deb.name for deb in debs]}"
        for path in found:
            target = tree / path.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    (tree / "usr/bin/sh").symlink_to("dash")
    for name in MERGED:
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "usr/lib64").mkdir()
    (tree / "usr/lib64/ld-linux-x86-64.so.2").symlink_to(f"../{LOADER}")
    for name in ("DEBIAN", "etc", "usr/sbin"):
        (tree / name).mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: shell\nVersion: 1\nArchitecture: amd64\nMaintainer: Strata Test <test@example.invalid>\n"
        "Priority: optional\nSection: misc\nDescription: a shell and what scripts of tests call\n"
    )
    _pack(tree, made, "1700000000")
    shutil.rmtree(whole)


def _pack(tree: Path, made: Path, date: str) -> None:
    built = made.with_name(f".{made.name}.new")
    # Light to unpack rather than small: it is served from this host.
    subprocess.run(["dpkg-deb", "-Zzstd", "-z1", "--build", tree, built], check=True,
                   env={**os.environ, "SOURCE_DATE_EPOCH": date}, stdout=subprocess.DEVNULL)  # fmt: skip
    shutil.rmtree(tree)
    built.replace(made)


def _name(deb: Path) -> str:
    return deb.name.partition("_")[0]


def _home(deb: Path) -> str:
    name = _name(deb)
    if name in APART:
        return name
    return "libc6" if name.startswith("lib") or name in ("gcc-12-base", "zlib1g") else "coreutils"


def _repack(debs: Sequence[Path], made: Path) -> None:
    """One .deb of the first's name that has the files of all; the scripts are its own ones."""
    tree = made.with_name(f".{made.name}.tree")
    shutil.rmtree(tree, ignore_errors=True)
    own = next(deb for deb in debs if deb.name == made.name)
    _extract(own, tree)
    for deb in debs:
        if deb != own:
            other = tree.with_name(f"{tree.name}.other")
            _extract(deb, other)
            _take_in(deb, other, tree)
    _provide(tree / "DEBIAN/control", [deb for deb in debs if deb != own])
    # Nothing in it is of today: deb(5) has the date of its first member in the ar header.
    date = own.read_bytes()[24:36].decode().strip()
    _pack(tree, made, date)


def _extract(deb: Path, tree: Path) -> None:
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    for name in MERGED:
        _move(tree / name, tree / "usr" / name)
        if _name(deb) == "base-files":
            (tree / "usr" / name).mkdir(exist_ok=True)
            (tree / name).symlink_to(f"usr/{name}")
    for pattern in UNSEEN:
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    sums = tree / "DEBIAN/md5sums"
    if sums.exists():
        sums.write_text("".join(
            f"{digest}  {path}\n"
            for digest, path in (
                (line.split(None, 1)[0], _place(line.split(None, 1)[1]))
                for line in sums.read_text().splitlines())
            if os.path.lexists(tree / path)
        ))  # fmt: skip
    for name in ("conffiles", "triggers"):
        assert not any(line.lstrip("/ ").startswith(tuple(f"{one}/" for one in MERGED))
                       for line in _lines(tree / "DEBIAN" / name)), f"{deb.name}: {name}"  # fmt: skip


def _take_in(deb: Path, other: Path, tree: Path) -> None:
    for name in ("conffiles", "md5sums"):
        if lines := _lines(other / "DEBIAN" / name):
            path = tree / "DEBIAN" / name
            path.write_text("".join(f"{line}\n" for line in [*_lines(path), *lines]))
    shutil.rmtree(other / "DEBIAN")
    # Some have a link to another one's there.
    shutil.rmtree(other / "usr/share/doc", ignore_errors=True)
    _move(other, tree)


def _provide(control: Path, debs: Sequence[Path]) -> None:
    """It provides what it took in, and needs no package for that but those which are apart."""
    if not debs:
        return
    provides = ["{Package} (= {Version})".format(**_fields(deb)) for deb in debs]
    provides += [provided for deb in debs if (provided := _fields(deb).get("Provides"))]
    fields = _fields(control)
    inside = {_name(deb) for deb in debs}
    for name in ("Depends", "Pre-Depends"):
        needed = [
            one for one in fields.get(name, "").split(", ") if one.split(" ")[0] not in inside
        ]
        fields[name] = ", ".join(needed)
    fields["Provides"] = ", ".join(filter(None, [fields.get("Provides", ""), *provides]))
    if fields["Package"] == "coreutils":
        # A library may need none of those that need it.
        fields["Pre-Depends"] = "libc6"
        fields["Depends"] = ", ".join(sorted(_apart(debs)))
    control.write_text("".join(f"{name}: {text}\n" for name, text in fields.items() if text))


def _apart(debs: Sequence[Path]) -> set[str]:
    """The packages of their own that some of these need."""
    words = " ".join(
        _fields(deb).get(name, "") for deb in debs for name in ("Depends", "Pre-Depends")
    )
    return set(re.split(r"[\s,|]+", words)) & (APART - {"coreutils", "libc6"})


def _fields(deb: Path) -> dict[str, str]:
    """The control file of a .deb, or itself; a description's further lines are left out."""
    text = deb.read_text() if deb.name == "control" else subprocess.run(
        ["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout  # fmt: skip
    return dict(
        line.split(": ", 1) for line in text.splitlines() if line[:1].strip() and ": " in line
    )


def _place(path: str) -> str:
    return f"usr/{path}" if path.partition("/")[0] in MERGED else path


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _move(source: Path, target: Path) -> None:
    """Merge a folder into another one: what both have must be folders."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        other = target / path.name
        if path.is_dir() and not path.is_symlink() and other.is_dir():
            _move(path, other)
        elif os.path.lexists(other):
            raise RuntimeError(f"{source}: {path.name} is in {target} as well")
        else:
            path.rename(other)
    source.rmdir()
