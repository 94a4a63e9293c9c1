"""What goes into a filesystem, in bytes and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BLOCK = 4096

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What goes into one filesystem; a hard link counts as a file of its own."""

    size: int
    """Bytes in blocks, without holes; `apparent` has them."""
    apparent: int
    inodes: int
    several_xattrs: bool
    """Something has more than one extended attribute."""
    sparse: bool
    """A file has holes."""
    entries: Mapping[str, tuple[int, int]]
    """Mode and size of all that there is, by path below the mount point."""


def whole_blocks(size: float) -> int:
    """Bytes, rounded up to whole blocks of 4 KiB."""
    return -(-int(size) // BLOCK) * BLOCK
