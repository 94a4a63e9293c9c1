"""The bytes of ext2, ext3 and ext4: what a kernel leaves of its clock and its dice, set and named.

Offsets are those of Linux, Documentation/filesystems/ext4 (super.rst, inodes.rst); all values are
little-endian. Nothing here runs a command: `layout` reads what dumpe2fs(8) printed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SUPER = 1024
"""Where the superblock is, and its size, in bytes."""


MAGIC = 0xEF53


# What the tools add when all else is in place. A checksum of an inode covers its generation, so
# there must be none while those are set; a journal would hold what was written meanwhile.
DEFERRED = ("has_journal", "metadata_csum", "metadata_csum_seed", "orphan_file")

DEFAULT_FEATURES = {"ext2": (), "ext3": ("has_journal",), "ext4": ("has_journal", "metadata_csum")}

EA_INODE = 0x200000  # i_flags: its time and generation are reference counts and hashes

SUPER_FIELDS: tuple[tuple[int, int, str], ...] = (
    (0x00, 4, "inodes"), (0x04, 4, "blocks"), (0x08, 4, "reserved blocks"),
    (0x0C, 4, "free blocks"), (0x10, 4, "free inodes"), (0x2C, 4, "mount time"),
    (0x30, 4, "write time"), (0x34, 2, "mount count"), (0x3A, 2, "state"),
    (0x40, 4, "check time"), (0x5C, 12, "features"), (0x68, 16, "UUID"), (0x78, 16, "label"),
    (0x88, 64, "last mounted on"), (0xE8, 4, "orphans"), (0xEC, 16, "hash seed"),
    (0x108, 4, "creation time"), (0x178, 8, "kilobytes written"), (0x3FC, 4, "checksum"),
)  # fmt: skip


INODE_FIELDS: tuple[tuple[int, int, str], ...] = (
    (0x00, 2, "mode"), (0x02, 2, "owner"), (0x04, 4, "size"), (0x08, 4, "atime"),
    (0x0C, 4, "ctime"), (0x10, 4, "mtime"), (0x14, 4, "dtime"), (0x18, 2, "group"),
    (0x1A, 2, "links"), (0x1C, 4, "blocks"), (0x20, 4, "flags"), (0x24, 4, "version"),
    (0x28, 60, "block map"), (0x64, 4, "generation"), (0x68, 4, "attribute block"),
    (0x6C, 4, "size, high half"), (0x74, 2, "blocks, high half"), (0x78, 4, "owner, high half"),
    (0x7C, 2, "checksum"), (0x80, 2, "extra size"), (0x82, 2, "checksum, high half"),
    (0x84, 4, "ctime, nanoseconds"), (0x88, 4, "mtime, nanoseconds"),
    (0x8C, 4, "atime, nanoseconds"), (0x90, 4, "creation time"),
    (0x94, 4, "creation time, nanoseconds"), (0x98, 4, "version, high half"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Super:
    """What of a superblock says where things are; `size` is the filesystem's, in bytes."""

    size: int
    block_size: int
    inode_size: int
    inodes: int
    inodes_per_group: int
    first_inode: int


def read_super(raw: Path) -> Super:
    """The superblock of a filesystem in a file; ValueError when it has none."""
    with raw.open("rb") as file:
        file.seek(SUPER)
        block = file.read(SUPER)
    if len(block) < SUPER or struct.unpack_from("<H", block, 0x38)[0] != MAGIC:
        raise ValueError(f"{raw}: no ext filesystem")
    inodes, blocks = struct.unpack_from("<II", block, 0)
    block_size = 1024 << struct.unpack_from("<I", block, 0x18)[0]
    if struct.unpack_from("<I", block, 0x60)[0] & 0x80:  # 64bit
        blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32
    old = struct.unpack_from("<I", block, 0x4C)[0] == 0  # revision 0 has fixed values
    return Super(
        size=blocks * block_size,
        block_size=block_size,
        inodes=inodes,
        inodes_per_group=struct.unpack_from("<I", block, 0x28)[0],
        first_inode=11 if old else struct.unpack_from("<I", block, 0x54)[0],
        inode_size=128 if old else struct.unpack_from("<H", block, 0x58)[0],
    )


