"""Lock files in folders that others may write to: opened through no link, and looked at first."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path

from ..errors import BuildError
from .safe import PLAIN, at


def open_lock(path: Path, *, make: bool = True) -> int:
    """Open a file or folder to lock it, which several users may do: writing is needed on NFS alone.

    A file must be regular, have one name, and belong to somebody who may write to its folder:
    BuildError for anything else. It is made, for all to open, only with `make`.
    """
    with at(path, make=make) as here:
        while True:
            descriptor = _open_lock(here, path, make)
            if descriptor is None:
                continue
            try:
                info = os.fstat(descriptor)
                fault = _fault(info, here.parent.stat())
                # A copy of the cache made of links (cp -al) has the other's locks.
                parted = fault == _SEVERAL and make and _parted(descriptor, here)
            except BaseException:
                os.close(descriptor)
                raise
            if not fault:
                return descriptor
            os.close(descriptor)
            if not parted:
                raise BuildError(f"{path}: {fault}, so it is not used as a lock", "remove it")


def _open_lock(here: Path, path: Path, make: bool) -> int | None:
    """A descriptor of whatever is there but a link; None to try again."""
    try:
        mode = here.lstat().st_mode
    except FileNotFoundError:
        if not make:
            raise
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN
            descriptor = os.open(here, flags, 0o666)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise _no_lock(path) from error
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, 0o666)  # whatever the umask: it is new, and ours
        return descriptor
    try:
        if stat.S_ISDIR(mode):
            return os.open(here, os.O_RDONLY | os.O_DIRECTORY | PLAIN)
        try:
            return os.open(here, os.O_RDWR | PLAIN)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        try:
            return os.open(here, os.O_RDONLY | PLAIN)
        except PermissionError as error:
            raise _no_lock(path) from error
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BuildError(
                f"{path}: it is a link, so it is not used as a lock", "remove it"
            ) from error
        raise


def _no_lock(path: Path) -> BuildError:
    return BuildError(
        f"{path}: this user may neither make nor read this lock",
        "let the owner of the folder run a build first",
    )


_SEVERAL = "it has other names"


def _fault(info: os.stat_result, around: os.stat_result) -> str:
    """Why what was opened in a folder is none of ours, or ""."""
    if stat.S_ISDIR(info.st_mode):
        return ""
    if not stat.S_ISREG(info.st_mode):
        return "it is no file"
    if not _expected(info.st_uid, around):
        return f"it belongs to user {info.st_uid}"
    return _SEVERAL if info.st_nlink > 1 else ""


def _expected(owner: int, around: os.stat_result) -> bool:
    """Whether this user's files are expected in a folder: who may write there made them.

    Where a group may write, the group was chosen to share it; where all may, it was not.
    """
    shared = around.st_mode & 0o020 and not around.st_mode & 0o002
    return bool(shared) or owner in (0, os.geteuid(), around.st_uid)


def _parted(descriptor: int, here: Path) -> bool:
    """Take a lock's name away if the file has others, while holding it: nobody else does then."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.05)
        return True
    try:
        if os.path.samestat(os.fstat(descriptor), here.lstat()):
            here.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def still_there(descriptor: int, path: Path) -> bool:
    """Whether a descriptor is of what now has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
