"""A disk as people take it: raw, qcow2, VHD or VMDK, packed or not; and a raw file's block map.

scratch/ENTRY.disk ─→ qemu-img, or a footer ─→ gzip | zstd | xz | as it is ─→ the cache
                                               (one read: digests)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..formats import bmap, compress, extents, qcow2, vhd, vmdk
from ..host import holes
from ..host.files import remove
from ..host.process import run
from ..plan import fstab
from ..plan.stage import Stage
from ..plan.top_jobs import FileJob
from ..store.stale import made_of
from . import disk as disks
from . import parts
from .facts import common


def build(job: FileJob, builder: Builder) -> None:
    """Make a file of a disk, which is in scratch, and put it into the cache."""
    if job.raw is not None:
        _keep_map(job, job.raw, builder)
        return
    disk = disks.ensured(job.disk, builder)
    make = None if job.file.format == "raw" else MAKERS[job.file.format]
    folder = builder.scratch / f"{job.stage.entry}.file"
    remove(folder)
    folder.mkdir(mode=0o700)
    try:
        source = disk
        if make is not None:
            source = folder / vmdk.NAME
            make(job, builder, disk, source)
        _keep(job, builder, source, disk)
    finally:
        remove(folder)


def _keep_map(job: FileJob, raw: Stage, builder: Builder) -> None:
    """Put the block map into the cache that was found when its raw file was made."""
    entry = builder.cache.require(raw)
    size = entry.facts["raw"]["size"]
    facts = {"format": "bmap", "container": "raw", "disk": {"size": size}}
    with parts.work_folder(job, builder, "file") as folder:
        text = folder / "map"
        text.write_text(entry.facts["bmap"], encoding="ascii")
        parts.keep(job, builder, text, {**facts, **made_of((raw, entry))})


def _keep(job: FileJob, builder: Builder, source: Path, disk: Path) -> None:
    """Pack it into the cache, with what its record has."""
    file, cache, log = job.file, builder.cache, builder.log
    facts: dict[str, Any] = {
        "format": file.format,
        "container": file.container,
        "disk": {"size": disk.stat().st_size},
        **({"bmap": _map(job, builder, disk)} if file.bmap else {}),
        **common(job, builder),
    }
    total = source.stat().st_size
    if file.container == "raw":
        log.need_room("cache", holes.used(source), f"keeping file {file.name}")
    log.step(f"packing {total / 1e6:.0f} MB")

    def far(done: int) -> None:
        log.count(100 * done // (total or 1), 100, "percent")

    digest: list[str] = []
    with cache.put(job.stage, facts, lambda: digest[0], doubtful=builder.doubtful(job)) as target:
        packed = compress.compress(
            source, target, container=file.container, level=file.level, progress=far
        )
        facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
        digest.append(packed.container.sha256)


# ---------------------------------------------------------------- formats


def _need_room(job: FileJob, builder: Builder, disk: Path) -> None:
    what = f"making {job.file.format} of disk {job.disk.disk.name}"
    builder.log.need_room("scratch", holes.used(disk), what)


def _convert(job: FileJob, builder: Builder, disk: Path, target: Path, *how: str) -> None:
    """Let qemu-img write another format, told what it reads: of a raw disk it follows no name.

    Without -W: out of order, the same content has other bytes each time.
    """
    _need_room(job, builder, disk)
    builder.log.step(f"converting to {job.file.format}")
    argv = ["qemu-img", "convert", "-f", "raw", *how, str(disk), str(target)]
    with builder.log.watched(holes.used(disk), "percent", lambda: target.stat().st_blocks * 512):
        run(argv, log=builder.log, what=f"qemu-img, which makes file {job.file.name},")


def _qcow2(job: FileJob, builder: Builder, disk: Path, target: Path) -> None:
    _convert(job, builder, disk, target, "-O", "qcow2", "-c", "-o", ",".join(qcow2.OPTIONS))


def _vmdk(job: FileJob, builder: Builder, disk: Path, target: Path) -> None:
    _convert(job, builder, disk, target, "-O", "vmdk", "-o", ",".join(vmdk.OPTIONS))
    with target.open("r+b") as file:
        vmdk.settle(file, job.disk.stage.key)


def _vhd(job: FileJob, builder: Builder, disk: Path, target: Path) -> None:
    """The disk and a footer."""
    size = disk.stat().st_size
    if size > vhd.LARGEST:
        raise BuildError(
            f"{job.spec}: disks.{job.disk.disk.name}: {size >> 30} GiB are more than a VHD holds, "
            f"which is {vhd.LARGEST >> 30} GiB",
            "make the disk smaller, or publish it in another format",
        )
    _need_room(job, builder, disk)
    builder.log.step("copying the disk")
    with disk.open("rb") as source, target.open("wb") as copy:
        extents.put(source.fileno(), size, copy.fileno(), 0)
        extents.write(copy.fileno(), vhd.footer(size, fstab.uuid_of(job.disk.stage.key)), size)


def _map(job: FileJob, builder: Builder, disk: Path) -> str:
    builder.log.step("mapping blocks")
    spans = disks.spans(builder, job.disk.stage)
    with disk.open("rb") as file:
        return bmap.text_of(file.fileno(), os.fstat(file.fileno()).st_size, spans)


Maker = Callable[[FileJob, Builder, Path, Path], None]

MAKERS: dict[str, Maker] = {"qcow2": _qcow2, "vhd": _vhd, "vmdk": _vmdk}
"""What makes each format but raw, which the disk is."""
