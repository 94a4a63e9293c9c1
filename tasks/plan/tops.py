"""What stands on the tree: filesystems, images, disks with files, exports, boot tests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..spec.images import Image
from ..spec.model import Spec
from . import disks, exports
from .filesystems import filesystem_stage, image_stage, on_disks, packed_stage
from .image_version import published_files
from .lockfile import Lock
from .stage import Host, Product, Stage


@dataclass(frozen=True, kw_only=True)
class Tops:
    """The stages above a tree, each after those that it is made of, and what is published."""

    stages: tuple[Stage, ...]
    products: tuple[Product, ...]


def tops(spec: Spec, lock: Lock, host: Host, tree: Sequence[Stage], made: Sequence[Image]) -> Tops:
    """All above the tree; `made` are the filesystems of all mount points, with their UUIDs."""
    mounts = [one.mount for one in made]
    shared = on_disks(spec)
    filesystems = {
        one.mount: filesystem_stage(one, mounts, tree, host) for one in made if one.mount in shared
    }
    published = {image.mount for image in spec.images}
    images = [
        packed_stage(one, filesystems[one.mount], host)
        if one.mount in shared
        else image_stage(one, mounts, tree, host)
        for one in made
        if one.mount in published
    ]
    stages = [*filesystems.values(), *images]
    names = published_files(spec, host.version)
    products = [Product(name=name, stage=image) for name, image in zip(names, images, strict=True)]
    of_disks, files = disks.disk_stages(spec, lock, host, tree, filesystems)
    stages += of_disks
    products += files
    of_exports = exports.export_stages(spec, lock, tree, host)
    stages += of_exports
    named = {one.name: one for one in of_exports if one.kind == "export"}
    products += [
        Product(name=one.name, stage=named[one.name], folder=one.folder) for one in spec.exports
    ]
    if spec.tests:
        from . import boot_tests  # as in plan.tools_for

        stages += boot_tests.test_stages(spec, of_disks, host)
    return Tops(stages=tuple(stages), products=tuple(products))
