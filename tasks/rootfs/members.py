"""What a tree's tarball has, one after the other, as overlayfs takes it; nothing is unpacked."""

from __future__ import annotations

import functools
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from ..formats.footprint import whole_blocks
from ..host import safe
from ..host.process import PIPE, popen, running
from .dpkg import STATUS_LIMIT

ATTRIBUTE = "SCHILY.xattr."
"""Before the name of an extended attribute in a tarball (star's, which GNU tar took over)."""

OVERLAY = f"{ATTRIBUTE}trusted.overlay."
"""Of those that say how trees lie on each other (Linux, Documentation/filesystems/overlayfs)."""


ZSTD = b"\x28\xb5\x2f\xfd"


class Member(NamedTuple):
    """One of a tarball's: its path without a slash before it, and what it holds when asked now."""

    path: str
    info: tarfile.TarInfo
    opened: Callable[[], IO[bytes] | None]

    @property
    def gone(self) -> bool:
        """It takes away what is below: a character device 0:0, overlayfs' whiteout."""
        return self.info.ischr() and (self.info.devmajor, self.info.devminor) == (0, 0)

    @property
    def opaque(self) -> bool:
        """A folder of which nothing is seen that is below."""
        return self.info.isdir() and self.info.pax_headers.get(f"{OVERLAY}opaque") == "y"

    @property
    def data(self) -> Sequence[tuple[int, int]]:
        """Offset and size of what a sparse file has between its holes; () of any other."""
        return getattr(self.info, "sparse", None) or ()

    def content(self) -> bytes:
        """What a file of dpkg's holds; b"" where it is larger than any of those are."""
        if not self.info.isreg() or self.info.size >= STATUS_LIMIT:
            return b""
        file = self.opened()
        return file.read() if file is not None else b""

    @property
    def bytes(self) -> int:
        """What a file takes in whole blocks, holes left out; a hard link and all others none."""
        if not self.info.isreg():
            return 0
        data = self.data
        return whole_blocks(sum(size for _offset, size in data) if data else self.info.size)


def members(path: Path, *, root: bool = False) -> Iterator[Member]:
    """Each member of a tree's tarball, in its order; TarError where it is damaged.

    The tree's own folder, whose path is "", is among them only where `root` asks for it.
    One in zstd is known by what it begins with (RFC 8878); any other is read as it is.
    """
    with open(safe.reading(path), "rb") as packed:
        if os.pread(packed.fileno(), 4, 0) != ZSTD:
            yield from _each(packed, root)
            return
        process = popen(["zstd", "-dcq"], stdin=packed, stdout=PIPE)
        with running(process):
            assert process.stdout is not None
            yield from _each(process.stdout, root)
            while process.stdout.read(1 << 20):
                pass  # what pads the archive: else zstd would wait, and not end
            if process.wait() != 0:
                raise tarfile.ReadError(f"{path.name} is damaged")


def _each(packed: IO[bytes], root: bool) -> Iterator[Member]:
    with tarfile.open(fileobj=packed, mode="r|") as archive:
        for info in archive:
            name = named(info.name)
            if name or (root and info.isdir()):
                yield Member(name, info, functools.partial(archive.extractfile, info))


def named(path: str) -> str:
    """A path of a tarball as all others here: no slash before it, no steps that lead nowhere."""
    return "/".join(step for step in path.split("/") if step not in ("", "."))
