"""A whole disk, in scratch: the table, boot code and all that lies in partitions, holes between.

    cache files of the parts ─┐
    files of the project ─────┼─→ layout ─→ scratch/ENTRY.disk, scratch/ENTRY.spans
    table, GRUB, swap headers ┘

It is no entry of the cache: what is published of it is (stages/file.py), and each of its parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..builder import Builder
from ..errors import BuildError
from ..formats import bootsector, extents, gpt, mbr, swap
from ..host import files, holes, safe
from ..plan import layout
from ..plan.layout import Layout, TooSmall
from ..plan.stage import Stage
from ..plan.top_jobs import DiskJob
from ..spec.disks import CORE, MIB, Partition
from ..store.record import Entry
from .sound import rotten

_WRITING = threading.Lock()


def path(scratch: Path, stage: Stage) -> Path:
    """Where a disk's file is, or will be."""
    return scratch / f"{stage.entry}.disk"


def _spans(scratch: Path, stage: Stage) -> Path:
    return scratch / f"{stage.entry}.spans"


def spans(builder: Builder, stage: Stage) -> list[tuple[int, int]]:
    """Begin and end of all that belongs to a part of a disk that was made, in order.

    Between these, and only there, it does not matter what a device holds that gets the disk.
    """
    told = json.loads(_spans(builder.scratch, stage).read_bytes())
    return [(begin, end) for begin, end in told]


def ensured(job: DiskJob, builder: Builder) -> Path:
    """The file of a disk, which is written unless it is there: a fleet's worker has none yet."""
    with _WRITING:
        if not path(builder.scratch, job.stage).is_file():
            build(job, builder)
    return path(builder.scratch, job.stage)


# ---------------------------------------------------------------- the stage


def build(job: DiskJob, builder: Builder) -> None:
    """Write a disk into scratch; the same bytes again where it is there already."""
    with contextlib.ExitStack() as opened:
        disk = _opened(job, builder, opened)
        builder.log.need_room("scratch", disk.used, f"writing disk {job.disk.name}")
        target = path(builder.scratch, job.stage)
        # No sync: scratch does not outlive this process. What is told of it is there before it.
        with files.written(target, mode=0o600, sync=False) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, disk.layout.size)
                found = _joined(sorted(_write(disk, builder, descriptor)))
            finally:
                os.close(descriptor)
            with files.written(_spans(builder.scratch, job.stage), sync=False) as beside:
                beside.write_text(json.dumps(found), encoding="ascii")