def layout(text: str) -> list[tuple[int, int]]:
    """(block of the inode bitmap, first block of the inode table) of each group, by dumpe2fs(8)."""
    # Before them it prints a label and where it was mounted: those may be called like these.
    text = text.rpartition("\nGroup 0:")[2]
    bitmaps = [int(number) for number in re.findall(r"Inode bitmap at (\d+)", text)]
    tables = [int(number) for number in re.findall(r"Inode table at (\d+)", text)]
    if not bitmaps or len(bitmaps) != len(tables):
        raise ValueError("dumpe2fs does not say where the inodes are")
    return list(zip(bitmaps, tables, strict=True))


# ---------------------------------------------------------------- features


def split_options(
    options: Sequence[str], kind: str
) -> tuple[list[str], list[str], list[str], list[list[str]]]:
    """mke2fs(8) options as (-O words, -E words, other options, tune2fs(8)'s arguments in the end).

    mke2fs takes only the last -O and the last -E, so all must come in one. tune2fs is to be called
    once for each feature: it cannot make a journal in the call that turns checksums on. `kind` is
    ext2, ext3 or ext4.
    """
    words: dict[str, list[str]] = {"-O": [], "-E": [], "-J": []}
    rest: list[str] = []
    given = iter(options)
    journal = False
    for option in given:
        flag = option[:2]
        if flag in words:
            words[flag] += (option[2:] or next(given, "")).split(",")
        elif option == "-j":
            journal = True
        else:
            rest.append(option)
    wanted = set(DEFAULT_FEATURES[kind])
    if journal or words["-J"]:
        wanted.add("has_journal")
    for word in words["-O"]:
        if word == "none":
            wanted.clear()
        elif word[:1] == "^":
            wanted.discard(word[1:])
        else:
            wanted.add(word)
    later = [name for name in DEFERRED if name in wanted]
    features = [word for word in words["-O"] if word.lstrip("^") not in DEFERRED]
    features += [f"^{name}" for name in ("has_journal", "metadata_csum")]
    journals = ["-J", ",".join(words["-J"])] if words["-J"] else []
    tune = [["-O", name, *(journals if name == "has_journal" else [])] for name in later]
    return features, words["-E"], rest, tune


PLAIN = frozenset((
    "64bit", "bigalloc", "casefold", "dir_index", "ea_inode", "encrypt", "ext_attr", "extent",
    "extra_isize", "fast_commit", "filetype", "flex_bg", "huge_file", "inline_data", "large_dir",
    "large_file", "meta_bg", "mmp", "project", "quota", "resize_inode", "sparse_super",
    "sparse_super2", "stable_inodes", "uninit_bg", "verity",
))  # fmt: skip
"""Features of one bit each, no two of the same: other names may be second ones of these."""


def meaning(options: Sequence[str], kind: str) -> list[str]:
    """Words of options, each value apart, in one form for all of which the bytes are the same.

    One -O and one -E hold all of theirs. Of plain features, of which none is both set and cleared,
    the order and how often each stands are nothing; what comes later by tune2fs is told where it is
    not what comes anyway. The other options keep their order.
    """
    features, extended, rest, tune = split_options(options, kind)
    features = features[:-2]  # without what is always cleared, for tune2fs to set
    names = {word.lstrip("^") for word in features}
    if names <= PLAIN and len(names) == len(set(features)):
        features = sorted(set(features))
    found = ["-O", ",".join(features)] if features else []
    found += ["-E", ",".join(extended)] if extended else []
    if tune != split_options((), kind)[3]:
        found += ["later", *(" ".join(call) for call in tune)]
    return found + rest


# ---------------------------------------------------------------- settling


def settle(raw: Path, groups: Sequence[tuple[int, int]], epoch: int) -> None:
    """Set all that a filling left of its own: times but mtime, generations, versions, counters.

    The filesystem must be unmounted and without metadata_csum; `groups` is `layout`'s. atime,
    ctime and creation time become `epoch` (seconds), free inodes are zeroed, and the superblock is
    that of a filesystem which was never mounted. Its copies are for the next tool to write.
    """
    found = read_super(raw)
    with raw.open("r+b") as file:
        file.seek(SUPER)
        block = bytearray(file.read(SUPER))
        struct.pack_into("<IIH", block, 0x2C, 0, epoch & 0xFFFFFFFF, 0)  # mount, write, count
        struct.pack_into("<I", block, 0x40, epoch & 0xFFFFFFFF)  # last check
        struct.pack_into("<64x", block, 0x88)  # last mounted on
        struct.pack_into("<I", block, 0x108, epoch & 0xFFFFFFFF)  # creation
        struct.pack_into("<Q", block, 0x178, 0)  # kilobytes written
        high = epoch >> 32
        struct.pack_into("<4B", block, 0x274, high, 0, high, high)  # of write, mount, mkfs, check
        file.seek(SUPER)
        file.write(block)
        for number, (bitmap, table) in enumerate(groups):
            _settle_group(file, found, number, bitmap, table, epoch)


