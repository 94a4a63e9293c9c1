"""`disks`, `exports` and `tests` of a spec → the model: defaults, and what is added by itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BuildError
from .disks import (
    BIOS_SIZE,
    BootTest,
    Disk,
    DiskFile,
    Export,
    OciConfig,
    Partition,
)
from .images import Image
from .sizes import size_of

Find = Callable[[str], Path]
"""Where a path of the spec is."""

ESP_MOUNTS = ("/boot/efi", "/efi")

UNMADE = ("lvm", "luks")
"""What a partition is not made into: disk_rules says where that is done."""


def disks_of(
    document: Mapping[str, Any], images: Sequence[Image], find: Find, path: Path
) -> tuple[Disk, ...]:
    """The disks, by name; `images` are those of the spec, which is at `path`.

    BuildError for fields of a partition that would have no effect.
    """
    by_mount = {one.mount: one for one in images}
    return tuple(
        _disk(name, fields, by_mount, find, f"{path}: disks.{name}")
        for name, fields in sorted(document.get("disks", {}).items())
    )


def _disk(
    name: str, fields: Mapping[str, Any], images: Mapping[str, Image], find: Find, where: str
) -> Disk:
    firmware = tuple(fields.get("firmware", ("uefi",)))
    loader, table = fields.get("loader", "grub"), fields.get("table", "gpt")
    verity = fields.get("verity", False)
    given = fields.get("partitions") or _default(firmware, loader, verity=verity)
    for one in given:
        _check_effect(one, images, f"{where}.partitions.{one['name']}")
    partitions = [_partition(one, images, find) for one in given]
    bios = "bios" in firmware and loader == "grub" and table == "gpt"
    if bios and not any(one.kind == "bios" for one in partitions):
        partitions.insert(0, Partition(name="bios", kind="bios", size=BIOS_SIZE))
    if verity:
        partitions = [part for one in partitions for part in (one, *_hashes(one))]
    size = fields.get("size", "fit")
    return Disk(
        name=name,
        size=None if size == "fit" else size_of(size),
        slack=size_of(fields.get("slack")) or 0,
        table=table,
        firmware=firmware,
        loader=loader,
        cmdline=fields.get("cmdline", ""),
        sector=fields.get("sector", 512),
        partitions=tuple(partitions),
        verity=verity,
        files=tuple(_file(*one) for one in sorted(fields["files"].items())),
    )


def _default(firmware: Sequence[str], loader: str, *, verity: bool) -> list[dict[str, Any]]:
    """The partitions of a disk that names none."""
    esp = [{"name": "esp", "mount": "/boot/efi"}] if "uefi" in firmware and loader != "none" else []
    root = {"name": "root", "mount": "/"}
    return [*esp, root if verity else {**root, "size": "rest", "grow": True}]


def _hashes(part: Partition) -> list[Partition]:
    """The partition of the hash tree, right behind that of the root."""
    return [Partition(name=f"{part.name}-verity", kind="verity")] if part.mount == "/" else []


def _partition(fields: Mapping[str, Any], images: Mapping[str, Image], find: Find) -> Partition:
    mount, size = fields.get("mount", ""), fields.get("size")
    kind = _kind(fields)
    made = kind == "filesystem"
    type_ = fields.get("type", "").lower()
    return Partition(
        name=fields["name"],
        kind=kind,
        mount=mount,
        size=None if size in (None, "rest") else size_of(size),
        rest=size == "rest",
        grow=fields.get("grow", False),
        image=(images.get(mount) or _image(mount, fields)) if made else None,
        source=find(fields["source"]) if "source" in fields else None,
        type="" if type_ == "esp" else type_,
    )


MADE_BY_FIELDS = ("format", "label", "uuid", "options")
"""What a partition says of its filesystem."""

EFFECTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "source": (("mount", "size", "type"), "its content is the file"),
    "swap": (("size", "type", "format", "mount"), "it is swap"),
    "bios": (("size", "type"), "GRUB's core alone is in it"),
    "esp": (("mount", "size", "type", "format"), "the boot loader alone is in it"),
    "empty": (("size", "type"), "nothing is mounted there"),
    "filesystem": (("mount", "size", "type", "grow", *MADE_BY_FIELDS), ""),
}
"""By kind the fields that have an effect on a partition, and why others have none."""


def _check_effect(fields: Mapping[str, Any], images: Mapping[str, Image], where: str) -> None:
    kind = _kind(fields)
    takes, why = EFFECTS[kind]
    if kind == "filesystem" and fields["mount"] in images:
        takes = tuple(one for one in takes if one not in MADE_BY_FIELDS)
        why = f"images.{fields['mount']} says how its filesystem is made"
    for name in fields:
        if name not in ("name", "source", *takes):
            remedy = "leave it out, or give it a mount point" if kind == "empty" else "leave it out"
            raise BuildError(f"{where}.{name}: it has no effect: {why}", remedy)
    if kind == "esp" and fields.get("format", "vfat") != "vfat":
        raise BuildError(f"{where}.format: an EFI system partition is a vfat", "leave it out")


def _kind(fields: Mapping[str, Any]) -> str:
    name, mount = fields["name"], fields.get("mount", "")
    if "source" in fields:
        return "source"
    if fields.get("format") == "swap":
        return "swap"
    if name == "bios" and not mount and "format" not in fields:
        return "bios"
    if "esp" in (name, fields.get("type")) or mount in ESP_MOUNTS:
        return "esp"
    return "filesystem" if mount else "empty"


def _image(mount: str, fields: Mapping[str, Any]) -> Image:
    """How a partition's filesystem is made; ext's by mke2fs, which asks for no loop device."""
    form = fields.get("format", "ext4")
    return Image(
        mount=mount,
        file="",
        format=form,
        container="raw",
        level="default",
        pack="direct" if re.fullmatch("ext[234]", form) else "loop",
        label=fields.get("label", ""),
        uuid=fields.get("uuid", "").lower(),
        options=tuple(shlex.split(fields.get("options", ""))),
        size=None,
        free=None,
    )


def _file(name: str, fields: Mapping[str, Any]) -> DiskFile:
    return DiskFile(
        name=name,
        format=fields["format"],
        container=fields.get("container", "raw"),
        level=fields.get("level", "default"),
        bmap=fields.get("bmap", False),
    )


def exports_of(document: Mapping[str, Any]) -> tuple[Export, ...]:
    """The exports, by name."""
    return tuple(
        Export(
            name=name,
            format=fields["format"],
            container=fields.get("container", "gzip" if fields["format"] == "oci" else "raw"),
            level=fields.get("level", "default"),
            cmdline=fields.get("cmdline", ""),
            config=_config(fields.get("config", {})),
        )
        for name, fields in sorted(document.get("exports", {}).items())
    )


def _config(fields: Mapping[str, Any]) -> OciConfig:
    return OciConfig(
        user=fields.get("user", ""),
        cmd=tuple(fields.get("cmd", ())),
        entrypoint=tuple(fields.get("entrypoint", ())),
        env=fields.get("env", {}),
        labels=fields.get("labels", {}),
        workdir=fields.get("workdir", ""),
        ports=tuple(fields.get("ports", ())),
    )


def tests_of(
    document: Mapping[str, Any], disks: Sequence[Disk], find: Find
) -> tuple[BootTest, ...]:
    """The boot tests, each of one disk: of one that names none, one for each disk."""
    found = []
    for fields in document.get("tests", ()):
        named = [one for one in disks if fields.get("disk", one.name) == one.name]
        # Of a disk that there is not, rules say so: the test is kept for that.
        for name, firmware in [(one.name, one.firmware) for one in named] or [
            (fields.get("disk", ""), ())
        ]:
            found.append(
                BootTest(
                    script=find(fields["script"]),
                    disk=name,
                    firmware=tuple(fields.get("firmware", firmware)),
                    timeout=fields.get("timeout", 300),
                    memory=size_of(fields.get("memory")) or 1 << 30,
                )
            )
    return tuple(found)
