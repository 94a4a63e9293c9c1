"""Disks and exports as a spec writes them → their dataclasses.

What is added to a disk by itself is added here: default partitions, the one of GRUB for BIOS, and
that of dm-verity. What is wrong with the whole is told by disk_rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .boot_tests import FIRMWARE
from .disks import BIOS_SIZE, MIB, Disk, DiskFile, Export, OciConfig, Partition
from .images import Image
from .partitions import ESP_MOUNTS, Around, partition_of
from .sizes import size_in

SLACK = 256 * MIB
"""What a disk that is as small as it can be has to spare: a journal, and a package or two."""

Find = Callable[[str], Path]


def disks_of(
    path: Path, document: Mapping[str, Any], images: Sequence[Image], find: Find
) -> tuple[Disk, ...]:
    """The disks, in the order of their names; `find` says where a path of the spec is."""
    made = {image.mount: image for image in images}
    return tuple(
        _disk(name, disk, f"{path}: disks.{name}", made, find)
        for name, disk in sorted(document.get("disks", {}).items())
    )


def _disk(
    name: str, disk: Mapping[str, Any], where: str, images: Mapping[str, Image], find: Find
) -> Disk:
    loader, table = disk.get("loader", "grub"), disk.get("table", "gpt")
    given = disk.get("firmware", ("uefi",) if loader != "none" else ())
    firmware = tuple(one for one in FIRMWARE if one in given)
    verity = disk.get("verity", False)
    size = None if disk["size"] == "fit" else size_in(disk["size"])
    around = Around(where=where, table=table, loader=loader, images=images, find=find)
    entries = disk.get("partitions") or list(
        _default_partitions(images, esp="uefi" in firmware, grow=table == "gpt" and not verity)
    )
    partitions = [partition_of(entry, around) for entry in entries]
    kinds = {one.kind for one in partitions}
    if "bios" in firmware and table == "gpt" and loader == "grub" and "bios" not in kinds:
        partitions.insert(0, Partition(name="bios", kind="bios", size=BIOS_SIZE))
    if verity:
        partitions = list(_with_verity(partitions))
    open_ended = any(one.rest or (one.grow and one.size is None) for one in partitions)
    spare = SLACK if size is None and open_ended and not verity else 0
    made = Disk(
        name=name,
        size=size,
        slack=size_in(disk["slack"]) if "slack" in disk else spare,
        table=table,
        firmware=firmware,
        loader=loader,
        cmdline=" ".join(disk.get("cmdline", "").split()),
        sector=disk.get("sector", 512),
        partitions=tuple(partitions),
        verity=verity,
        files=tuple(_file(name, file) for name, file in sorted(disk["files"].items())),
    )
    return _filling(made)


def _default_partitions(
    images: Mapping[str, Image], *, esp: bool, grow: bool
) -> Iterator[Mapping[str, Any]]:
    """Those of a disk that names none, as a spec would: `/` is the last, and takes the rest."""
    if esp:
        yield {"name": "esp", "mount": ESP_MOUNTS[0]}
    for mount in sorted(set(images) - {"/"}):
        yield {"name": mount.strip("/").replace("/", "-"), "mount": mount}
    yield {"name": "root", "mount": "/", "size": "rest", "grow": grow}


def _with_verity(partitions: Sequence[Partition]) -> Iterator[Partition]:
    for one in partitions:
        yield one
        if one.kind == "filesystem" and one.mount == "/":
            yield Partition(name=f"{one.name}-verity", kind="verity")


def _filling(disk: Disk) -> Disk:
    """The same, where a vfat that takes the rest is made as large: it cannot grow when it runs."""
    partitions = [
        replace(one, image=replace(one.image, size=left(disk)))
        if one.rest and one.image is not None and one.image.format == "vfat" and not one.image.file
        else one
        for one in disk.partitions
    ]
    return replace(disk, partitions=tuple(partitions))


def left(disk: Disk) -> int | None:
    """Bytes for the partition that takes the rest; None if none does, or a size is not known.

    The first MiB is the table's, and of a GPT the last as well: partitions begin at whole MiB.
    """
    sizes = [one.size for one in disk.partitions if not one.rest]
    known = [size for size in sizes if size is not None]
    if disk.size is None or len(known) < len(sizes) or len(sizes) == len(disk.partitions):
        return None
    found = disk.size - MIB - sum(known) - (MIB if disk.table == "gpt" else 0)
    return found if found >= MIB else None


def _file(name: str, file: Mapping[str, Any]) -> DiskFile:
    return DiskFile(
        name=name,
        format=file["format"],
        container=file.get("container", "raw"),
        level=file.get("level", "default"),
        bmap=file.get("bmap", False),
    )


# ---------------------------------------------------------------- exports


def exports_of(document: Mapping[str, Any]) -> tuple[Export, ...]:
    """The exports, in the order of their names."""
    return tuple(
        Export(
            name=name,
            format=export["format"],
            container=export.get("container", "gzip" if export["format"] == "oci" else "raw"),
            level=export.get("level", "default"),
            cmdline=" ".join(export.get("cmdline", "").split()),
            config=_config(export.get("config", {})),
        )
        for name, export in sorted(document.get("exports", {}).items())
    )


def _config(config: Mapping[str, Any]) -> OciConfig:
    return OciConfig(
        user=config.get("user", ""),
        cmd=tuple(config.get("cmd", ())),
        entrypoint=tuple(config.get("entrypoint", ())),
        env={name: _text(value) for name, value in sorted(config.get("env", {}).items())},
        labels=dict(sorted(config.get("labels", {}).items())),
        workdir=config.get("workdir", ""),
        ports=tuple(_port(one) for one in config.get("ports", ())),
    )


def _text(value: str | int | bool) -> str:
    """A value as YAML has it, and not as Python writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _port(value: str | int) -> str:
    return str(value) if "/" in str(value) else f"{value}/tcp"
