"""Small disks, as the spec has them once it is read, and specs that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import samples
from tasks.spec.disks import MIB, Disk, Partition
from tasks.spec.images import Image
from tasks.spec.model import Spec


def image(mount: str, kind: str = "ext4", uuid: str = "") -> Image:
    """How the filesystem of a partition is made."""
    return Image(mount=mount, file="", format=kind, container="raw", level="default", pack="direct",
                 label="", uuid=uuid, options=(), size=None, free=None)  # fmt: skip


def esp(size: int = 64 * MIB, mount: str = "/boot/efi") -> Partition:
    """An EFI system partition."""
    return Partition(name="esp", kind="esp", mount=mount, size=size)


def filesystem(name: str, mount: str, kind: str = "ext4", **fields: Any) -> Partition:
    """A partition with a filesystem that is mounted."""
    uuid = fields.pop("uuid", "")
    return Partition(
        name=name, kind="filesystem", mount=mount, image=image(mount, kind, uuid), **fields
    )


def disk(*partitions: Partition, name: str = "server", **fields: Any) -> Disk:
    """A disk of an EFI system partition and a root that grows, or of these partitions."""
    parts = partitions or (esp(), filesystem("root", "/", rest=True, grow=True))
    return Disk(name=name, partitions=parts, **{"size": 1024 * MIB, **fields})


def spec_of(folder: Path, disks: Sequence[Disk], **fields: Any) -> Spec:
    """The spec `web`, with these disks and without images."""
    return replace(samples.load(folder, **fields), disks=tuple(disks), images=())
