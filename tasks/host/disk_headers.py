"""What a disk's file says of itself, looked at before QEMU is let near it.

A qcow2 or a vmdk can name other files, which QEMU would open: none of Strata's does. Not by
qemu-img, which would follow the names as root. Sources: QEMU's docs/interop/qcow2.txt; VMware's
Virtual Disk Format 5.0, sparse extents; Microsoft's Virtual Hard Disk Image Format Specification,
the footer.
"""

from __future__ import annotations

import os
import re
import struct

from ..errors import BuildError

SECTOR = 512

VHD_FOOTER = 512

QCOW2_COMPRESSION = 1 << 3
"""Of a qcow2's incompatible features the one that Strata's have: clusters by zstd."""

VMDK_DESCRIPTOR = 20 * SECTOR
"""Bytes of a vmdk's descriptor, from the second sector on: QEMU looks for a parent just there."""

EXTENT = re.compile(rb"^[ \t]*(?:RW|RDONLY|NOACCESS)\b", re.MULTILINE)


def virtual_size(disk: int, name: str, form: str) -> int:
    """Bytes of the disk that a file, open as `disk`, holds.

    BuildError, which calls it `name`, for no file of that format, and for one that names others.
    """
    head = os.pread(disk, SECTOR, 0)
    end = os.fstat(disk).st_size
    try:
        match form:
            case "raw":
                return end
            case "qcow2" if head[:4] == b"QFI\xfb":
                return _qcow2(head, name)
            case "vmdk" if head[:4] == b"KDMV":
                return _vmdk(head, os.pread(disk, VMDK_DESCRIPTOR, SECTOR), name)
            case "vhd" if end > VHD_FOOTER:
                foot = os.pread(disk, VHD_FOOTER, end - VHD_FOOTER)
                if foot[:8] == b"conectix":
                    return int(struct.unpack_from(">Q", foot, 48)[0])
    except struct.error:
        pass
    raise BuildError(f"{name} is no disk of the format {form}", "build it again")


def _qcow2(head: bytes, name: str) -> int:
    version, backing = struct.unpack_from(">IQ", head, 4)
    size, crypt = struct.unpack_from(">QI", head, 24)
    (features,) = struct.unpack_from(">Q", head, 72)
    if backing:
        raise _other(name, "qcow2", "names a file below it")
    if crypt:
        raise _other(name, "qcow2", "is encrypted")
    if version != 3:
        raise _other(name, "qcow2", f"is of version {version}")
    if features & ~QCOW2_COMPRESSION:
        # Bit 2 has its data in a file that it names, and bit 1 says that it is damaged.
        raise _other(name, "qcow2", f"has the incompatible features {features:#x}")
    return int(size)


def _vmdk(head: bytes, descriptor: bytes, name: str) -> int:
    (sectors,) = struct.unpack_from("<Q", head, 12)
    (place,) = struct.unpack_from("<Q", head, 28)
    if not sectors:
        # QEMU takes it for a list of files.
        raise _other(name, "vmdk", "holds nothing itself")
    if place != 1:
        raise _other(name, "vmdk", "has its descriptor elsewhere")
    if b"parentFileNameHint" in descriptor:
        raise _other(name, "vmdk", "names a file below it")
    extents = len(EXTENT.findall(descriptor))
    if extents != 1:
        raise _other(name, "vmdk", f"has {extents} extents")
    return int(sectors) * SECTOR


def _other(name: str, form: str, what: str) -> BuildError:
    return BuildError(f"{name} is no {form} of Strata's: it {what}", "remove it and build it again")
