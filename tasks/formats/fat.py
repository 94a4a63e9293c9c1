"""The bytes of FAT12, FAT16 and FAT32: what is in such a filesystem, read without the kernel.

Offsets are those of Microsoft's specification (fatgen103); all values are little-endian. What a
filesystem was filled with is compared with what is found here: mtools replace, cut and overwrite
names in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ENTRY = 32

LONG, FOLDER, LABEL, FREE, END = 0x0F, 0x10, 0x08, 0xE5, 0x00

CODEPAGE = "cp850"
"""That of mtools and mkfs.vfat, for short names."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Where things are, in bytes, and the FAT's own table decoded."""

    cluster: int
    data: int
    root: int
    root_size: int
    """Of FAT12 and FAT16, whose root is no chain of clusters; `root` is where it begins."""
    chain: tuple[int, ...]


def read_shape(file: IO[bytes]) -> Shape:
    """The layout that a boot sector tells; ValueError when it is none of a FAT."""
    file.seek(0)
    boot = file.read(512)
    if len(boot) < 512 or boot[510:] != b"\x55\xaa":
        raise ValueError("no FAT filesystem")
    sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
    root_entries, few = struct.unpack_from("<HH", boot, 17)
    (short_table,) = struct.unpack_from("<H", boot, 22)
    many, long_table = struct.unpack_from("<II", boot, 32)
    if not sector or not per_cluster or not tables:
        raise ValueError("no FAT filesystem")
    table = short_table or long_table
    root = (reserved + tables * table) * sector
    root_size = root_entries * ENTRY
    data = root + -(-root_size // sector) * sector
    count = ((few or many) * sector - data) // (sector * per_cluster)
    file.seek(reserved * sector)
    raw = file.read(table * sector)
    if count < 4085:
        padded = raw + b"\0\0"
        chain = tuple(
            struct.unpack_from("<H", padded, at * 3 // 2)[0] >> (at & 1) * 4 & 0xFFF
            for at in range(count + 2)
        )
    elif count < 65525:
        chain = struct.unpack_from(f"<{count + 2}H", raw)
    else:
        chain = tuple(one & 0xFFFFFFF for one in struct.unpack_from(f"<{count + 2}I", raw))
        root = struct.unpack_from("<I", boot, 44)[0]
        root_size = 0
    return Shape(
        cluster=sector * per_cluster, data=data, root=root, root_size=root_size, chain=chain
    )


def files(raw: Path) -> dict[str, int]:
    """Size of each file by its path below the root, and -1 for each folder."""
    found: dict[str, int] = {}
    with raw.open("rb") as file:
        shape = read_shape(file)
        if shape.root_size:
            file.seek(shape.root)
            folders = [("", file.read(shape.root_size))]
        else:
            folders = [("", _content(file, shape, shape.root))]
        while folders:
            path, content = folders.pop()
            for name, kind, first, size in _entries(content):
                here = f"{path}/{name}" if path else name
                found[here] = -1 if kind & FOLDER else size
                if kind & FOLDER:
                    folders.append((here, _content(file, shape, first)))
    return found


def _content(file: IO[bytes], shape: Shape, first: int) -> bytes:
    parts: list[bytes] = []
    # No more than there are clusters: a chain may be a ring.
    while 2 <= first < len(shape.chain) and len(parts) < len(shape.chain):
        file.seek(shape.data + (first - 2) * shape.cluster)
        parts.append(file.read(shape.cluster))
        first = shape.chain[first]
    return b"".join(parts)


def _entries(content: bytes) -> Iterator[tuple[str, int, int, int]]:
    """(name, attributes, first cluster, size) of a folder's entries but its own two."""
    long = b""
    for at in range(0, len(content) - ENTRY + 1, ENTRY):
        entry = content[at : at + ENTRY]
        if entry[0] == END:
            return
        if entry[0] == FREE:
            long = b""
            continue
        if entry[11] & 0x3F == LONG:
            # The last part comes first.
            long = entry[1:11] + entry[14:26] + entry[28:32] + (b"" if entry[0] & 0x40 else long)
            continue
        if not entry[11] & LABEL and entry[:2] not in (b". ", b".."):
            name = long.decode("utf-16-le", "surrogatepass").partition("\0")[0] or _short(entry)
            high, low, size = (
                *struct.unpack_from("<H", entry, 20),
                *struct.unpack_from("<HI", entry, 26),
            )
            yield name, entry[11], high << 16 | low, size
        long = b""


def _short(entry: bytes) -> str:
    """The 8.3 name, whose parts may be marked as lower case (byte 12, as Windows NT does)."""
    text = (b"\xe5" if entry[0] == 5 else entry[:1]) + entry[1:11]
    base, end = text[:8].decode(CODEPAGE).rstrip(" "), text[8:].decode(CODEPAGE).rstrip(" ")
    base = base.lower() if entry[12] & 8 else base
    end = end.lower() if entry[12] & 16 else end
    return f"{base}.{end}" if end else base
