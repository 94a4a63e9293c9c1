"""A swap area's header, as mkswap(8) writes it; what is behind it need not be anything.

Source: include/linux/swap.h, union swap_header.
"""

from __future__ import annotations

import struct
import uuid as uuids

PAGE = 4096
"""Bytes of a page on amd64 and arm64 as Debian has them: the kernel takes no other's area."""

LEAST = 10 * PAGE
"""Bytes of the smallest area that mkswap makes."""


def header(size: int, uuid: str) -> bytes:
    """The first page of an area of `size` bytes; ValueError for one that is too small."""
    if size < LEAST:
        raise ValueError(f"{size} bytes: a swap area has {LEAST} or more")
    last = min(size // PAGE - 1, 0xFFFFFFFF)
    info = struct.pack("<III16s", 1, last, 0, uuids.UUID(uuid).bytes)
    return (bytes(1024) + info).ljust(PAGE - 10, b"\0") + b"SWAPSPACE2"
