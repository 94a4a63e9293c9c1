"""What the schema cannot say of how a filesystem is made."""

from __future__ import annotations

import re

from ..errors import BuildError
from ..formats.options import check_options
from ..formats.table import FILESYSTEMS
from .images import Image


def check_filesystem(where: str, image: Image) -> None:
    """BuildError for what its format does not take; `where` it stands in the spec."""
    kind = FILESYSTEMS[image.format]
    if image.pack == "direct" and not kind.direct:
        raise BuildError(f"{where}.pack: direct works for ext2, ext3 and ext4 only")
    if len(image.label.encode()) > kind.label_length:
        raise BuildError(
            f"{where}.label: {image.format} takes {kind.label_length} characters",
            "of UTF-8: an umlaut counts as two" if not image.label.isascii() else "",
        )
    if kind.label_form and image.label and not re.fullmatch(kind.label_form, image.label):
        raise BuildError(
            f"{where}.label: {image.label!r} is none for {image.format}", kind.label_hint
        )
    if image.uuid and (len(image.uuid) == 9) != kind.short_uuid:
        raise BuildError(f"{where}.uuid: {image.uuid!r} is not of {image.format}'s form")
    check_options(image.options, kind, f"{where}.options")
