"""Filesystems of mount points: raw ones, for disks, and the images that are published of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..formats import options
from ..formats.footprint import MIB
from ..formats.table import FILESYSTEMS
from ..spec.images import Image
from ..spec.model import Spec
from . import guids
from .containers import ENDING, container_tools, keyed_level
from .recipes import stage_of
from .stage import Host, Stage

ROOM = 16 * MIB
"""Left free in what a disk has: it boots before its filesystems have taken their partitions' room,
and then writes its random seed and its journal."""


def image_tools(image: Image) -> set[str]:
    """The tools whose versions decide an image's bytes."""
    return {*FILESYSTEMS[image.format].keyed, *container_tools(image.container, image.level)}


def filesystems(spec: Spec) -> tuple[Image, ...]:
    """How the filesystem of each mount point is made, of images and of disks, by mount point.

    With disks, whose tables and command lines name them, UUIDs are of names where the spec gives
    none: nothing that they hold decides them.
    """
    found = {one.mount: one for one in spec.images}
    for disk in spec.disks:
        for part in disk.filesystems:
            assert part.image is not None
            found.setdefault(part.mount, part.image)
    if not spec.disks:
        return spec.images
    booted = written_at_boot(spec)
    return tuple(
        replace(
            one,
            uuid=one.uuid or guids.filesystem_uuid(spec, one.mount).lower(),
            free=ROOM if one.mount in booted and one.size is None and not one.free else one.free,
        )
        for _mount, one in sorted(found.items())
    )


def written_at_boot(spec: Spec) -> set[str]:
    """The mount points of disks that a system writes to before these have taken their room."""
    return {
        part.mount
        for disk in spec.disks
        for part in disk.filesystems
        if disk.loader != "none" and part.mount in ("/", "/var", "/var/log")
        if not (disk.verity and part.mount == "/")
    }


def on_disks(spec: Spec) -> set[str]:
    """The mount points that a partition holds."""
    return {part.mount for disk in spec.disks for part in disk.filesystems}


def filesystem_stage(
    image: Image, mounts: Sequence[str], tree: Sequence[Stage], host: Host
) -> Stage:
    """A raw filesystem, for disks and for an image of the same mount point."""
    made = _made(image, mounts)
    tools = {name: host.tools[name] for name in sorted(FILESYSTEMS[image.format].keyed)}
    return stage_of(
        "filesystem", image.mount, ".img", {**made, "tools": tools}, parent=tree[-1], on=tree
    )


def image_stage(image: Image, mounts: Sequence[str], tree: Sequence[Stage], host: Host) -> Stage:
    """An image: its filesystem, filled from the tree, and packed."""
    inputs = {
        **_made(image, mounts),
        "container": image.container,
        "level": keyed_level(image.container, image.level),
        "tools": {name: host.tools[name] for name in sorted(image_tools(image))},
    }
    suffix = f".img{ENDING[image.container]}"
    return stage_of("image", image.mount, suffix, inputs, parent=tree[-1], on=tree)


def packed_stage(image: Image, filesystem: Stage, host: Host) -> Stage:
    """An image whose filesystem a disk has, too: only packed."""
    tools = sorted(container_tools(image.container, image.level))
    inputs = {
        "mount": image.mount,
        "filesystem": filesystem.key,
        "format": image.format,
        "container": image.container,
        "level": keyed_level(image.container, image.level),
        "tools": {name: host.tools[name] for name in tools},
    }
    return stage_of("image", image.mount, f".img{ENDING[image.container]}", inputs, on=[filesystem])


def _made(image: Image, mounts: Sequence[str]) -> Mapping[str, Any]:
    """All that a filesystem is made of but for the tree and the versions of tools."""
    prefix = image.mount.rstrip("/") + "/"
    kind = FILESYSTEMS[image.format]
    words = options.separate(image.options, kind.permitted)
    return {
        "mount": image.mount,
        "below": sorted(m for m in mounts if m != image.mount and m.startswith(prefix)),
        "format": image.format,
        "pack": image.pack,
        "label": image.label,
        "uuid": image.uuid,
        # What they mean to its mkfs: `-m0` is `-m 0`.
        "options": kind.meaning(words),
        "size": image.size,
        "free": image.free,
    }
