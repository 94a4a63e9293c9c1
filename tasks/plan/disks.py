"""The stages of whole disks: their parts, the disks themselves and the files they are kept in.

tree ─┬→ filesystem … ─┬→ verity ─┐
      ├→ esp ──────────┼──────────┼→ disk ─→ file …
      └→ bios ─────────┘          │
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..spec.disk_values import left
from ..spec.disks import CORE, Disk, DiskFile, Partition
from ..spec.model import Spec
from . import guids, loaders
from .containers import ENDING, container_tools, keyed_level
from .lockfile import Lock
from .recipes import stage_of
from .stage import Host, Product, Stage

SUFFIX = {"raw": ".img", "qcow2": ".qcow2", "vhd": ".vhd", "vmdk": ".vmdk", "bmap": ".bmap"}
"""Of a cache's file, by the format of a disk's."""

FORMAT_TOOL = {"raw": "", "qcow2": "qemu-img", "vhd": "", "vmdk": "qemu-img"}
"""What decides the bytes of a format, beside Strata."""


def disk_tools(spec: Spec) -> set[str]:
    """The tools whose versions are in the keys of a spec's disks."""
    found: set[str] = set()
    for disk in spec.disks:
        found |= loaders.tools(disk)
        for file in disk.files:
            found |= _file_tools(file)
    return found


def _file_tools(file: DiskFile) -> set[str]:
    return {FORMAT_TOOL[file.format], *container_tools(file.container, file.level)} - {""}


def disk_stages(
    spec: Spec, lock: Lock, host: Host, tree: Sequence[Stage], filesystems: Mapping[str, Stage]
) -> tuple[list[Stage], list[Product]]:
    """All stages of the spec's disks, and what is published of them, in the spec's order."""
    stages: list[Stage] = []
    products: list[Product] = []
    for disk in spec.disks:
        parts = _parts(spec, disk, lock, host, tree, filesystems)
        made = _disk(spec, disk, host, parts)
        stages += [one for one in parts.values() if one.kind != "filesystem"]
        stages.append(made)
        for file in disk.files:
            whole = _file(file, made, host)
            for stage in (whole, *([_block_map(file, whole)] if file.bmap else [])):
                stages.append(stage)
                products.append(Product(name=stage.name, stage=stage))
    return stages, products


def block_map(name: str) -> str:
    """What the block map of a file is called."""
    return f"{name}.bmap"


def _block_map(file: DiskFile, whole: Stage) -> Stage:
    """The map of a raw file, which that file's own stage finds: it has digests of those bytes."""
    inputs = {"file": whole.key, "format": "bmap"}
    return stage_of("file", block_map(file.name), SUFFIX["bmap"], inputs, on=[whole])


def _parts(
    spec: Spec,
    disk: Disk,
    lock: Lock,
    host: Host,
    tree: Sequence[Stage],
    filesystems: Mapping[str, Stage],
) -> dict[str, Stage]:
    """The stages of what a disk's partitions hold, by the partition's name."""
    found: dict[str, Stage] = {
        one.name: filesystems[one.mount] for one in disk.partitions if one.kind == "filesystem"
    }
    hashes = None
    if (verity := disk.of_kind("verity")) is not None:
        hashes = _verity(spec, disk, verity, filesystems["/"], host)
        found[verity.name] = hashes
    esp = disk.of_kind("esp")
    if esp is not None and disk.loader != "none":
        found[esp.name] = _esp(spec, disk, esp, lock, host, tree, hashes)
    if "bios" in disk.firmware and disk.loader == "grub":
        bios = disk.of_kind("bios")
        inputs = {**loaders.bios_inputs(spec, disk), "epoch": host.epoch}
        below = tree[: loaders.layer_of(disk, spec, lock, "bios", host.files)]
        found[bios.name if bios else CORE] = stage_of(
            "bios", disk.name, ".img", inputs, parent=below[-1], on=below
        )
    return found


def _verity(spec: Spec, disk: Disk, part: Partition, filesystem: Stage, host: Host) -> Stage:
    uuid = guids.verity_uuid(spec, disk)
    inputs = {
        **loaders.verity_inputs(filesystem, uuid=uuid, salt=guids.verity_salt(spec, disk)),
        **_tools(host, *loaders.VERITY_TOOLS),
    }
    return stage_of("verity", disk.name, ".verity", inputs, on=[filesystem])


def _esp(
    spec: Spec,
    disk: Disk,
    part: Partition,
    lock: Lock,
    host: Host,
    tree: Sequence[Stage],
    hashes: Stage | None,
) -> Stage:
    below = tree[: loaders.layer_of(disk, spec, lock, "esp", host.files)]
    size = part.size or left(disk)
    assert size is not None  # as spec.disk_rules has it
    inputs = {
        **loaders.esp_inputs(
            spec,
            disk,
            lock,
            size=size,
            serial=guids.esp_serial(spec, disk),
            verity=hashes,
        ),
        **_tools(host, *loaders.ESP_TOOLS),
        "epoch": host.epoch,
    }
    on = [*below, *([hashes] if hashes else [])]
    return stage_of("esp", disk.name, ".img", inputs, parent=below[-1], on=on)


def _tools(host: Host, *names: str) -> dict[str, Any]:
    return {"tools": {name: host.tools[name] for name in sorted(names)}}


def _disk(spec: Spec, disk: Disk, host: Host, parts: Mapping[str, Stage]) -> Stage:
    inputs = {
        "size": disk.size,
        "slack": disk.slack,
        "table": disk.table,
        "sector": disk.sector,
        "guid": guids.disk_guid(spec, disk),
        "partitions": [_partition(spec, disk, one) for one in disk.partitions],
        "parts": {name: stage.key for name, stage in parts.items()},
        "sources": dict(host.sources.get(disk.name, {})),
    }
    return stage_of("disk", disk.name, ".img", inputs, on=list(parts.values()))


def _partition(spec: Spec, disk: Disk, one: Partition) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "guid": guids.partition_guid(spec, disk, one.name),
        "type": guids.type_of(one, disk.table, spec.arch),
        "size": one.size,
        "rest": one.rest,
        "grow": one.grow,
        # An MBR marks what is booted from.
        "mount": one.mount,
        **({"uuid": guids.swap_uuid(spec, one.name)} if one.kind == "swap" else {}),
    }


def _file(file: DiskFile, disk: Stage, host: Host) -> Stage:
    inputs = {
        "disk": disk.key,
        "format": file.format,
        "container": file.container,
        "level": keyed_level(file.container, file.level),
        **({"bmap": True} if file.bmap else {}),
        **_tools(host, *_file_tools(file)),
    }
    return stage_of(
        "file", file.name, SUFFIX[file.format] + ENDING[file.container], inputs, on=[disk]
    )
