"""A partition as a spec writes it → Partition, and what its fields may not say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from .disks import BIOS_SIZE, MIB, Partition
from .images import Image
from .sizes import shown, size_in, words_of
from .words import near

ESP_MOUNTS = ("/boot/efi", "/efi")
"""Where Debian's tools look for an EFI system partition that is not /boot itself."""

ESP_SIZE = {"grub": 64 * MIB, "systemd-boot": 256 * MIB, "uki": 256 * MIB, "none": 64 * MIB}
"""By loader: of the last but one and two, kernels lie on it, and a new one beside the old."""

TYPES = {
    "esp": ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"),
    "bios": ("21686148-6449-6e6f-744e-656564454649", ""),
    "linux": ("0fc63daf-8483-4772-8e79-3d69d8477de4", "83"),
    "swap": ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "82"),
}
"""Words for types: a GUID of the UEFI or the Discoverable Partitions Specification, and of an MBR
two hex digits, "" where it has none."""

NO_TYPE = ("00000000-0000-0000-0000-000000000000", "00")
"""An entry of these is no partition."""

EXTENDED = ("05", "0f", "85", "ee")
"""Of an MBR: what holds other partitions, or says that a GPT is there."""

FIELDS = {
    "esp": ("format", "mount"),
    "bios": (),
    "swap": ("format",),
    "source": ("source",),
    "empty": (),
    "filesystem": ("mount", "grow", "format", "label", "uuid", "options"),
}
"""By kind: what a partition may say beside name, size and type."""

CALLED = {
    "esp": "the EFI system partition is made by Strata",
    "bios": "this is where GRUB for BIOS lies",
    "swap": "this is swap, which Strata makes",
    "source": "this is written from a file as it is",
    "empty": "nothing is mounted there",
}

LATER = {
    "LVM": ("lvm", "lvm2", "lvm2_member"),
    "LUKS": ("luks", "luks1", "luks2", "crypto_luks", "crypt", "dm-crypt"),
    "RAID": ("raid", "mdraid", "mdadm", "linux_raid_member"),
    "ZFS": ("zfs", "zfs_member"),
}
"""What is made of the machine's own keys and disks, by names that people have for it."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a partition is read with: its disk's fields, and the filesystems of `images`."""

    where: str
    """The disk as messages name it."""
    table: str
    loader: str
    images: Mapping[str, Image]
    find: Callable[[str], Path]


def partition_of(entry: Mapping[str, Any], around: Around) -> Partition:
    """One partition; BuildError, with its place, for fields that contradict each other."""
    where = f"{around.where}.partitions.{entry['name']}"
    _check_format(entry, where)
    kind_type = _type(entry, around.table, where)
    kind = _kind(entry, kind_type)
    _check_fields(entry, kind, kind_type, where)
    given = entry.get("size")
    rest = given == "rest"
    size = None if rest or given is None else size_in(given)
    if size is None and not rest:
        size = _default_size(kind, around.loader, where)
    _check_whole(size, where)
    mount = entry.get("mount", "")
    if kind == "esp" and not mount and around.loader != "none":
        mount = ESP_MOUNTS[0]
    return Partition(
        name=entry["name"],
        kind=kind,
        mount=mount,
        size=size,
        rest=rest,
        grow=entry.get("grow", False),
        image=_image(entry, size, around, where) if kind == "filesystem" else None,
        source=around.find(entry["source"]) if kind == "source" else None,
        type=_written(kind, kind_type, around.table),
    )


def _check_format(entry: Mapping[str, Any], where: str) -> None:
    given = entry.get("format", "ext4")
    for name, words in LATER.items():
        if given.lower() in words:
            raise BuildError(
                f"{where}.format: {given!r}: an image has no {name}: its keys and identities must "
                "be each machine's own",
                "leave format out, so that the partition is empty, and make it at first boot "
                "(systemd-repart with Encrypt=, cloud-init) or by the installer (preseed), which "
                "can take the filesystems of `images`",
            )
    known = (*FILESYSTEMS, "swap")
    if given not in known:
        meant = near(given, known)
        raise BuildError(
            f"{where}.format: {given!r} is not one of {', '.join(known)}",
            f"did you mean {meant!r}?" if meant else "choose one of them, or leave it out",
        )


def _type(entry: Mapping[str, Any], table: str, where: str) -> str:
    """The type as a word where it has one, else as it is written in the table; "" for none."""
    given = entry.get("type", "").lower()
    if given in TYPES and table == "mbr" and not TYPES[given][1]:
        raise BuildError(
            f"{where}.type: an MBR has no such partition: GRUB for BIOS lies before the first one",
            "remove the partition",
        )
    if not given or given in TYPES:
        return str(given)
    if (len(given) == 2) != (table == "mbr"):
        wanted = 'two hex digits, such as "83"' if table == "mbr" else "a GUID"
        raise BuildError(
            f"{where}.type: {entry['type']!r} is no type of the table {table}",
            f"write {wanted}, or one of {', '.join(TYPES)}",
        )
    if given in NO_TYPE or (table == "mbr" and given in EXTENDED):
        raise BuildError(
            f"{where}.type: {entry['type']!r}: a table has no plain partition of this type",
            f"leave it out, or write one of {', '.join(TYPES)}",
        )
    return next((word for word, forms in TYPES.items() if given in forms), str(given))


