"""Room on filesystems: asked for before a stage begins, and named when a disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import BuildError, NoRoom

MIB = 1 << 20

_SAYS = re.compile(
    "No space left on device|Disk quota exceeded|enough free space|Wrote only|[Ww]rite error|"
    "short write|"
    # Of a signature that apt had no room to check, which it says in many ways.
    "GPG error: |signature verification failed|"
    # Of what is on a loop device whose file lies on the full disk.
    "Input/output error"
)
"""How commands tell of a full disk, tar and apt without the system's own words."""


HOST_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO,
               errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
               errno.ENXIO)  # fmt: skip
"""What is wrong with the host, not with Strata: a message, and no traceback."""


ADVICE = {
    "cache": "free some room (doit prune), or set STRATA_CACHE to a folder with more",
    "scratch": "free some room, or set STRATA_SCRATCH to a folder with more",
}


WRITABLE = {
    "cache": "make it writable, or set STRATA_CACHE to a folder that is",
    "scratch": "make it writable, or set STRATA_SCRATCH to a folder that is",
    "out": "make it writable: images and logs go there",
    "specs": "make it writable, or make the lock elsewhere and build with lock=frozen",
    ".doit": "make it writable",
}
"""What to do where a folder of a build cannot be written to, though there is room."""


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())


def mount_point(path: Path) -> Path:
    """Where the filesystem is mounted that holds path, or will."""
    path = _existing(path).resolve()
    return next(one for one in (path, *path.parents) if os.path.ismount(one))


def free_bytes(path: Path) -> int:
    """Bytes that a user's process may still write to the filesystem of path, there or not yet."""
    info = os.statvfs(_existing(path))
    return info.f_bavail * info.f_frsize


def _inodes(path: Path) -> int | None:
    """How many inodes are left, if that is so few that a command may have met the end of them.

    What failed has removed its own files by now: of a signature's check these are ten.
    """
    info = os.statvfs(_existing(path))
    few = info.f_files > 0 and info.f_favail < 16  # btrfs and others count none
    return info.f_favail if few else None


def blamed(line: str, places: Mapping[str, Path]) -> list[str]:
    """The names of the folders whose filesystem is full now, if a command's line tells of it."""
    if not _SAYS.search(line):
        return []
    # apt looks before it writes.
    return full_places(places) or (["scratch"] if "enough free space" in line else [])


def full_places(places: Mapping[str, Path]) -> list[str]:
    """The names of those folders whose filesystem has no room now, in bytes or in inodes."""
    return [
        name for name, path in places.items() if free_bytes(path) < MIB or _inodes(path) is not None
    ]


def where(places: Mapping[str, Path], mount: Path) -> str:
    """A filesystem, and which of the folders are on it."""
    here = [f"{name} {path}" for name, path in places.items() if mount_point(path) == mount]
    return f"the filesystem mounted at {mount} ({', '.join(here)})"


def no_room(
    what: str,
    places: Mapping[str, Path],
    full: Sequence[str],
    began: Mapping[str, int] | None = None,
) -> NoRoom:
    """The error of a full disk: `full` names the folders, `began` has what was free in bytes."""
    lines = []
    for mount in dict.fromkeys(mount_point(places[name]) for name in full):
        name = next(name for name in full if mount_point(places[name]) == mount)
        if (left := _inodes(mount)) is not None:
            lines.append(f"{where(places, mount)} has {left or 'no'} inodes left (df -i)")
            continue
        was = f", {began[name] / MIB:.1f} MiB were when it began" if began else ""
        # Full it was: what failed has removed some of it.
        lines.append(
            f"{where(places, mount)} ran full: {free_bytes(mount) / MIB:.1f} MiB are free "
            f"now{was}, and more are needed"
        )
    return NoRoom(f"{what}: {'; '.join(lines)}", ADVICE.get(full[0], "free some room there"))


def need_room(places: Mapping[str, Path], name: str, size: int, what: str) -> None:
    """NoRoom unless the filesystem of the folder `name` has `size` bytes free for `what`."""
    free = free_bytes(places[name])
    if free < size:
        raise NoRoom(
            f"{what} needs {size / MIB:.1f} MiB in {name}: "
            f"{where(places, mount_point(places[name]))} has {free / MIB:.1f} MiB free",
            ADVICE.get(name, "free some room there"),
        )


@contextlib.contextmanager
def placed(path: Path) -> Iterator[None]:
    """Give an OSError of the block this path: write(2) does not say where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not error.filename:
            error.filename = str(path)
        raise


REASONS = {
    errno.EDQUOT: ("the disk quota is used up", ""),
    errno.EROFS: ("the filesystem is read-only", ""),
    errno.EISDIR: ("a folder is in its place", "move it elsewhere, or remove it"),
    errno.ENOTDIR: ("a file is in its folder's place", "move it elsewhere, or remove it"),
    errno.ELOOP: ("a link is in its place, and Strata follows none there", "remove it"),
    errno.ENXIO: ("it is no regular file", "remove it"),
    errno.EIO: ("the disk failed (see dmesg)", ""),
}
"""What the kernel refused, in words, and what to do; no entry: its own words, and whose it is."""


def explained(
    error: OSError, what: str, places: Mapping[str, Path], began: Mapping[str, int] | None = None
) -> BuildError:
    """What the kernel refused, where, and what to do; `began` has what was free in bytes."""
    given = error.filename2 or error.filename
    at = Path(os.fsdecode(given)) if isinstance(given, (str, bytes)) else None
    if error.errno == errno.ENAMETOOLONG:
        return BuildError(
            f"{what}: {str(at)[:200]}...: a path is longer than Linux takes",
            "does some package or script make such folders?",
        )
    names = list(places)
    if at is not None:
        mount = mount_point(at)
        names = [name for name in places if mount_point(places[name]) == mount]
    # The one that holds the path itself is the one to give advice for.
    names.sort(key=lambda name: at is None or places[name] not in (at / "x").absolute().parents)
    if error.errno == errno.ENOSPC and names:
        full = names if at else full_places(places) or ["scratch"]
        return no_room(what, places, full, began)
    place = f"{at}: " if at else ""
    number = error.errno or 0
    if number not in REASONS:
        hint = "is it another user's? sudo, or a checkout or STRATA_CACHE of your own, may help"
        return BuildError(f"{place}{error.strerror}", hint)
    reason, hint = REASONS[number]
    if number == errno.EDQUOT:
        hint = ADVICE.get(names[0], "free some room there") if names else ""
    if number == errno.EROFS and names:
        hint = WRITABLE[names[0]]
    return BuildError(f"{what}: {place}{reason}", hint)
