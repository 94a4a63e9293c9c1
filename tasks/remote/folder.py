"""A shared cache in a folder: NFS, a removable disk, what a web server serves.

    ac/<key, 64 digits>     records           cas/<sha256>     files

Others may write there: no link is followed in it, and a name appears when its file is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import BuildError
from ..host import cachedir, safe, strict
from ..host.files import OWN_TEMPORARY, sweep_temporary, written
from ..host.process import check_signal
from . import names
from .backend import (
    BLOCK,
    RECORD_LIMIT,
    Backend,
    Blob,
    Meter,
    Missing,
    RemoteFault,
    Unusable,
    fault_of,
)

OWN = ("ac", "cas")
"""Its own folders."""

STALE = 86400.0
"""Seconds after which what a killed upload left goes: other hosts' locks NFS may not tell."""

ABSENT = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, safe.NOT_REGULAR)
"""What stands in a file's place is none of ours."""


class Folder(Backend):
    """`file:///srv/strata`."""

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        safe.anchor(path)
        self.shown = f"file://{path}"
        self.patience = patience
        self._lock = threading.Lock()
        self._swept = False

    def record(self, name: str) -> bytes | None:
        with self._told():
            path = self.path / names.record(name)
            try:
                with open(safe.reading(path), "rb") as file:
                    found = file.read(RECORD_LIMIT + 1)
            except PermissionError as error:
                raise _unreadable(path) from error
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                return None
            _used(path)
            return found

    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        with self._told():
            self._sweep_once()
            path = self.path / names.record(name)
            try:
                with written(path, fresh=not replace) as temporary:
                    temporary.write_bytes(data)
            except FileExistsError:
                return False
            except PermissionError:
                # Another user's, in a folder with the sticky bit: it stays, and others can be sent.
                if not (replace and os.path.lexists(path) and os.access(path.parent, os.W_OK)):
                    raise
                return False
            return True

    def size(self, sha256: str) -> int | None:
        with self._told():
            path = self.path / names.file(sha256)
            if self.writing:
                _used(path)  # whoever finds it here sends none: `prune` must not take it now
            try:
                with safe.at(path) as here:  # which one may know of a file that one may not read
                    info = here.lstat()
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                return None
            return info.st_size if stat.S_ISREG(info.st_mode) else None

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        meter = Meter(self.patience)
        with self._told():
            path = self.path / names.file(sha256)
            try:
                descriptor = safe.reading(path)
            except PermissionError as error:
                raise _unreadable(path) from error
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                raise Missing(f"no file {sha256}") from error
            _used(path)
            with open(descriptor, "rb") as file:
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block
                    meter.moved(len(block))

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        with self._told():
            self._sweep_once()
            mode = 0o640 if blob.private else 0o644
            with (
                written(self.path / names.file(blob.sha256), mode=mode) as temporary,
                temporary.open("wb") as target,
            ):
                while block := source.read(BLOCK):
                    check_signal()
                    target.write(block)

    # ------------------------------------------------------------ upkeep

    def foreign(self) -> list[str]:
        """What is in the folder and, by its name, not Strata's."""
        found = []
        with self._told():
            for name in sorted(os.listdir(self.path)):
                if name not in (*OWN, cachedir.NAME) and not cachedir.neutral(name):
                    found.append(name)
            for folder in OWN:
                found += [
                    f"{folder}/{name}"
                    for name in self._names(folder)
                    if not ours(name) and not OWN_TEMPORARY.fullmatch(name)
                ]
        return found

    def sweep(self) -> None:
        """Remove what killed uploads left, where the filesystem wants a name for what is begun."""
        for name in OWN:
            with contextlib.suppress(OSError):
                sweep_temporary(self.path / name, age=STALE)

    def _sweep_once(self) -> None:
        with self._lock:
            if not self._swept:
                self._swept = True
                self.sweep()

    def claim(self) -> bool:
        """Whether Strata may remove from it: see host/cachedir.py."""
        return cachedir.claim(self.path, [self.path / name for name in self.foreign()])

    def groups(self) -> list[list[Path]]:
        """Each record with its file, and each file that no record names; longest unused first.

        A file that two records name goes with the one that was used last. Used is what `_used` has
        noted: atime would tell of those who only look, as this does.
        """
        owner: dict[str, str] = {}
        records = {path: used for path in self._paths("ac") if (used := since(path)) is not None}
        for path in sorted(records, key=records.__getitem__):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                owner[str(strict.read(path, paths=True)["file"]["sha256"])] = path.name
        found = {path.name: [path] for path in records}
        last = {path.name: used for path, used in records.items()}
        for path in self._paths("cas"):
            if (used := since(path)) is not None:
                name = owner.get(path.name, path.name)
                found.setdefault(name, []).append(path)
                last[name] = max(used, last.get(name, used))
        return [found[name] for name in sorted(found, key=last.__getitem__)]

    def _names(self, folder: str) -> list[str]:
        try:
            with safe.folder(self.path / folder) as opened:
                return sorted(os.listdir(opened))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _paths(self, folder: str) -> list[Path]:
        return [self.path / folder / name for name in self._names(folder) if ours(name)]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the folder refuses is this cache's fault, not the build's."""
        check_signal()
        try:
            if not self.path.is_dir():
                if not self.writing:
                    raise RemoteFault("there is no such folder")
                self.path.mkdir(exist_ok=True)
                cachedir.claim(self.path, [])
            yield
        except OSError as error:
            raise RemoteFault(error.strerror or str(error)) from error
        except BuildError as error:
            raise fault_of(error) from error


def ours(name: str) -> bool:
    """Whether a record or a file may be called so; all else in their folders is somebody else's."""
    return bool(re.fullmatch(r"[0-9a-f]{64}", name))


def since(path: Path) -> float | None:
    """When a record or file was used last, in seconds since 1970; None if it has gone meanwhile."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None


def _unreadable(path: Path) -> Exception:
    """What to raise for a file that this user may not read: the cache may have others.

    Where its folder cannot be entered, that is raised instead, as the PermissionError that it is.
    """
    with safe.folder(path.parent) as here:
        os.stat(f"{here}/.")
    return Unusable("this user may not read it")


def _used(path: Path) -> None:
    """Note that something is used, for `prune`, where the filesystem keeps no atime."""
    with contextlib.suppress(OSError), safe.at(path) as here:
        os.utime(here, follow_symlinks=False)
