"""A master boot record's partition table as bytes, and the one that protects a GPT.

Sources: sfdisk(8); the UEFI Specification 2.10, chapter 5.2, for both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4
"""Partitions that it has room for; extended ones are not made."""

CODE = 440
"""Bytes of it that are a boot loader's."""

_SIGNATURE = b"\x55\xaa"

_HEADS, _SECTORS = 255, 63
"""Of the geometry that all tools suppose where places are told by cylinder, head and sector."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A partition: its first byte and its size, both whole sectors; `type` is two hex digits."""

    type: str
    first: int
    size: int
    active: bool = False


def largest(sector: int) -> int:
    """Bytes of the largest disk that it can tell of: sectors have numbers of 32 bits."""
    return sector << 32


def table(
    signature: int, entries: Sequence[Entry], *, sector: int = 512
) -> list[tuple[int, bytes]]:
    """All of the first sector but for a loader's code: (offset, bytes).

    `signature` is the disk's, of 32 bits, by which Linux names partitions. ValueError for what
    the table cannot tell of.
    """
    if len(entries) > MOST:
        raise ValueError(f"{len(entries)} partitions: an MBR has {MOST}")
    at = sector
    for one in sorted(entries, key=lambda entry: entry.first):
        if one.first % sector or one.size % sector or one.size <= 0 or one.first < at:
            raise ValueError(f"a partition cannot lie at {one.first}, {one.size} bytes")
        at = one.first + one.size
    if at > largest(sector):
        raise ValueError(f"the partitions end at {at}, behind {largest(sector)}")
    rows = b"".join(_row(one, sector) for one in entries).ljust(16 * MOST, b"\0")
    return [(CODE, struct.pack("<IH", signature, 0) + rows + _SIGNATURE)]


def protective(size: int, *, sector: int = 512) -> list[tuple[int, bytes]]:
    """The one that keeps old tools from a disk with a GPT: one partition, all of it."""
    length = min(size // sector - 1, 0xFFFFFFFF)
    row = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, length)
    return [(CODE, bytes(6) + row.ljust(16 * MOST, b"\0") + _SIGNATURE)]


def _row(one: Entry, sector: int) -> bytes:
    begin, length = one.first // sector, one.size // sector
    return struct.pack(
        "<B3sB3sII",
        0x80 if one.active else 0,
        _chs(begin),
        int(one.type, 16),
        _chs(begin + length - 1),
        begin,
        length,
    )


def _chs(lba: int) -> bytes:
    """A sector's cylinder, head and sector; the last that can be told of for all behind it."""
    cylinder, rest = divmod(lba, _HEADS * _SECTORS)
    if cylinder > 1023:
        return b"\xfe\xff\xff"
    head, sector = divmod(rest, _SECTORS)
    return bytes([head, sector + 1 | cylinder >> 8 << 6, cylinder & 0xFF])
