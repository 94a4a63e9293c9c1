"""A tree without the build's traces: removed, emptied, given fixed times."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ..host import holes
from ..host.files import remove
from .paths import is_folder, mode_of, plain_folder

OVERLAY_OWN = tuple(
    f"trusted.overlay.{name}" for name in ("origin", "impure", "nlink", "upper", "uuid")
)
"""Attributes by which overlayfs finds inodes of this very mount again: they are no content."""


# What a build leaves and an image must not have: traces of the build host and of the time.
REMOVED = (
    "etc/ssh/ssh_host_*", "var/lib/dbus/machine-id", "var/cache/ldconfig/aux-cache",
    "var/log/*.log", "var/log/apt/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/cache/debconf/*-old",
    "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "root/.bash_history",
    "var/lib/dpkg/lock*", "var/lib/apt/daily_lock", "var/cache/apt/archives/lock",
)  # fmt: skip


# Only a bootstrap tool writes these, from the host or for itself.
REMOVED_FROM_BASE = (
    "etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "etc/apt/sources.list.d/*",
    "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/apt.conf.d/*dpkg-options*", "dev/*", "run/*",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "var/lib/dpkg/available",
    "tmp/*", "debootstrap", "var/cache/apt/archives/partial/*",
)  # fmt: skip


TRACES = (
    "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
    "var/log/fontconfig.log", "var/cache/ldconfig/aux-cache",
    "var/log/apt/history.log*", "var/log/apt/term.log*", "var/log/apt/eipp.log*",
    "var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin",
    "var/lib/apt/lists/lock", "var/lib/apt/daily_lock", "var/cache/apt/archives/lock",
    "var/lib/dpkg/status-old", "var/lib/dpkg/available-old", "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend",
    "var/cache/debconf/config.dat-old", "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
)  # fmt: skip
"""What tools note of their own running, also where the user's script ran them: never the user's,
unless `files` name it."""


def sweep(tree: Path, patterns: Sequence[str] = REMOVED, *, kept: Set[str] = frozenset()) -> None:
    """Remove what a build leaves behind, never looking through a symlink; empty the machine-id.

    `kept` are paths, relative to the tree, that stay as they are: what the user made is no trace.
    """
    for pattern in patterns:
        for path in matching_in(tree, pattern):
            name = str(path.relative_to(tree))
            if name in kept or (path.name in ("partial", "auxfiles") and is_folder(path)):
                continue
            _remove(path, name, kept)
    machine_id = tree / "etc/machine-id"
    if "etc/machine-id" in kept:
        return
    # An empty one stays as it is, since its mode may be the user's.
    if (
        plain_folder(tree, "etc")
        and stat.S_ISREG(mode_of(machine_id))
        and machine_id.stat().st_size
    ):
        machine_id.write_bytes(b"")
        machine_id.chmod(0o644)


def matching_in(tree: Path, pattern: str) -> list[Path]:
    """What a pattern means in a tree: no whiteouts, and nothing behind a symlink.

    Without a whiteout the lower layer's file would be seen again.
    """
    folder, _, name = pattern.rpartition("/")
    directory = plain_folder(tree, folder)
    if directory is None:
        return []
    return [path for path in sorted(directory.glob(name)) if not _whiteout(path)]


def _whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _remove(path: Path, name: str, kept: Set[str]) -> None:
    if not is_folder(path):
        path.unlink()
    elif not any(one.startswith(f"{name}/") for one in kept):
        remove(path)
    else:
        for child in list(path.iterdir()):
            if f"{name}/{child.name}" not in kept and not _whiteout(child):
                _remove(child, f"{name}/{child.name}", kept)


def begun(folder: Path) -> int:
    """Now, in ns, by the clock that gives files of this folder their times: it is a coarse one."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class Rare:
    """What few trees have and `pack` must know of."""

    several_xattrs: bool = True
    """Something has more than one extended attribute."""
    sparse: bool = False
    """A file has holes."""
    sockets: tuple[str, ...] = ()
    """Sockets that were in the tree, relative to it: no tar has them."""


def clamp_times(tree: Path, epoch: int, since: int) -> Rare:
    """Give all that is newer than epoch (seconds) that time: the build's own is no content.

    So is what was written since the stage began (`begun`), where the host's clock is behind epoch.
    Directories come after their entries: setting those does not touch them, removing would.
    Holes of files are settled on the way (tasks.holes), and sockets removed: the tarball has none,
    so this tree, as what lies below the next one, may not show them either.
    """
    limit = epoch * 1_000_000_000
    until = time.time_ns()

    def own(mtime: int) -> bool:
        return mtime > limit or since <= mtime <= until

    several = sparse = False
    sockets = []
    stack = [os.fspath(tree)]
    while stack:
        folder = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    stack.append(entry.path)
                elif stat.S_ISREG(info.st_mode) and holes.sparse(info):
                    sparse = holes.settle(entry.path, info) or sparse
                    os.utime(entry.path, ns=(info.st_mtime_ns, info.st_mtime_ns))
                elif stat.S_ISSOCK(info.st_mode):
                    sockets.append(entry.path)
                    continue
                if own(info.st_mtime_ns):
                    os.utime(entry.path, ns=(limit, limit), follow_symlinks=False)
                several = several or has_several(entry.path)
    if own(os.stat(tree).st_mtime_ns):
        os.utime(tree, ns=(limit, limit))
    for path in sockets:
        folder = os.path.dirname(path)
        time_ns = os.stat(folder).st_mtime_ns
        os.unlink(path)
        os.utime(folder, ns=(time_ns, time_ns))
    names = tuple(sorted(os.path.relpath(path, tree) for path in sockets))
    several = several or has_several(os.fspath(tree))
    return Rare(several_xattrs=several, sparse=sparse, sockets=names)


def has_several(path: str) -> bool:
    """Whether something has more than one extended attribute that is content."""
    names = os.listxattr(path, follow_symlinks=False)
    return len(names) > 1 and len(set(names).difference(OVERLAY_OWN)) > 1
