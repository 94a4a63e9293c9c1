"""A GUID partition table as bytes: the UEFI Specification 2.10, chapter 5."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from . import mbr

ENTRIES, ENTRY = 128, 128
"""How many partitions the table has room for, and the bytes of each: the least that UEFI takes."""

NAME_UNITS = 36
"""UTF-16 units of a partition's name."""

GROW = 1 << 59
"""Attribute: the filesystem is to be grown to its partition (GROW_FILE_SYSTEM of the Discoverable
Partitions Specification)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A partition: its first byte and its size, both whole sectors, and what the table says of it.

    `type` and `guid` are GUIDs as they are written, `attributes` the 64 bits of the table's entry.
    """

    name: str
    type: str
    guid: str
    first: int
    size: int
    attributes: int = 0


def tail(sector: int) -> int:
    """Bytes at a disk's end that the second copy takes: the entries and a header."""
    return ENTRIES * ENTRY + sector


def tables(
    size: int, guid: str, entries: Sequence[Entry], *, sector: int = 512
) -> list[tuple[int, bytes]]:
    """What a disk of `size` bytes has of its table: (offset, bytes), the protective MBR first.

    ValueError for what the table cannot tell of: too many, off a sector, outside, one over another.
    """
    last = size // sector - 1
    blocks = ENTRIES * ENTRY // sector
    usable = (2 + blocks, last - blocks - 1)
    _check(size, entries, sector, usable)
    array = b"".join(_entry(one, sector) for one in entries).ljust(ENTRIES * ENTRY, b"\0")
    first = _header(guid, here=1, other=last, usable=usable, table=2, array=array)
    second = _header(guid, here=last, other=1, usable=usable, table=last - blocks, array=array)
    return [
        *mbr.protective(size, sector=sector),
        (sector, first),
        (2 * sector, array),
        ((last - blocks) * sector, array),
        (last * sector, second),
    ]


def _check(size: int, entries: Sequence[Entry], sector: int, usable: tuple[int, int]) -> None:
    if size % sector or len(entries) > ENTRIES:
        raise ValueError(f"{size} bytes, {len(entries)} partitions: no GPT has these")
    at = usable[0] * sector
    for one in sorted(entries, key=lambda entry: entry.first):
        if one.first % sector or one.size % sector or one.size <= 0 or one.first < at:
            raise ValueError(f"{one.name!r} cannot lie at {one.first}, {one.size} bytes")
        at = one.first + one.size
    if at > (usable[1] + 1) * sector:
        raise ValueError(f"the partitions end at {at}, behind {(usable[1] + 1) * sector}")


def _guid(text: str) -> bytes:
    """A GUID as UEFI's appendix A has it: the first three fields with the least byte first."""
    return uuid.UUID(text).bytes_le


def _entry(one: Entry, sector: int) -> bytes:
    name = one.name.encode("utf-16-le")
    if len(name) > 2 * NAME_UNITS:
        raise ValueError(f"{one.name!r} has more than {NAME_UNITS} UTF-16 units")
    begin, end = one.first // sector, (one.first + one.size) // sector - 1
    fixed = struct.pack("<16s16sQQQ", _guid(one.type), _guid(one.guid), begin, end, one.attributes)
    return (fixed + name).ljust(ENTRY, b"\0")


def _header(
    guid: str, *, here: int, other: int, usable: tuple[int, int], table: int, array: bytes
) -> bytes:
    """One of the two headers, each of which says where the other one is."""
    size = 92

    def packed(crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            size,
            crc,
            0,
            here,
            other,
            *usable,
            _guid(guid),
            table,
            ENTRIES,
            ENTRY,
            zlib.crc32(array),
        )

    return packed(zlib.crc32(packed(0)))
