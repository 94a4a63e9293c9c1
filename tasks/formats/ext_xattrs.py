"""Extended attributes in ext2, ext3 and ext4, laid out anew by name: no name passes any command.

mke2fs -d copies them in the order in which scratch's filesystem lists them, and that decides what
is in the inode and what in the block beside it. Offsets are those of Linux,
Documentation/filesystems/ext4/attributes.rst; all values are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import ext_bytes
from .ext_bytes import EA_INODE, Super

MAGIC = 0xEA020000

ENTRY = 16

HEADER = 32

INLINE_DATA = (7, b"data")
"""system.data holds a small file's content, and is in the inode or nowhere."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One of them; `index` stands for the name's prefix (1 is user., 6 is security. and so on)."""

    index: int
    name: bytes
    value: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes: its entry and its value, each in whole words."""
        return ENTRY + _up(len(self.name)) + _up(len(self.value))

    @property
    def hash(self) -> int:
        """What an entry in a block has (ext2fs_ext_attr_hash_entry)."""
        found = 0
        for byte in self.name:
            found = _turned(found, 5) ^ byte
        words = self.value.ljust(_up(len(self.value)), b"\0")
        for (word,) in struct.iter_unpack("<I", words):
            found = _turned(found, 16) ^ word
        return found


class Unordered(Exception):
    """Attributes that are as they were: values in inodes of their own, or no room in any order."""


def order(raw: Path, groups: Sequence[tuple[int, int]]) -> int:
    """Lay out by name what each inode has several of; returns of how many inodes.

    The filesystem must be unmounted, without metadata_csum, and no two inodes may share a block of
    attributes, as is so after mke2fs -d; `groups` is ext.layout's.
    """
    found = ext_bytes.read_super(raw)
    count = 0
    if found.inode_size < 128:
        return 0
    with raw.open("r+b") as file:
        for number, (bitmap, table) in enumerate(groups):
            file.seek(bitmap * found.block_size)
            bits = file.read(found.inodes_per_group // 8 + 1)
            for index in range(found.inodes_per_group):
                inode = number * found.inodes_per_group + index + 1
                used = bits[index >> 3] >> (index & 7) & 1
                if used and (inode >= found.first_inode or inode == 2):
                    at = table * found.block_size + index * found.inode_size
                    count += _order_inode(file, found, at)
    return count


def _order_inode(file: IO[bytes], found: Super, at: int) -> int:
    file.seek(at)
    inode = bytearray(file.read(found.inode_size))
    if struct.unpack_from("<I", inode, 0x20)[0] & EA_INODE:
        return 0
    first = _first(inode)
    inside = _read(inode, first, first) if first else []
    where = struct.unpack_from("<I", inode, 0x68)[0]
    where |= struct.unpack_from("<H", inode, 0x76)[0] << 32
    beside: list[Attribute] = []
    block = bytearray()
    if where:
        file.seek(where * found.block_size)
        block = bytearray(file.read(found.block_size))
        beside = _read(block, HEADER, 0)
    if len(inside) + len(beside) < 2:
        return 0
    room = found.inode_size - first - 4 if first else 0
    inside, beside = share([*inside, *beside], room, len(block) - HEADER - 4 if where else 0)
    if first:
        _write(inode, first, first, inside, hashed=False)
        file.seek(at)
        file.write(inode)
    if where:
        beside.sort(key=lambda one: (one.index, len(one.name), one.name))
        _write(block, HEADER, 0, beside, hashed=True)
        total = 0
        for one in beside:
            total = _turned(total, 16) ^ one.hash
        struct.pack_into("<I", block, 12, 0 if any(not one.hash for one in beside) else total)
        file.seek(where * found.block_size)
        file.write(block)
    return 1


def share(
    attributes: Sequence[Attribute], inside: int, beside: int
) -> tuple[list[Attribute], list[Attribute]]:
    """Which go into the inode and which into the block, of so many bytes: a matter of names alone.

    Unordered when none of the orders tried leaves room for all, or leaves a block empty.
    """
    by_name = sorted(attributes, key=lambda one: (one.index, one.name))
    by_name.sort(key=lambda one: (one.index, one.name) != INLINE_DATA)
    largest = sorted(by_name, key=lambda one: ((one.index, one.name) != INLINE_DATA, -one.size))
    for ordered in (by_name, largest):
        here: list[Attribute] = []
        there: list[Attribute] = []
        left, rest = inside, beside
        for one in ordered:
            if one.size <= left:
                here.append(one)
                left -= one.size
            else:
                there.append(one)
                rest -= one.size
        if rest >= 0 and bool(there) == bool(beside):
            return here, there
    raise Unordered("no room for its attributes in the order of their names")


def _first(inode: bytearray) -> int:
    """Where the entries in an inode begin, 0 if it has none."""
    if len(inode) <= 128:
        return 0
    at = 128 + int(struct.unpack_from("<H", inode, 0x80)[0])
    if at + 8 > len(inode) or struct.unpack_from("<I", inode, at)[0] != MAGIC:
        return 0
    return at + 4


def _read(data: bytearray, at: int, base: int) -> list[Attribute]:
    """The attributes whose entries begin at `at`; their values are counted from `base`."""
    found = []
    while at + ENTRY <= len(data) and struct.unpack_from("<I", data, at)[0]:
        length, index, offset, inode, size = struct.unpack_from("<BBHII", data, at)
        if inode:
            raise Unordered("a value is in an inode of its own")
        name = bytes(data[at + ENTRY : at + ENTRY + length])
        value = bytes(data[base + offset : base + offset + size]) if size else b""
        found.append(Attribute(index=index, name=name, value=value))
        at += ENTRY + _up(length)
    return found


def _write(
    data: bytearray, at: int, base: int, attributes: Sequence[Attribute], *, hashed: bool
) -> None:
    data[at:] = bytes(len(data) - at)
    end = len(data)
    for one in attributes:
        end -= _up(len(one.value))
        data[end : end + len(one.value)] = one.value
        offset = end - base if one.value else 0
        struct.pack_into(
            "<BBHIII",
            data,
            at,
            len(one.name),
            one.index,
            offset,
            0,
            len(one.value),
            one.hash if hashed else 0,
        )
        data[at + ENTRY : at + ENTRY + len(one.name)] = one.name
        at += ENTRY + _up(len(one.name))


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & 0xFFFFFFFF


def _up(size: int) -> int:
    return -(-size // 4) * 4
