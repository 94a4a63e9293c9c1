"""Making btrfs: sizes."""

from __future__ import annotations

import struct
from pathlib import Path


def btrfs_size(raw: Path) -> int:
    """Bytes of a btrfs by its superblock: total_bytes, 0x70 behind 64 KiB."""
    with raw.open("rb") as file:
        file.seek(0x10000 + 0x70)
        return int(struct.unpack("<Q", file.read(8))[0])
