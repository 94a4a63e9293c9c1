"""The filesystems of a disk's partitions: what mkfs takes, sectors, and FATs, which never grow."""

from __future__ import annotations

from itertools import pairwise

from ..errors import BuildError
from ..formats.options import separate
from ..formats.table import FILESYSTEMS
from .disk_values import left
from .disks import Disk, Partition
from .images import Image
from .model import Spec
from .rules import check_filesystem
from .sizes import shown

FAT_LIMIT = 2 << 40
"""Bytes of the largest FAT32 with sectors of 512 bytes: it counts them in 32 bits."""

SECTOR = 512

SECTORS = {"vfat": ("-S", "{}"), "xfs": ("-s", "size={}")}
"""The mkfs that writes for sectors of 512 bytes unless it is told: its option, and its form."""


def place(where: str, partition: Partition) -> str:
    """A partition as messages name it."""
    return f"{where}.partitions.{partition.name}"


def check_filesystems(spec: Spec, disk: Disk, where: str) -> None:
    """BuildError for what mkfs does not take, or what could not be mounted where it is.

    What mkfs takes is asked of those that the disk alone has: images' are looked at there.
    """
    for one in disk.filesystems:
        if one.image is not None and one.image not in spec.images:
            check_filesystem(one.image, place(where, one))
    for one in disk.filesystems:
        if one.image is not None and disk.sector > SECTOR:
            _check_sector(one.image, disk.sector, f"{spec.path}: images.{one.mount}"
                          if one.image in spec.images else place(where, one))  # fmt: skip
    _check_fat(disk, where)


def _check_sector(image: Image, sector: int, where: str) -> None:
    """BuildError for a filesystem of smaller sectors or blocks, which no kernel mounts there."""
    kind = FILESYSTEMS[image.format]
    words = separate(image.options, kind.permitted)
    given = dict(pairwise(words))
    name, form = SECTORS.get(image.format, ("", ""))
    told = given.get(name, "").removeprefix("size=")
    if name and told != str(sector):
        raise BuildError(
            f"{where}: its {image.format} has sectors of {told or SECTOR} bytes, and the disk of "
            f"{sector}: nothing could mount it",
            f"write options: {name} {form.format(sector)}, or choose another format, or remove "
            "sector",
        )
    size = given.get("-b", "") if image.format.startswith("ext") else ""
    if size.isdecimal() and int(size) < sector:
        raise BuildError(
            f"{where}.options: blocks of {size} bytes, and the disk has sectors of {sector}: "
            "nothing could mount it",
            f"write -b {sector}, or remove it",
        )


def _check_fat(disk: Disk, where: str) -> None:
    """BuildError for a FAT that is not as large as its partition: it cannot grow when it runs."""
    for one in disk.partitions:
        here = f"{place(where, one)}.size"
        esp = one.kind == "esp" and disk.loader != "none"
        fat = one.image is not None and one.image.format == "vfat"
        if not esp and not fat:
            continue
        size = left(disk) if one.rest else one.size
        if one.rest and size is None:
            raise BuildError(
                f"{here}: rest: a vfat is made as large as its partition, and nothing says yet "
                "how large that is",
                "give it a size, or give one to the disk and to each other partition",
            )
        if size is not None and size > FAT_LIMIT:
            raise BuildError(
                f"{here}: {shown(size)}: a vfat has {shown(FAT_LIMIT)} at the most",
                "make it smaller" if esp else "make it smaller, or choose another format",
            )
        if fat and one.image is not None and one.image.file and size not in (None, one.image.size):
            assert size is not None
            own = "none of its own" if one.image.size is None else shown(one.image.size)
            raise BuildError(
                f"{here}: {shown(size)}, and images.{one.mount}.size is {own}: a vfat cannot grow "
                "while it is mounted",
                f"write images.{one.mount}.size: {shown(size)}, or give the partition no size",
            )