def _joined(found: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same spans, in order, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for begin, end in found:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file of the project that a partition holds, opened, and what it must be."""

    path: Path
    descriptor: int
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class _Disk:
    """A disk to be written, all that is put into it at hand."""

    job: DiskJob
    parts: Mapping[str, Entry]
    sources: Mapping[str, _Source]
    layout: Layout

    @property
    def used(self) -> int:
        """Bytes that it takes in scratch, about: what its parts' files take."""
        parts = sum(holes.used(entry.path) for entry in self.parts.values())
        return parts + sum(source.size for source in self.sources.values())


def _opened(job: DiskJob, builder: Builder, opened: contextlib.ExitStack) -> _Disk:
    """All that a disk is made of, found and opened, and its layout; BuildError of what is wrong."""
    parts = {name: builder.cache.require(stage) for name, stage in job.parts.items()}
    sources = {name: _source(job, builder, name, opened) for name in sorted(job.sources)}
    needs = {name: entry.size for name, entry in parts.items()}
    needs |= {name: source.size for name, source in sources.items()}
    where = f"{job.spec}: disks.{job.disk.name}"
    try:
        found = layout.lay(job.disk, needs | dict.fromkeys(job.uuids, swap.LEAST))
    except TooSmall as error:
        at = f"{where}.partitions.{error.name}.size" if error.name else f"{where}.size"
        if job.disk.table == "mbr" and error.name == CORE:
            at = f"{where}.table"
        raise error.retold(lambda text: f"{at}: {text}") from error
    except BuildError as error:
        raise error.retold(lambda text: f"{where}: {text}") from error
    return _Disk(job=job, parts=parts, sources=sources, layout=found)


def _source(job: DiskJob, builder: Builder, name: str, opened: contextlib.ExitStack) -> _Source:
    """A file of the project, opened through no link that leads out of it."""
    given = job.sources[name]
    where = f"{job.spec}: disks.{job.disk.name}.partitions.{name}.source"
    sha256, size = job.stage.inputs["sources"][name]
    try:
        if name in job.held:
            descriptor = _in_memory(job.held[name])
        else:
            descriptor = safe.inside(given, builder.reach.root)
    except OSError as error:
        raise BuildError(f"{where}: {given} cannot be read: {error.strerror}") from error
    opened.callback(os.close, descriptor)
    if os.fstat(descriptor).st_size != size:
        raise _changed(where, given)
    return _Source(path=given, descriptor=descriptor, sha256=sha256, size=size)


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("source")
    try:
        extents.write(descriptor, content, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _changed(where: str, given: Path) -> BuildError:
    return BuildError(
        f"{where}: {given} was changed since the build began", "run the same command again"
    )


# ---------------------------------------------------------------- writing


def _write(disk: _Disk, builder: Builder, target: int) -> Iterator[tuple[int, int]]:
    """Write all of it; the spans that it takes, in no order."""
    log, job = builder.log, disk.job
    for offset, content in _pieces(disk):
        extents.write(target, content, offset)
        yield offset, offset + len(content)
    for slot in disk.layout.slots:
        if slot.kind in ("swap", "empty"):
            # Holes, so that no file is larger; a map has them written, or signs of what a used
            # device had there would be found beside our own, and be believed.
            yield slot.first, slot.first + min(MIB, slot.size)
            yield slot.end - min(MIB, slot.size), slot.end
    for name, entry in sorted(disk.parts.items()):
        with open(safe.reading(entry.path), "rb") as file:
            log.step(f"copying {name}, {entry.size / 1e6:.0f} MB")
            if _is_core(disk, name):
                sha256, found = _put_core(disk, file.read(entry.size), target)
            else:
                first = disk.layout.slot(name).first
                sha256 = extents.put(file.fileno(), entry.size, target, first)
                found = [(first, first + entry.size)]
        if sha256 != entry.sha256:
            raise rotten(job.parts[name], entry, builder)
        yield from found
    for name, source in sorted(disk.sources.items()):
        log.step(f"copying {name}, {source.size / 1e6:.0f} MB")
        first = disk.layout.slot(name).first
        if extents.put(source.descriptor, source.size, target, first) != source.sha256:
            where = f"{job.spec}: disks.{job.disk.name}.partitions.{name}.source"
            raise _changed(where, source.path)
        yield first, first + source.size


def _is_core(disk: _Disk, name: str) -> bool:
    """Whether this part is GRUB for BIOS, of which one half goes into the first sector."""
    if disk.job.disk.table == "mbr":
        return name == CORE
    return disk.layout.slot(name).kind == "bios"


def _put_core(disk: _Disk, image: bytes, target: int) -> tuple[str, list[tuple[int, int]]]:
    """Write GRUB for BIOS into its place; the digest of what its stage made, and its spans."""
    assert disk.layout.core is not None
    pieces = bootsector.placed(image, disk.layout.core)
    for offset, content in pieces:
        extents.write(target, content, offset)
    found = [(offset, offset + len(content)) for offset, content in pieces]
    return hashlib.sha256(image).hexdigest(), found


def _pieces(disk: _Disk) -> list[tuple[int, bytes]]:
    """The table and headers of swap areas: (offset, bytes)."""
    job = disk.job
    swaps = [(disk.layout.slot(name), uuid) for name, uuid in sorted(job.uuids.items())]
    found = [(slot.first, swap.header(slot.size, uuid)) for slot, uuid in swaps]
    return [*_table(disk), *found]


def _table(disk: _Disk) -> list[tuple[int, bytes]]:
    job, sector = disk.job, disk.job.disk.sector
    pairs = list(zip(job.disk.partitions, disk.layout.slots, strict=True))
    if job.disk.table == "mbr":
        active = _active(job)
        rows = [
            mbr.Entry(
                type=job.types[slot.name],
                first=slot.first,
                size=slot.size,
                active=slot.name == active,
            )
            for _one, slot in pairs
        ]
        return mbr.table(int(job.guid[:8], 16), rows, sector=sector)
    entries = [
        gpt.Entry(
            name=slot.name,
            type=job.types[slot.name],
            guid=job.guids[slot.name],
            first=slot.first,
            size=slot.size,
            attributes=_attributes(one),
        )
        for one, slot in pairs
    ]
    return gpt.tables(disk.layout.size, job.guid, entries, sector=sector)


def _attributes(partition: Partition) -> int:
    return gpt.GROW if partition.grow and partition.kind == "filesystem" else 0


def _active(job: DiskJob) -> str:
    """The partition that old BIOSes want to be marked: that of /boot, or else of /; "" for none."""
    by_mount = {one.mount: one.name for one in job.disk.partitions if one.mount}
    return by_mount.get("/boot") or by_mount.get("/") or ""
