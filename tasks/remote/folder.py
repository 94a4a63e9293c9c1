"""A shared cache in a folder: NFS, a removable disk, what a web server serves.

    ac/<key, 64 digits>     records           cas/<sha256>     files

Others may write there: no link is followed in it, and a name appears when its file is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import BuildError
from ..host import safe
from ..host.files import written
from . import names
from .backend import BLOCK, RECORD_LIMIT, Backend, Blob, Meter, Missing, RemoteFault

ABSENT = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, safe.NOT_REGULAR)
"""What stands in a file's place is none of ours."""


class Folder(Backend):
    """`file:///srv/strata`."""

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        safe.anchor(path)
        self.shown = f"file://{path}"
        self.patience = patience

    def record(self, name: str) -> bytes | None:
        with self._told():
            path = self.path / names.record(name)
            try:
                with open(safe.reading(path), "rb") as file:
                    found = file.read(RECORD_LIMIT + 1)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                return None
            # So that `prune` knows what is used, where atime is not kept.
            with contextlib.suppress(OSError), safe.at(path) as here:
                os.utime(here, follow_symlinks=False)
            return found

    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        with self._told():
            path = self.path / names.record(name)
            try:
                with written(path, fresh=not replace) as temporary:
                    temporary.write_bytes(data)
            except FileExistsError:
                return False
            return True

    def size(self, sha256: str) -> int | None:
        with self._told():
            try:
                descriptor = safe.reading(self.path / names.file(sha256))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                return None
            with open(descriptor, "rb") as file:
                return os.fstat(file.fileno()).st_size

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        meter = Meter(self.patience)
        with self._told():
            try:
                descriptor = safe.reading(self.path / names.file(sha256))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                raise Missing(f"no file {sha256}") from error
            with open(descriptor, "rb") as file:
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block
                    meter.moved(len(block))

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        with self._told():
            mode = 0o640 if blob.private else 0o644
            with (
                written(self.path / names.file(blob.sha256), mode=mode) as temporary,
                temporary.open("wb") as target,
            ):
                while block := source.read(BLOCK):
                    target.write(block)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the folder refuses is this cache's fault, not the build's."""
        try:
            if not self.path.is_dir():
                if not self.writing:
                    raise RemoteFault("there is no such folder")
                self.path.mkdir(exist_ok=True)
            yield
        except OSError as error:
            raise RemoteFault(error.strerror or str(error)) from error
        except BuildError as error:
            raise RemoteFault(error.message) from error
