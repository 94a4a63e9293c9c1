"""/etc/fstab of the images, and the UUIDs that it names.

key of what is below, the other settings, mount point ─→ UUID ─┬→ /etc/fstab ─→ settings ─→ key
                                                               └→ the image's own inputs
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..formats.table import FILESYSTEMS
from ..spec.images import Image
from ..spec.model import Spec
from .keys import canonical

PATH = "/etc/fstab"

HEAD = """\
# /etc/fstab: static file system information, see fstab(5). Made of the images of a spec.
# <file system>\t<mount point>\t<type>\t<options>\t<dump>\t<pass>
"""

UNCHECKED = ("xfs", "btrfs")
"""Formats whose fsck(8) does nothing at boot: pass 0, as Debian's installer writes."""


def wanted(spec: Spec, files: Mapping[str, Sequence[Sequence[Any]]]) -> bool:
    """Whether Strata makes /etc/fstab; `files` are the identities of what layers give.

    Where the spec does not say: for disks and for more than one image, unless a layer's files give
    it. In a tree that is only unpacked nothing runs, so nothing is written into it unasked.
    """
    if spec.settings.fstab is not None:
        return spec.settings.fstab
    given = any(entry[0] == PATH for rows in files.values() for entry in rows)
    several = len(spec.images) > 1 or bool(spec.disks)
    return several and spec.base.variant != "extract" and not given


def uuid_of(text: str) -> str:
    """A UUID made of a text: the same on every host."""
    raw = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80  # version 8, RFC 9562: the maker's own
    raw[8] = raw[8] & 0x3F | 0x80
    digits = raw.hex()
    ends = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    return "-".join(digits[start:end] for start, end in ends)


def short_of(uuid: str) -> str:
    """The four bytes of it that a vfat has."""
    return f"{uuid[:4]}-{uuid[4:8]}"


def identified(
    images: Sequence[Image], parent: str, settings: Mapping[str, Any], epoch: int | None
) -> tuple[Image, ...]:
    """The images, each with a UUID: its own, or one of what decides the tree but for fstab itself.

    An image's usual UUID is made of the tree's key, which fstab would be a part of.
    """
    found = []
    for image in images:
        uuid = uuid_of(canonical(["fstab", parent, settings, epoch, image.mount]))
        if FILESYSTEMS[image.format].short_uuid:
            uuid = short_of(uuid)
        found.append(replace(image, uuid=image.uuid or uuid))
    return tuple(found)


def text_of(images: Sequence[Image], rows: Sequence[Row] = ()) -> str:
    """The file: a line for each image, what is mounted first before what lies below it.

    `rows` are those of what disks have, with the images that these have, too.
    """
    there = {row.mount for row in rows}
    ordered = sorted((one for one in images if one.mount not in there), key=lambda one: one.mount)
    return HEAD + "".join(row.line for row in [*map(_row, ordered), *rows])


class Row(NamedTuple):
    """The fields of one line of fstab(5)."""

    source: str
    mount: str
    type: str
    options: str
    dump: int = 0
    check: int = 0

    @property
    def line(self) -> str:
        """It as it stands in the file."""
        fields = (self.source, _escaped(self.mount), self.type, self.options)
        return "\t".join((*fields, str(self.dump), str(self.check))) + "\n"


def _row(image: Image) -> Row:
    root, kind = image.mount == "/", FILESYSTEMS[image.format]
    options = "defaults"
    if image.format.startswith("ext") and root:
        options = "errors=remount-ro"
    elif image.format == "vfat":
        options = "umask=0077"
    # udev writes a vfat's digits large, and all others small: the name of a link in by-uuid.
    uuid = image.uuid.upper() if kind.short_uuid else image.uuid
    check = 0 if image.format in UNCHECKED else 1 if root else 2
    return Row(f"UUID={uuid}", image.mount, image.format, options, check=check)


def _escaped(text: str) -> str:
    """As getmntent(3) reads it."""
    return "".join(f"\\{ord(sign):03o}" if sign in " \t\n\\" else sign for sign in text)
