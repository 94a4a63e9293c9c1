"""Small disks, the parts that are put into them, and a builder that has these in its cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from support.entries import IMAGE_FACTS
from tasks.builder import Builder, Reach
from tasks.host.log import Log
from tasks.plan.containers import ENDING
from tasks.plan.disks import SUFFIX
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import DiskJob, FileJob
from tasks.rootfs.overlay import Trees
from tasks.spec.disks import Disk, DiskFile, Partition
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

MIB = 1 << 20

LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"

TYPES = {
    "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bios": "21686148-6449-6e6f-744e-656564454649",
    "swap": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
}

MBR_TYPES = {"esp": "ef", "swap": "82"}

GUID = "11223344-5566-4788-99aa-bbccddeeff00"

SWAP = "0a1b2c3d-4e5f-4061-8293-a4b5c6d7e8f9"


def part(name: str, size: int | None = None, kind: str = "filesystem", **fields: Any) -> Partition:
    return Partition(name=name, kind=kind, size=size, **fields)


def disk(*partitions: Partition, size: int | None = None, **fields: Any) -> Disk:
    return Disk(name="server", size=size, partitions=partitions, **fields)


def guid_of(name: str) -> str:
    """A GUID for each name; its first three fields are no palindromes."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    ends = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    return "-".join(digits[begin:end] for begin, end in ends)


def content(size: int, seed: int = 1) -> bytes:
    """Noise at both ends, zeros between them, but for one byte in the middle."""
    noise = Random(seed).randbytes(min(size // 3, 50_000))
    half = (size - 2 * len(noise)) // 2
    return noise + bytes(half) + b"x" + bytes(size - 2 * len(noise) - half - 1) + noise


def grub(core_sectors: int = 200) -> bytes:
    """Stand-ins of boot.img and a core, no byte of which is what a disk has there."""
    boot = bytearray(Random(7).randbytes(512))
    boot[510:] = b"\x55\xaa"
    return bytes(boot) + Random(8).randbytes(core_sectors * 512)


def stage(kind: str, name: str, suffix: str, **inputs: Any) -> Stage:
    key = hashlib.sha256(f"{kind} {name} {suffix} {inputs}".encode()).hexdigest()[:32]
    return Stage(kind=kind, name=name, key=key, inputs={"stage": kind, **inputs}, suffix=suffix)


def builder(folder: Path) -> Builder:
    scratch, project = folder / "scratch", folder / "project"
    for one in (scratch, project):
        one.mkdir(parents=True)
    cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
    return Builder(
        cache=cache,
        scratch=scratch,
        trees=Trees(scratch / "trees", cache),
        log=Log(None, places={"scratch": scratch, "cache": folder}),
        reach=Reach(arch="amd64", root=project),
        state=folder,
    )


def put(into: Builder, name: str, data: bytes, *, private: bool = False, **how: Any) -> Stage:
    """A part in the cache: of a kind that the store knows, since it does not matter to a disk."""
    one = stage("image", name, ".img")
    with into.cache.put(one, {**IMAGE_FACTS, "private": private}, **how) as target:
        target.write_bytes(data)
    return one


def disk_job(
    made: Disk,
    parts: Mapping[str, Stage],
    *,
    sources: Mapping[str, Path] | None = None,
    uuids: Mapping[str, str] | None = None,
) -> DiskJob:
    known = MBR_TYPES if made.table == "mbr" else TYPES
    other = "83" if made.table == "mbr" else LINUX
    found = {name: path.read_bytes() for name, path in (sources or {}).items()}
    digests = {name: [hashlib.sha256(one).hexdigest(), len(one)] for name, one in found.items()}
    return DiskJob(
        stage=stage("disk", made.name, "", disk=repr(made), sources=digests),
        spec="specs/web.yaml",
        arch="amd64",
        disk=made,
        guid=GUID,
        guids={one.name: guid_of(one.name) for one in made.partitions},
        types={one.name: one.type or known.get(one.kind, other) for one in made.partitions},
        parts=parts,
        sources=sources or {},
        uuids=uuids or {},
    )


def file_job(
    of: DiskJob, format: str, container: str = "raw", level: str = "default", *, bmap: bool = False
) -> FileJob:
    file = DiskFile(
        name=f"server.{format}", format=format, container=container, level=level, bmap=bmap
    )
    return FileJob(
        stage=stage(
            "file",
            file.name,
            SUFFIX[format] + ENDING[container],
            container=container,
            disk=of.stage.key,
            **({"bmap": True} if bmap else {}),
        ),
        spec=of.spec,
        arch=of.arch,
        made_of=tuple(of.parts.values()),
        disk=of,
        file=file,
    )


def map_job(raw: FileJob) -> FileJob:
    """The block map of a raw file that was made with one."""
    name = f"{raw.file.name}.bmap"
    return FileJob(
        stage=stage("file", name, ".bmap", file=raw.stage.key),
        spec=raw.spec,
        arch=raw.arch,
        made_of=(raw.stage,),
        disk=raw.disk,
        file=DiskFile(name=name, format="bmap"),
        raw=raw.stage,
    )
