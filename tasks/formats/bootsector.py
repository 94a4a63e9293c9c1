"""GRUB for BIOS in its place: its boot sector and core are told where they lie on a disk.

That is what grub-bios-setup(8) does on a device. Source of the offsets: GRUB's own
include/grub/i386/pc/boot.h and diskboot.h. All numbers have the least byte first.
"""

from __future__ import annotations

import struct

from ..errors import BuildError
from .mbr import CODE

SECTOR = 512
"""Bytes of the sectors that a BIOS reads, and GRUB counts in."""

BOOT = 512
"""Bytes of boot.img, which the core follows."""

_CORE_PLACE = 0x5C
_DRIVE = 0x64
_DRIVE_CHECK = 0x66
_BLOCKLIST = 0x1F4
_SEGMENT = 0x820
"""Where the first sector of the core loads the others to, in paragraphs."""


def placed(image: bytes, place: int) -> list[tuple[int, bytes]]:
    """boot.img and a core that lies `place` bytes from the disk's start: (offset, bytes).

    Of the first sector it is the code alone: a partition table stays. BuildError for what is no
    boot.img with a core of whole sectors behind it.
    """
    boot, core = bytearray(image[:BOOT]), bytearray(image[BOOT:])
    sectors, rest = divmod(len(core), SECTOR)
    if boot[-2:] != b"\x55\xaa" or rest or not 2 <= sectors <= 0xFFFF or place % SECTOR:
        raise BuildError(
            f"GRUB's image for BIOS has {len(image)} bytes: expected boot.img, of {BOOT}, and a "
            f"core of 2 or more whole sectors of {SECTOR} bytes"
        )
    first = place // SECTOR
    struct.pack_into("<Q", boot, _CORE_PLACE, first)
    boot[_DRIVE] = 0xFF  # the drive that the BIOS started it from
    # Without the jump, it does not believe a BIOS that names no hard disk: grub-bios-setup.
    boot[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    struct.pack_into("<QHH", core, _BLOCKLIST, first + 1, sectors - 1, _SEGMENT)
    return [(0, bytes(boot[:CODE])), (place, bytes(core))]
