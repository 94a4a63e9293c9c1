"""What qemu-img draws or takes from its surroundings in a streamOptimized VMDK, made the same.

Source: VMware's Virtual Disk Format 1.1: the header says where the descriptor is, a text of
lines. CID is a number that changes whenever the content does.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from ..errors import BuildError

SECTOR = 512

OPTIONS = ("subformat=streamOptimized", "adapter_type=lsilogic")
"""For qemu-img: what VMware imports; of its adapters, one that all its products have."""

NAME = "disk.vmdk"
"""What the file is called inside itself; nobody looks there for it."""

_LONGEST = 1 << 20


def settle(file: BinaryIO, identity: str) -> None:
    """Give a VMDK, open to read and write, the CID that `identity` (hex digits) begins with.

    BuildError for what qemu-img would not have written.
    """
    header = file.read(SECTOR)
    if len(header) != SECTOR or header[:4] != b"KDMV":
        raise _other("no header")
    place, size = (SECTOR * one for one in struct.unpack_from("<QQ", header, 28))
    if not 0 < size <= _LONGEST:
        raise _other(f"a descriptor of {size} bytes")
    file.seek(place)
    text = file.read(size)
    # 0xffffffff is a parent's that there is not, and 0xfffffffe a disk's that nobody wrote to.
    content_id = f"{int(identity[:8], 16) & 0x7FFFFFFF:08x}".encode()
    # qemu-img leaves out zeros that a number begins with; there is room behind the text.
    found, count = re.subn(rb"(?m)^CID=[0-9a-f]{1,8}$", b"CID=" + content_id, text)
    if count != 1 or len(text) != size or found[size:].strip(b"\0"):
        raise _other("no CID")
    file.seek(place)
    file.write(found[:size])


def _other(what: str) -> BuildError:
    return BuildError(
        f"qemu-img wrote another VMDK than expected: {what}", "report this, with its version"
    )