def _written(kind: str, kind_type: str, table: str) -> str:
    """The type as Partition has it: "" where its kind says as much."""
    if kind_type == kind or kind_type not in TYPES:
        return "" if kind_type == kind else kind_type
    return TYPES[kind_type][table == "mbr"]


def _kind(entry: Mapping[str, Any], kind_type: str) -> str:
    if "source" in entry:
        return "source"
    name, mount, given = entry["name"].lower(), entry.get("mount", ""), entry.get("format", "")
    plain = not any(field in entry for field in FIELDS["filesystem"])
    if name == "esp" or kind_type == "esp" or mount in ESP_MOUNTS:
        return "esp"
    if kind_type == "bios" or (name == "bios" and plain and not kind_type):
        return "bios"
    if given == "swap" or (kind_type == "swap" and plain):
        return "swap"
    # A label alone, too: what it lacks is told then.
    return "filesystem" if not plain else "empty"


def _check_fields(entry: Mapping[str, Any], kind: str, kind_type: str, where: str) -> None:
    for field in ("mount", "grow", "format", "label", "uuid", "options"):
        if field not in entry or field in FIELDS[kind] or not entry[field]:
            continue
        raise BuildError(
            f"{where}.{field}: {CALLED[kind]}, so that it has no {field} of its own",
            "remove the field" + _instead(kind, field),
        )
    if kind == "esp":
        _check_esp(entry, kind_type, where)
    if kind == "bios" and kind_type not in ("", "bios"):
        raise BuildError(f"{where}.type: {CALLED['bios']}", "remove the field")
    if kind == "filesystem" and not entry.get("mount"):
        raise BuildError(
            f"{where}: a filesystem that nothing of the tree is in: missing field 'mount'",
            "name its mount point, or a file as its source, or leave all but name and size out",
        )


def _instead(kind: str, field: str) -> str:
    if kind == "source":
        return ", or source"
    if kind == "swap" and field == "mount":
        return ", or format: swap: no swap is mounted"
    return ""


def _check_esp(entry: Mapping[str, Any], kind_type: str, where: str) -> None:
    mount = entry.get("mount", ESP_MOUNTS[0])
    if mount not in ESP_MOUNTS:
        raise BuildError(
            f"{where}.mount: {mount!r}: the EFI system partition is at {' or '.join(ESP_MOUNTS)}",
            f"write mount: {ESP_MOUNTS[0]}, or give another partition this mount point",
        )
    if entry.get("format", "vfat") != "vfat":
        raise BuildError(
            f"{where}.format: the EFI system partition is vfat (UEFI specification, 13.3)",
            "remove the field",
        )
    if kind_type not in ("", "esp"):
        raise BuildError(
            f"{where}.type: {entry['type']!r}: firmware finds the EFI system partition by its type",
            "remove the field",
        )


def _default_size(kind: str, loader: str, where: str) -> int | None:
    if kind in ("swap", "empty"):
        raise BuildError(
            f"{where}: missing field 'size': nothing says how large it is",
            "as in size: 1G, or size: rest for what the others leave",
        )
    return {"esp": ESP_SIZE[loader], "bios": BIOS_SIZE}.get(kind)


def _check_whole(size: int | None, where: str) -> None:
    if size is not None and size % MIB:
        raise BuildError(
            f"{where}.size: {size} bytes are no whole MiB",
            f"write {shown(-(-size // MIB) * MIB)}: partitions begin at whole MiB",
        )


def _image(entry: Mapping[str, Any], size: int | None, around: Around, where: str) -> Image:
    """How the filesystem of a mount point is made: as `images` says it, if it does."""
    mount = entry["mount"]
    if mount in around.images:
        for field in ("format", "label", "uuid", "options"):
            if field in entry:
                raise BuildError(
                    f"{where}.{field}: the filesystem of {mount} is made as images.{mount} says",
                    f"remove the field here: {field} belongs there",
                )
        return around.images[mount]
    form = entry.get("format", "ext4")
    kind = FILESYSTEMS.get(form)
    return Image(
        mount=mount,
        file="",
        format=form,
        container="raw",
        level="default",
        # By mke2fs alone: no loop device, and the same bytes with any kernel.
        pack="direct" if kind is not None and kind.direct else "loop",
        label=entry.get("label", ""),
        uuid=entry.get("uuid", "").lower(),
        options=words_of(entry.get("options", "")),
        # Others are as small as they can be, and take their partition's room at boot: so another
        # size of it redoes no filesystem. A vfat cannot grow while it is mounted.
        size=size if form == "vfat" else None,
        free=None,
    )
