"""The one way to open, make and remove what lies in folders that somebody else may write to.

The builder is root. Whoever may write to a shared cache or to scratch's folder, and whoever made
the commit that was checked out, may have put a link where Strata writes, or in the place of a
folder on the way. So each step from a folder that the user named (an *anchor*: the checkout,
STRATA_CACHE, STRATA_SCRATCH, a shared cache) down to a file is opened without following links, what
is opened there is looked at before it is believed, and only what a call made itself gets a mode
from it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import BuildError

ANCHORS = ("STRATA_CACHE", "STRATA_SCRATCH")
"""Variables that name a folder; links on the way to it are the user's own, those below are not."""


_FURTHER: set[str] = set()
"""Folders that the user named in another way: see `anchor`."""


NOT_REGULAR = errno.ENXIO
"""What opening a FIFO, socket or device for reading gives here."""


NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM)
"""Why a file can have no further name here: another filesystem, too many, or none can have two."""


_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""For open(2): a FIFO must not hold us up, nor a terminal become ours."""


def anchor(path: Path) -> None:
    """Let a folder be one that the user named: links on the way to it are theirs."""
    _FURTHER.add(os.path.abspath(path))


def _anchored(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The anchor that a folder lies below, and the steps from there; itself if there is none."""
    path = Path(os.path.abspath(path))
    given = [*(os.environ[name] for name in ANCHORS if os.environ.get(name)), *_FURTHER]
    names = [*map(os.path.abspath, [".", *given]), *map(os.path.realpath, given)]
    found = [one for one in map(Path, names) if one == path or one in path.parents]
    anchor = max(found, key=lambda one: len(one.parts), default=path)
    return anchor, path.relative_to(anchor).parts


@contextlib.contextmanager
def folder(path: Path, *, make: bool = False) -> Iterator[Path]:
    """A folder by a descriptor of it: a path that leads there whatever is put in its place.

    It is one for other processes, too, as long as the block runs. With `make` what is missing is
    made. OSError of the step that is a link (ELOOP), no folder (ENOTDIR) or missing (ENOENT).
    """
    anchor, steps = _anchored(path)
    if make:
        _make_anchor(anchor)
    try:
        descriptor = os.open(anchor, _STEP & ~os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        # A link to itself leads nowhere, as one to a disk that is not mounted: nothing is there.
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    try:
        here = anchor
        for step in steps:
            here = here / step
            # In this order: a signal that comes between the two has none closed twice, which by
            # then may be another one's number.
            outer, descriptor = descriptor, _step(descriptor, step, here, make)
            os.close(outer)
        opened = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        with _named(opened, path):
            yield opened
    finally:
        os.close(descriptor)


def _make_anchor(anchor: Path) -> None:
    try:
        anchor.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_anchor(anchor, error) from error


def _no_anchor(anchor: Path, error: OSError) -> Exception:
    """What to raise where a folder that the user named cannot be made: links to it are followed."""
    variables = [
        name
        for name in ANCHORS
        if (given := os.environ.get(name))
        and str(anchor) in (os.path.abspath(given), os.path.realpath(given))
    ]
    elsewhere = f"name another folder with {' and '.join(variables) or 'another path'}"
    for one in (*reversed(anchor.parents), anchor):
        try:
            one.stat()
        except OSError as fault:
            if fault.errno == errno.ELOOP:
                return BuildError(
                    f"{one}: it is a link that leads back to itself, to no folder",
                    f"remove it, or {elsewhere}",
                )
            if fault.errno == errno.ENOENT and one.is_symlink():
                return BuildError(
                    f"{one}: it is a link to {os.readlink(one)}, and nothing is there",
                    f"mount the disk that it is on, or make that folder, or {elsewhere}",
                )
            break
    if error.errno == errno.ENOENT:  # as /proc says, where nobody makes folders
        return BuildError(f"{anchor}: no such folder can be made there", elsewhere)
    if isinstance(error, FileExistsError):
        return NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(anchor))
    return error


def _step(descriptor: int, name: str, path: Path, make: bool) -> int:
    for attempt in (0, 1):
        try:
            return os.open(name, _STEP, dir_fd=descriptor)
        except OSError as error:
            if error.errno == errno.ENOENT and make and not attempt:
                with contextlib.suppress(FileExistsError), _named(Path(name), path):
                    os.mkdir(name, dir_fd=descriptor)
                continue
            number = error.errno
        if number in (errno.ENOTDIR, errno.ELOOP):
            with contextlib.suppress(OSError):
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                number = errno.ELOOP if stat.S_ISLNK(mode) else errno.ENOTDIR
        raise OSError(number, os.strerror(number or 0), str(path))
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextlib.contextmanager
def _named(opened: Path, path: Path) -> Iterator[None]:
    """Give OSErrors of the block the names that a user knows."""
    try:
        yield
    except OSError as error:
        for field in ("filename", "filename2"):
            name = getattr(error, field)
            if isinstance(name, bytes):
                name = os.fsdecode(name)
            if name == str(opened):
                setattr(error, field, str(path))
            elif isinstance(name, str) and name.startswith(f"{opened}/"):
                setattr(error, field, str(path / name[len(str(opened)) + 1 :]))
        raise


