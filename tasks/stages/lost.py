"""What a form of the whole tree cannot hold: said before it is made, or refused.

squashfs: kernel, Documentation/filesystems/squashfs (user., trusted. and security. attributes).
newc: cpio(5), whose sizes are eight hex digits, and which has no extended attributes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ..builder import Builder
from ..errors import BuildError, printable
from ..plan.job import Job
from ..rootfs import paths

CPIO_LIMIT = (1 << 32) - 1
"""Bytes of the largest file in a cpio."""

HELD: dict[str, tuple[str, ...]] = {
    "tar": ("security.", "user.", "system.posix_acl_"),
    "erofs": ("security.", "user.", "trusted.", "system.posix_acl_"),
    "squashfs": ("security.", "user.", "trusted."),
    "cpio": (),
}
"""How the names of extended attributes begin that a form holds."""

OVERLAYS = ("trusted.overlay.", "security.selinux")
"""Of this host's own, which no export has: its overlays and, if it has one, its policy."""

UNORDERED = ("squashfs", "erofs")
"""Forms whose tools write the attributes of a file in the order in which the kernel lists them.

mksquashfs does not where it reads a tar; mkfs.erofs reads none before 1.8.
"""


class Found(NamedTuple):
    """A path of the tree with the names of its extended attributes, and its size in bytes."""

    path: str
    names: tuple[str, ...]
    size: int


def check(job: Job, builder: Builder, form: str) -> bool:
    """Say what is not in an export of this form; BuildError for a file that it cannot hold.

    True where the order counts in which the attributes of a file are listed.
    """
    lost: list[str] = []
    names: set[str] = set()
    several: list[str] = []
    where = f"exports.{job.stage.name}"
    for one in _tree(job, builder):
        if form == "cpio" and one.size > CPIO_LIMIT:
            raise BuildError(
                f"{job.spec}: {where}: {printable('/' + one.path)} has "
                f"{one.size / (1 << 30):.1f} GiB, and a cpio holds files of less than 4 GiB",
                "take another format: tar, squashfs or erofs",
            )
        held = [name for name in one.names if name.startswith(HELD[form])]
        if len(held) < len(one.names):
            lost.append(one.path)
            names.update(one.names)
            names.difference_update(held)
        if len(held) > 1 and form in UNORDERED:
            several.append(one.path)
    if lost:
        what = ", ".join(map(printable, sorted(names)))
        builder.say(f"warning: {where}: {form} does not hold {what}, which {_told(lost)}")
    if several and form == "erofs":
        builder.say(
            f"warning: {where}: {form} may hold the extended attributes in another order on "
            f"another host, where there are several, which {_told(several)}: not the same bytes"
        )
    return bool(several)


def _told(found: list[str]) -> str:
    """Whose they are, as `/a and 2 more have`."""
    first = printable("/" + found[0])
    return f"{first} and {len(found) - 1} more have" if found[1:] else f"{first} has"


def _tree(job: Job, builder: Builder) -> Iterator[Found]:
    """All of the tree but its own folder; no link in it is followed."""
    lower = builder.trees.lower(job.below, builder.log)
    for path, place in paths.merged(builder.trees.folder, lower, ""):
        info = os.lstat(place)
        names = tuple(
            name
            for name in os.listxattr(place, follow_symlinks=False)
            if not name.startswith(OVERLAYS)
        )
        size = info.st_size if stat.S_ISREG(info.st_mode) else 0
        if names or size > CPIO_LIMIT:
            yield Found(path, names, size)
