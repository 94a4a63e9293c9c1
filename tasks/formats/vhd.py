"""A fixed VHD: a raw disk and a footer of 512 bytes that says so.

Source: Microsoft's Virtual Hard Disk Image Format Specification 1.0. All numbers have the most
significant byte first. `qemu-img -O vpc -o subformat=fixed` writes the same, with the time and a
random UUID in it.
"""

from __future__ import annotations

import struct
import uuid as uuids

FOOTER = 512

LARGEST = 2040 << 30
"""Bytes of the largest disk that Hyper-V takes as a VHD."""

_MOST_SECTORS = 65535 * 16 * 255


def footer(size: int, uuid: str) -> bytes:
    """The footer of a disk of `size` bytes; ValueError for one that no VHD holds."""
    if size % 512 or not 0 < size <= LARGEST:
        raise ValueError(f"a VHD holds whole sectors, and {LARGEST} bytes at the most: {size}")
    cylinders, heads, sectors = geometry(size // 512)
    begin = struct.pack(
        ">8sIIQI4sI4sQQHBBI",
        b"conectix",
        2,  # the reserved bit, always set
        0x00010000,
        0xFFFFFFFFFFFFFFFF,  # no further header: it is fixed
        0,  # made at the beginning of VHD's time, 2000
        # Programs believe the size of some makers only, and else the geometry: qemu's block/vpc.c.
        b"qem2",
        0x00050003,
        b"Wi2k",
        size,
        size,
        cylinders,
        heads,
        sectors,
        2,  # fixed
    )
    end = uuids.UUID(uuid).bytes + b"\0"  # not saved in the middle of a run
    total = ~sum(begin + end) & 0xFFFFFFFF
    return (begin + struct.pack(">I", total) + end).ljust(FOOTER, b"\0")


def geometry(total: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors of a track for so many sectors: the appendix's own rule."""
    total = min(total, _MOST_SECTORS)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    sectors = 17
    tracks = total // sectors
    heads = max(4, (tracks + 1023) // 1024)
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
        tracks = total // sectors
    if tracks >= heads * 1024:
        sectors, heads = 63, 16
        tracks = total // sectors
    return tracks // heads, heads, sectors