@contextlib.contextmanager
def at(path: Path, *, make: bool = False) -> Iterator[Path]:
    """A file or folder by a descriptor of the folder that it is in: see `folder`."""
    with folder(path.parent, make=make) as opened:
        yield opened / path.name


# ---------------------------------------------------------------- opening


def reading(path: Path) -> int:
    """A descriptor to read a regular file with; OSError for a link or what else is in its place."""
    with at(path) as here:
        return _regular(here, PLAIN, path)


def named(path: Path) -> int:
    """The same for a file that the user names, perhaps by a link of theirs.

    A FIFO would be waited for, and /dev/zero, to which a commit may have a link, read for ever.
    """
    return _regular(path, PLAIN & ~os.O_NOFOLLOW, path)


def inside(path: Path, root: Path) -> int:
    """The same for a file that must be below a folder: links are followed no further than that.

    A commit may bring a link, or name a path, that leads to what root alone may read.
    """
    descriptor = named(path)
    there = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    if there.is_relative_to(root.resolve()):
        return descriptor
    os.close(descriptor)
    raise OSError(NOT_REGULAR, f"it is outside the project, at {there}", str(path))


def _regular(place: Path, flags: int, path: Path) -> int:
    irregular = OSError(NOT_REGULAR, "it is no regular file", str(path))
    try:
        descriptor = os.open(place, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise irregular from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise irregular


def read_bytes(path: Path, limit: int) -> bytes:
    """A small regular file's content; EFBIG for one that has more than `limit` bytes."""
    with open(reading(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # It may grow while it is read, and of /proc's the size is not known before.
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def creating(path: Path, *, mode: int = 0o644) -> int:
    """A descriptor to write a new file with; what was in its place loses that name, and no more."""
    with at(path, make=True) as here:
        while True:
            try:
                return os.open(here, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, mode)
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    here.unlink()


def note(path: Path) -> None:
    """Make an empty file by whose name something is remembered: see `noted`."""
    os.close(creating(path, mode=0o400))


def noted(path: Path) -> bool:
    """Whether `note` made this file, here: a commit can bring one of the name, but none like it.

    git knows two modes, and with both a file's owner may write to it.
    """
    try:
        with at(path) as here:
            info = here.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and not info.st_mode & 0o222 and info.st_uid in _trusted()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; a copy of it only where the filesystem can do no such thing.

    What is there already is never written to: FileExistsError.
    """
    try:
        os.link(source, target, follow_symlinks=False)
        return
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
    with open(reading(source), "rb") as file:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        with open(os.open(target, flags, 0o644), "wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)


# ---------------------------------------------------------------- scratch


def private(path: Path) -> Path:
    """Make a folder for this user alone, or see that it is one; its path without any links.

    BuildError if it is somebody else's, or if somebody else may give its name to another.
    """
    with at(path, make=True) as here:
        with contextlib.suppress(FileExistsError):
            here.mkdir(mode=0o700)
        info = here.lstat()
    root = path.parent.resolve()
    for one in (root, *root.parents):
        mode = one.stat().st_mode
        if mode & 0o002 and not mode & stat.S_ISVTX:
            raise BuildError(
                f"{one}: everybody may rename what is in this folder, so scratch is not safe there",
                f"chmod +t {one}, or set STRATA_SCRATCH to another folder",
            )
    # Who could move the checkout away could give root other code to run.
    trusted = _trusted() | {one.stat().st_uid for one in Path.cwd().parents}
    for one in (root, *root.parents):
        # The sticky bit does not hold a folder's own owner back.
        if (owner := one.stat().st_uid) not in trusted:
            raise BuildError(
                f"{one}: this folder for scratch is user {owner}'s, who may rename what is in it",
                "set STRATA_SCRATCH to a folder of your own",
            )
    path = root / path.name
    if stat.S_ISLNK(info.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise BuildError(
            f"{path}: expected a folder of user {os.geteuid()} with mode 0700, and it is user "
            f"{info.st_uid}'s with mode {stat.S_IMODE(info.st_mode):04o}: nothing in it is used",
            "remove it, or set STRATA_SCRATCH to another folder",
        )
    return path


def _trusted() -> set[int]:
    """Root, this user, and whose checkout this is: its code is what runs here."""
    found = {0, os.geteuid(), os.stat(".").st_uid}
    with contextlib.suppress(OSError):
        # In a user namespace, what belongs to nobody of it may be the host's root's.
        if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
            found.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return found


def mine(path: Path) -> bool:
    """Whether a folder, there or not yet, is one to which only trusted users may write."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    try:
        info = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return False  # a link that leads nowhere
        raise
    return info.st_uid in _trusted() and not info.st_mode & 0o022
