"""A picture as QEMU has it, PPM, as PNG.

Not by QEMU itself, which does so since 7.1, and only where it was built with libpng.
"""

from __future__ import annotations

import re
import struct
import zlib

LARGEST = 8192
"""Pixels of a side."""

LARGEST_PPM = 3 * LARGEST * LARGEST + 64
"""Bytes of a PPM of so many, with its header."""


def png_of(ppm: bytes) -> bytes:
    """The PNG (RFC 2083) of a PPM (ppm(5)) of eight bits a colour; ValueError for another file."""
    head = re.match(rb"P6\s+([0-9]{1,5})\s+([0-9]{1,5})\s+255\s", ppm)
    if head is None:
        raise ValueError("no PPM of eight bits a colour")
    width, height = int(head[1]), int(head[2])
    row = 3 * width
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise ValueError(f"a picture of {width} × {height}")
    if len(ppm) < head.end() + row * height:
        raise ValueError("the picture is cut off")
    # Each row begins with its filter: none.
    rows = b"".join(
        b"\0" + ppm[at : at + row] for at in range(head.end(), head.end() + row * height, row)
    )
    # Eight bits a colour, colours of three, then deflate, no filters and no interlacing.
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
