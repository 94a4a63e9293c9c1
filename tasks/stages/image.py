"""Layers → one filesystem image per mount point, compressed, digested; or a disk's, raw.

lower directories ─→ filling ─→ compress               (one read: digests, gzip)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..formats import compress
from ..host import holes
from ..plan.job import ImageJob, Job
from ..plan.top_jobs import FilesystemJob
from ..rootfs import paths
from ..spec.images import Image
from .facts import common
from .filling import filled
from .sound import rotten


def build(job: ImageJob, builder: Builder) -> None:
    """Make an image and put it into the cache."""
    log, image = builder.log, job.image
    if job.filesystem is not None:
        entry = builder.cache.require(job.filesystem)
        facts = {name: entry.facts[name] for name in CARRIED if name in entry.facts}

        def check(sha256: str) -> None:
            if sha256 != entry.sha256:
                assert job.filesystem is not None
                raise rotten(job.filesystem, entry, builder)

        _keep(job, image, builder, entry.path, facts, check)
        return
    with filled(job, image, builder, f"images.{image.mount}") as making:
        log.step(f"compressing {making.raw.stat().st_size / 1e6:.0f} MB")
        _keep(job, image, builder, making.raw, _facts(image, making.uuid))


def build_filesystem(job: FilesystemJob, builder: Builder) -> None:
    """Make a raw filesystem and put it into the cache, with holes."""
    image = job.image
    for point in job.bare:
        _check_bare(job, point, builder)
    with filled(job, image, builder, f"disks: the mount point {image.mount}") as making:
        _keep(job, image, builder, making.raw, _facts(image, making.uuid))


def _check_bare(job: FilesystemJob, point: str, builder: Builder) -> None:
    """BuildError where the tree has something below a mount point that nobody would see."""
    lower = builder.trees.lower(job.below, builder.log)
    top = point.strip("/")
    for path, _where in paths.merged(builder.trees.folder, lower, top, set()):
        if path and path.strip("/"):
            raise BuildError(
                f"{job.spec}: disks: the tree has {point}/{path.strip('/')}, and what is mounted "
                "there is made of the boot loader alone",
                "put the file elsewhere, or leave it out",
            )


CARRIED = ("uuid", "label", "format", "mount")
"""Facts that an image has of its filesystem."""


def _facts(image: Image, uuid: str) -> dict[str, Any]:
    return {"uuid": uuid, "label": image.label, "format": image.format, "mount": image.mount}


def _keep(
    job: Job,
    image: Image,
    builder: Builder,
    raw: Path,
    facts: dict[str, Any],
    check: Callable[[str], None] = lambda _sha256: None,
) -> None:
    """Compress it into the cache, with what a record of an image has.

    `check` gets the SHA-256 of what was read; what it raises leaves the cache without an entry.
    """
    stage, cache = job.stage, builder.cache
    container = image.container if stage.kind == "image" else "raw"
    if container == "raw":
        builder.log.need_room("cache", holes.used(raw), f"keeping {stage.title}")
    facts = {**facts, "container": container, **common(job, builder)}
    digest: list[str] = []
    with cache.put(stage, facts, lambda: digest[0], doubtful=builder.doubtful(job)) as target:
        total = raw.stat().st_size

        def far(done: int) -> None:
            builder.log.count(100 * done // (total or 1), 100, "percent")

        packed = compress.compress(
            raw, target, container=container, level=image.level, progress=far
        )
        check(packed.raw.sha256)
        facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
        digest.append(packed.container.sha256)