def _settle_group(
    file: IO[bytes], found: Super, number: int, bitmap: int, table: int, epoch: int
) -> None:
    file.seek(bitmap * found.block_size)
    bits = file.read(found.inodes_per_group // 8 + 1)
    size = found.inode_size
    file.seek(table * found.block_size)
    old = file.read(found.inodes_per_group * size)
    new = bytearray(old)
    seconds, extra = _encoded(epoch)
    empty = bytes(size)
    for index in range(found.inodes_per_group):
        at = index * size
        inode = number * found.inodes_per_group + index + 1
        if not bits[index >> 3] >> (index & 7) & 1:
            # What a deleted or never used inode holds is in no file, but it is in the image.
            new[at : at + size] = empty
            continue
        if inode < found.first_inode and inode != 2:
            continue  # mkfs's own, with mkfs's fixed clock
        if struct.unpack_from("<I", new, at + 0x20)[0] & EA_INODE:
            continue
        struct.pack_into("<II", new, at + 0x08, seconds, seconds)  # atime, ctime
        struct.pack_into("<I", new, at + 0x24, 0)  # version
        struct.pack_into("<I", new, at + 0x64, 0)  # generation
        room = struct.unpack_from("<H", new, at + 0x80)[0] if size > 128 else 0
        if room >= 28:
            struct.pack_into("<I", new, at + 0x84, extra)  # ctime
            struct.pack_into("<III", new, at + 0x8C, extra, seconds, extra)  # atime, creation
            struct.pack_into("<I", new, at + 0x98, 0)  # version
    if new != old:
        file.seek(table * found.block_size)
        file.write(new)


def _encoded(epoch: int) -> tuple[int, int]:
    """(seconds, extra) of a time: the lowest two bits of `extra` count 2**32 seconds."""
    low = epoch & 0xFFFFFFFF
    signed = low - (1 << 32) if low >> 31 else low
    return low, (epoch - signed) >> 32 & 3


# ---------------------------------------------------------------- naming a difference


def place(raw: Path, groups: Sequence[tuple[int, int]], offset: int) -> tuple[str, int, int]:
    """What lies at a byte: (name of a field or kind of place, inode or 0, block or 0).

    An inode is given for a byte of an inode, a block for one that only debugfs can tell the owner
    of.
    """
    found = read_super(raw)
    if SUPER <= offset < 2 * SUPER:
        return f"superblock, {_field(SUPER_FIELDS, offset - SUPER)}", 0, 0
    block = offset // found.block_size
    for number, (bitmap, table) in enumerate(groups):
        begin = table * found.block_size
        if begin <= offset < begin + found.inodes_per_group * found.inode_size:
            index, within = divmod(offset - begin, found.inode_size)
            inode = number * found.inodes_per_group + index + 1
            return _field(INODE_FIELDS, within), inode, 0
        if block == bitmap:
            return f"inode bitmap of group {number}", 0, 0
    return f"block {block}", 0, block


def _field(fields: Sequence[tuple[int, int, str]], offset: int) -> str:
    for begin, size, name in fields:
        if begin <= offset < begin + size:
            return name
    return f"byte {offset:#x}"


def first_difference(one: IO[bytes], other: IO[bytes]) -> int | None:
    """Offset in bytes of the first difference of two streams, None when they are the same."""
    offset = 0
    for left, right in _chunks(one, other):
        if left != right:
            short = min(len(left), len(right))
            return offset + next((i for i in range(short) if left[i] != right[i]), short)
        offset += len(left)
    return None


def _chunks(one: IO[bytes], other: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    size = 1 << 20
    while True:
        left, right = one.read(size), other.read(size)
        yield left, right
        if not left or not right:
            return
