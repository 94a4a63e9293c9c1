"""Files that appear whole or not at all, digests of them, and removing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import BuildError
from . import safe, space
from .lockfiles import open_lock, still_there
from .locks import flocked
from .tools import ENV


def read_sha256(path: Path) -> str:
    """SHA-256 of a regular file, read now, and through no link: others may write there."""
    return digest_of(open(safe.reading(path), "rb"))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file of the user's or of this host's: a link to it will do."""
    return digest_of(path.open("rb"))


def digest_of(opened: BinaryIO, algorithm: str = "sha256") -> str:
    """The digest of an open file's content, which is closed then."""
    digest = hashlib.new(algorithm)
    with opened as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; a missing one is fine.

    A folder goes whatever modes those in it have. rmtree alone would open a FIFO, and wait.
    """
    with contextlib.suppress(FileNotFoundError), safe.at(path) as here:
        if stat.S_ISDIR(here.lstat().st_mode):
            _remove_tree(here)
        else:
            here.unlink()


def _remove_tree(here: Path) -> None:
    # Once more for what the last processes of a sandbox that was killed still write meanwhile.
    for pause in (0, 0.02, 0.1, 0.5):
        time.sleep(pause)
        with contextlib.suppress(RecursionError):
            shutil.rmtree(here, ignore_errors=True)
        if not os.path.lexists(here):
            return
    # Deeper than Python's stack, or than a path may be long: some package's script did that.
    subprocess.run(["rm", "-rf", "--", here], env=ENV, stderr=subprocess.DEVNULL, check=False)


TEMPORARY = ".strata-*.tmp"
"""How files are called that SIGKILL may leave, where it must leave one at all."""


OWN_TEMPORARY = re.compile(r"\.strata-[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def written(
    path: Path, *, mode: int = 0o644, sync: bool = True, fresh: bool = False
) -> Iterator[Path]:
    """A path to write to, for commands too; what it holds is the file `path` in the end.

    Until then it has no name (O_TMPFILE), so that SIGKILL leaves nothing; on a filesystem that
    cannot, a temporary one, locked while we live, that `sweep` removes later. `sync` makes it last.
    `fresh`: FileExistsError where there is one of this name already, which stays.
    """
    with safe.at(path, make=True) as target:
        name = target.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o600)
            opened = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                error.filename = str(path)
                raise
            descriptor = _begun(name, flags)
            opened = name
        try:
            with space.placed(path):
                yield opened
                # FAT has no such modes: there the mount's stay, as with all that is on it.
                with contextlib.suppress(PermissionError):
                    os.fchmod(descriptor, mode)
                if sync:
                    os.fsync(descriptor)
            if opened == name and fresh:
                _named_once(name, target)
            elif opened == name:
                name.replace(target)
            elif not _linked(descriptor, target):
                if fresh:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                _linked(descriptor, name)
                name.replace(target)
            if sync:
                sync_folder(target.parent)
        except OSError as error:
            if str(error.filename) == str(opened):
                error.filename = str(path)
            raise
        finally:
            name.unlink(missing_ok=True)
            os.close(descriptor)


def _begun(name: Path, flags: int) -> int:
    """A new file of this name, and locked: whoever sweeps may have come before the lock."""
    while True:
        descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if still_there(descriptor, name):
            return descriptor
        os.close(descriptor)


def _linked(descriptor: int, path: Path) -> bool:
    """Give an unnamed file its name; False if there is a file of this name."""
    try:
        # Any src_dir_fd makes Python call linkat(2), which alone follows the link in /proc.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    except FileExistsError:
        return False
    return True


def _named_once(name: Path, target: Path) -> None:
    """Give a temporary file its name unless that is taken: FileExistsError."""
    try:
        os.link(name, target)
    except FileExistsError:
        # NFS may have done it, lost the answer, and tried again.
        if not os.path.samestat(name.lstat(), target.lstat()):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # FAT, say, has no links: for a moment, what takes the name is empty.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        name.replace(target)


def sweep_temporary(folder: Path, *, age: float = 0) -> list[Path]:
    """Remove the temporary files of a folder whose writers are dead: their locks are free.

    `age`: and nothing was written to them for so many seconds. Other hosts may not see a lock.
    Returns what is called nearly so, or is no file that a build of this folder's users wrote.
    """
    left: list[Path] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), safe.folder(folder) as opened:
        for path in opened.glob(TEMPORARY):
            if not OWN_TEMPORARY.fullmatch(path.name) or not stat.S_ISREG(path.lstat().st_mode):
                left.append(folder / path.name)
                continue
            try:
                descriptor = open_lock(folder / path.name, make=False)
            except FileNotFoundError:
                continue
            except (OSError, BuildError):
                left.append(folder / path.name)
                continue
            try:
                old = age == 0 or time.time() - os.fstat(descriptor).st_mtime > age
                if old and flocked(descriptor, fcntl.LOCK_EX):
                    path.unlink(missing_ok=True)
            except OSError as error:
                # Another user's, and so is the folder; NFS locks nothing that is only read.
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EBADF, errno.ENOLCK):
                    raise
            finally:
                os.close(descriptor)
    return left


def write_text(path: Path, text: str, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace a file's content in one step."""
    with written(path, mode=mode, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_folder(path: Path) -> None:
    """Make a rename in a folder last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
