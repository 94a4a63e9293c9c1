"""Every filesystem that an image may have, by its name: a new one is one row here."""

from __future__ import annotations

from collections.abc import Mapping

from . import btrfs, ext, vfat, xfs
from .filesystem import Filesystem

FILESYSTEMS: Mapping[str, Filesystem] = {
    row.name: row for row in (*ext.ROWS, xfs.ROW, btrfs.ROW, vfat.ROW)
}

FULL = (
    "No space left on device",
    "Could not allocate",
    "Disk full",
    "too small",
    "too big for",
    "larger than",
)
"""How the tools say that a filesystem is too small for its content, or for itself."""
