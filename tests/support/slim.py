"""Real .debs made light: what no test looks at is left out, and all else is as Debian 13 lays it out.

A base of Debian 12's own .debs is 170 MB, most of it documentation, translations and a Perl that
is needed once, to move /bin into /usr: nearly each test packs and unpacks all of it. Here the
files lie in /usr from the start, base-files ships the links (as it does from Debian 13 on), and
`usr-is-merged` takes the place of usrmerge. Programs and maintainer scripts are Debian's own.
The specs that Strata ships are tested with what the host's mirror has, as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of / that are links into /usr."""

UNSEEN = (
    "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/share/doc/*/changelog*", "usr/share/doc/*/NEWS*",
)  # fmt: skip
"""What is left out, as patterns of paths: no maintainer script and no test reads it."""


def slim_debs(cache: Path, debs: Sequence[Path]) -> list[Path]:
    """The light form of each .deb, under the same name in a folder of `cache` that is kept.

    Raises RuntimeError where a package ships one path twice, in / and in /usr.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = cache / f"slim-{recipe}"
    kept.mkdir(parents=True, exist_ok=True)
    with (cache / "slim.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [deb for deb in debs if not (kept / deb.name).exists()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda deb: _repack(deb, kept), missing))
    return [kept / deb.name for deb in debs]


def _repack(deb: Path, kept: Path) -> None:
    tree, built = kept / f".{deb.name}.tree", kept / f".{deb.name}.new"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    for name in MERGED:
        _move(tree / name, tree / "usr" / name)
        if deb.name.startswith("base-files_"):
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
    # Nothing in it is of today: deb(5) has the date of its first member in the ar header.
    date = deb.read_bytes()[24:36].decode().strip()
    # Light to unpack rather than small: it is served from this host.
    subprocess.run(["dpkg-deb", "-Zzstd", "-z1", "--build", tree, built], check=True,
                   env={**os.environ, "SOURCE_DATE_EPOCH": date}, stdout=subprocess.DEVNULL)  # fmt: skip
    shutil.rmtree(tree)
    built.replace(kept / deb.name)


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
