"""The jobs of a plan's stages above the tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..spec.disks import Disk, DiskFile
from ..spec.model import Spec
from .boot_tests import booted_file, script_of, tests_of
from .disks import block_map
from .filesystems import filesystems
from .job import ImageJob, Job
from .stage import TREE, Plan, Stage
from .top_jobs import (
    BiosJob,
    BlobJob,
    DiskJob,
    EspJob,
    ExportJob,
    FileJob,
    FilesystemJob,
    TestJob,
    VerityJob,
)


def top_job(stage: Stage, spec: Spec, plan: Plan) -> Job:
    """The job of a stage above the tree."""
    return _JOBS[stage.kind](stage, spec, plan)


def _common(stage: Stage, spec: Spec, plan: Plan) -> dict[str, Any]:
    below = plan.below(stage)
    return {
        "stage": stage,
        "spec": str(spec.path),
        "arch": spec.arch,
        "foreign": spec.foreign,
        "below": tuple(one for one in below if one.kind in TREE),
        "made_of": tuple(one for one in plan.parts(stage) if one.kind not in TREE),
    }


def _filesystem(stage: Stage, spec: Spec, plan: Plan) -> Job:
    image = next(one for one in filesystems(spec) if one.mount == stage.name)
    esps = {disk.of_kind("esp") for disk in spec.disks}
    bare = sorted(esp.mount for esp in esps if esp is not None and esp.mount)
    return FilesystemJob(**_common(stage, spec, plan), image=image, bare=tuple(bare))


def _image(stage: Stage, spec: Spec, plan: Plan) -> Job:
    image = next(one for one in filesystems(spec) if one.mount == stage.name)
    if "uuid" in stage.inputs:  # the one that fstab names
        image = replace(image, uuid=stage.inputs["uuid"])
    below = [one for one in plan.below(stage) if one.kind == "filesystem"]
    return ImageJob(
        **_common(stage, spec, plan), image=image, filesystem=below[0] if below else None
    )


def disk_of(spec: Spec, name: str) -> Disk:
    """A disk of the spec by its name."""
    return next(one for one in spec.disks if one.name == name)


def _esp(stage: Stage, spec: Spec, plan: Plan) -> Job:
    disk = disk_of(spec, stage.name)
    hashes = [one for one in plan.below(stage) if one.kind == "verity"]
    inputs = stage.inputs
    return EspJob(
        **_common(stage, spec, plan),
        disk=disk,
        size=inputs["size"],
        serial=inputs["serial"],
        texts=inputs["texts"],
        cmdline=inputs["cmdline"],
        verity=hashes[0] if hashes else None,
    )


def _bios(stage: Stage, spec: Spec, plan: Plan) -> Job:
    return BiosJob(
        **_common(stage, spec, plan),
        config=stage.inputs["config"],
        modules=tuple(stage.inputs["modules"]),
    )


def _verity(stage: Stage, spec: Spec, plan: Plan) -> Job:
    (filesystem,) = plan.below(stage)
    return VerityJob(
        **_common(stage, spec, plan),
        filesystem=filesystem,
        uuid=stage.inputs["uuid"],
        salt=stage.inputs["salt"],
    )


def _disk(stage: Stage, spec: Spec, plan: Plan) -> DiskJob:
    disk = disk_of(spec, stage.name)
    by_key = {one.key: one for one in plan.below(stage)}
    rows = stage.inputs["partitions"]
    return DiskJob(
        **_common(stage, spec, plan),
        disk=disk,
        guid=stage.inputs["guid"],
        guids={row["name"]: row["guid"] for row in rows},
        types={row["name"]: row["type"] for row in rows},
        parts={name: by_key[key] for name, key in stage.inputs["parts"].items()},
        sources={one.name: one.source for one in disk.partitions if one.source is not None},
        uuids={row["name"]: row["uuid"] for row in rows if "uuid" in row},
    )


def _file(stage: Stage, spec: Spec, plan: Plan) -> Job:
    (disk,) = plan.below(stage)
    raw = disk if disk.kind == "file" else None
    if raw is not None:
        (disk,) = plan.below(raw)
    files: dict[str, DiskFile] = {}
    for one in disk_of(spec, disk.name).files:
        files[one.name] = one
        name = block_map(one.name)
        files.setdefault(name, DiskFile(name=name, format="bmap"))
    return FileJob(
        **_common(stage, spec, plan),
        disk=_disk(disk, spec, plan),
        file=files[stage.name],
        raw=raw,
    )


def _blob(stage: Stage, spec: Spec, plan: Plan) -> Job:
    *_, tree = plan.below(stage)
    return BlobJob(
        **_common(stage, spec, plan),
        tree=tree,
        container=stage.inputs["container"],
        level=stage.inputs["level"],
    )


def _export(stage: Stage, spec: Spec, plan: Plan) -> Job:
    export = next(one for one in spec.exports if one.name == stage.name)
    blobs = tuple(one for one in plan.below(stage) if one.kind == "blob")
    return ExportJob(**_common(stage, spec, plan), export=export, name=spec.name, blobs=blobs)


def _test(stage: Stage, spec: Spec, plan: Plan) -> Job:
    (file,) = plan.below(stage)
    return boot_job(stage, spec, file)


def boot_job(stage: Stage, spec: Spec, file: Stage) -> TestJob:
    """What a test's stage is made of; `file` is the booted file's stage, and no tree is read."""
    disk = next(one for one in spec.disks if one.name == stage.inputs["disk_name"])
    name = stage.inputs["firmware"]
    booted = disk.files[booted_file(disk)]
    tests = tests_of(spec, disk, name)
    return TestJob(
        stage=stage,
        spec=str(spec.path),
        arch=spec.arch,
        foreign=spec.foreign,
        made_of=(file,),
        disk=disk,
        file=file,
        format=booted.format,
        container=booted.container,
        firmware=name,
        tests=tests,
        scripts=tuple(script_of(one, spec) for one in tests),
    )


_JOBS = {
    "filesystem": _filesystem, "image": _image, "verity": _verity, "esp": _esp, "bios": _bios,
    "disk": _disk, "file": _file, "blob": _blob, "export": _export, "test": _test,
}  # fmt: skip
