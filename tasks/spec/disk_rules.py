"""What the schema cannot say of disks, exports and boot tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from .disk_values import ESP_MOUNTS, UNMADE
from .disks import MIB, BootTest, Disk, Export, Partition
from .image_rules import check_filesystem
from .model import Spec
from .published import PUBLISHED

NAME_UNITS = 36
"""Units of UTF-16 that a GPT has for a partition's name: the UEFI specification, 5.3.3."""

KERNELS_NEED = 256 * MIB
"""Of an EFI system partition with kernels: two of them, with their initrds."""

LARGEST_VHD = 2040 << 30
"""Bytes, of Microsoft's specification."""

LARGEST_MBR = 2 << 40
"""Bytes that 32-bit numbers of sectors tell."""

LEAST_MEMORY = 128 * MIB


def check_above(spec: Spec) -> None:
    """BuildError for the first fault of what a spec says beside its images."""
    if not (spec.images or spec.disks or spec.exports):
        raise BuildError(
            f"{spec.path}: nothing is to be made: it has no images, no disks and no exports",
            "add one of them, as images: {/: {file: web.img.gz, format: ext4}}",
        )
    _check_names(spec)
    for disk in spec.disks:
        _check_disk(spec, disk)
    _check_together(spec)
    for export in spec.exports:
        _check_export(spec, export)
    for number, test in enumerate(spec.tests):
        _check_test(spec, number, test)


def _published(spec: Spec) -> Iterator[tuple[str, str]]:
    """(field, name in out/NAME/) of all that a spec publishes."""
    for image in spec.images:
        yield f"images.{image.mount}.file", image.file
    for disk in spec.disks:
        for file in disk.files:
            yield f"disks.{disk.name}.files.{file.name}", file.name
            if file.bmap:
                yield f"disks.{disk.name}.files.{file.name}.bmap", f"{file.name}.bmap"
    for export in spec.exports:
        yield f"exports.{export.name}", export.name


def _check_names(spec: Spec) -> None:
    """Each name of what is published once, and none that a build writes itself."""
    known = dict.fromkeys((*PUBLISHED, f"{spec.name}.yaml"), "")
    for field, name in _published(spec):
        other = known.get(name)
        if other is not None:
            what = f"{other} publishes, too" if other else "is published beside it"
            raise BuildError(
                f"{spec.path}: {field}: {name!r} is the name of what {what}", "choose another"
            )
        known[name] = field


# ---------------------------------------------------------------- a disk


def _check_disk(spec: Spec, disk: Disk) -> None:
    where = f"{spec.path}: disks.{disk.name}"
    _check_size(where, disk)
    _check_table(where, disk)
    _check_partitions(spec, where, disk)
    _check_loader(spec, where, disk)
    for file in disk.files:
        at = f"{where}.files.{file.name}"
        if file.bmap and file.format != "raw":
            raise BuildError(
                f"{at}.bmap: it maps the blocks of a raw disk, and this is {file.format}",
                "leave it out, or let format be raw",
            )
        if file.format in ("vhd", "vmdk") and disk.sector != 512:
            raise BuildError(
                f"{at}.format: {file.format} has sectors of 512 bytes, and the disk's have "
                f"{disk.sector}",
                "sector: 512, or another format",
            )
        if file.format == "vhd" and (disk.size or 0) > LARGEST_VHD:
            raise BuildError(
                f"{at}.format: vhd holds {LARGEST_VHD >> 30} GiB at the most",
                "make the disk smaller, or publish it in another format",
            )


def _check_size(where: str, disk: Disk) -> None:
    if disk.size is not None and disk.size % MIB:
        raise BuildError(f"{where}.size: {disk.size} bytes are no whole MiB", "as 8G, 2048M or fit")
    if disk.size is not None and disk.slack:
        raise BuildError(
            f"{where}.slack: the disk has a size, so that nothing is to be added to what it holds",
            "leave one of the two out; size: fit goes with slack",
        )
    fixed = sum(one.size or MIB for one in disk.partitions) + 2 * MIB
    if disk.size is not None and fixed > disk.size:
        raise BuildError(
            f"{where}.size: {_shown(disk.size)} do not hold its partitions, which take "
            f"{_shown(fixed)} with the table",
            f"make it {_shown(-(-fixed // MIB) * MIB)} or larger, or a partition smaller",
        )


def _check_table(where: str, disk: Disk) -> None:
    for one in disk.partitions:
        form = "two hexadecimal digits" if disk.table == "mbr" else "a GUID"
        if one.type and (len(one.type) == 2) != (disk.table == "mbr"):
            raise BuildError(
                f"{where}.partitions.{one.name}.type: {one.type!r} is none of {disk.table}",
                f"there a type is {form}",
            )
    if disk.table == "gpt":
        return
    if len(disk.partitions) > 4:
        raise BuildError(
            f"{where}.table: mbr has four partitions at the most, and these are "
            f"{len(disk.partitions)}",
            "table: gpt",
        )
    if (disk.size or 0) > LARGEST_MBR:
        raise BuildError(f"{where}.table: mbr tells of 2 TiB at the most", "table: gpt")
    if any(one.name.lower() == "bios" for one in disk.partitions):
        raise BuildError(
            f"{where}.partitions.bios: an MBR has room for GRUB's core before the first partition",
            "leave it out, or give it another name",
        )
    if disk.sector != 512 and "bios" in disk.firmware:
        raise BuildError(
            f"{where}.sector: no BIOS boots from sectors of {disk.sector} bytes", "sector: 512"
        )


def _check_partitions(spec: Spec, where: str, disk: Disk) -> None:
    names: set[str] = set()
    for one in disk.partitions:
        at = f"{where}.partitions.{one.name}"
        if len(one.name.encode("utf-16-le")) // 2 > NAME_UNITS:
            raise BuildError(
                f"{where}.partitions: {one.name!r} is longer than the {NAME_UNITS} units of UTF-16 "
                "that a GPT has for a name",
                "give it a shorter one",
            )
        if one.name.lower() in names:
            raise BuildError(f"{where}.partitions: {one.name!r} stands twice", "names must differ")
        names.add(one.name.lower())
        _check_partition(spec, at, one)
    for word, found in (
        ("size", [one.name for one in disk.partitions if one.rest]),
        ("grow", [one.name for one in disk.partitions if one.grow]),
    ):
        if len(found) > 1:
            said = "take the rest" if word == "size" else "grow"
            raise BuildError(
                f"{where}.partitions.{found[1]}.{word}: {found[0]} and {found[1]} both {said}",
                "only one can",
            )
    for one in disk.partitions[:-1]:
        if one.grow:
            raise BuildError(
                f"{where}.partitions.{one.name}.grow: {disk.partitions[-1].name} is behind it, so "
                "that there is no room to take",
                "put it last",
            )
    mounts = [one.mount for one in disk.partitions if one.mount]
    twice = sorted({one for one in mounts if mounts.count(one) > 1})
    if twice:
        raise BuildError(
            f"{where}.partitions: two are mounted at {twice[0]}", "mount points must differ"
        )


def _check_partition(spec: Spec, at: str, one: Partition) -> None:
    given = one.image
    if given is not None and given.format in UNMADE:
        raise BuildError(
            f"{at}.format: {given.format} is not made here: a key in an image is no secret, and "
            "volumes want the disk's own size",
            "let the machine do it at its first boot, by systemd-repart (Encrypt=), by "
            "cloud-init or by Debian's installer; leave the room for it empty",
        )
    if one.kind == "swap" and one.mount:
        raise BuildError(f"{at}.mount: swap is mounted nowhere", "leave it out")
    if one.kind == "swap" and one.size is not None and one.size < MIB:
        raise BuildError(f"{at}.size: less than 1M, which no swap area is worth", "as 1G")
    if one.kind == "swap" and one.size is None and not one.rest:
        raise BuildError(f"{at}: swap without a size", "size: 1G, say, or rest")
    if one.kind == "esp" and one.mount and one.mount not in (*ESP_MOUNTS, "/boot"):
        raise BuildError(
            f"{at}.mount: an EFI system partition is mounted at /boot/efi, /efi or /boot",
            "/boot/efi is Debian's place for it",
        )
    if one.kind == "source":
        assert one.source is not None
        if one.mount:
            raise BuildError(
                f"{at}.source: what is mounted is made of the tree", "leave out source, or mount"
            )
        if not os.path.isfile(one.source):
            raise BuildError(f"{at}.source: {one.source}: there is no such file", "a file's path")
        return
    if given is not None:
        if given.format == "swap":
            raise BuildError(f"{at}.format: swap is mounted nowhere", "leave out mount")
        if not any(given is image for image in spec.images):
            check_filesystem(at, given)
        if one.mount == "/" and given.format == "vfat":
            raise BuildError(
                f"{at}.format: vfat has no owners and no links, so no system can be on it",
                "ext4 is the usual choice",
            )
    if one.grow and (given is None or not FILESYSTEMS[given.format].name.startswith(GROWING)):
        raise BuildError(
            f"{at}.grow: only ext4, ext3, ext2, xfs and btrfs that are mounted grow at boot",
            "leave it out",
        )


GROWING = ("ext", "xfs", "btrfs")
"""What systemd-growfs(8) makes larger."""


# ---------------------------------------------------------------- what boots it


def _check_loader(spec: Spec, where: str, disk: Disk) -> None:
    bios, uefi = "bios" in disk.firmware, "uefi" in disk.firmware
    if disk.loader == "none":
        if disk.verity:
            raise BuildError(
                f"{where}.verity: only loader: uki knows the root's hash", "loader: uki"
            )
        return
    if bios and spec.arch not in ("amd64", "i386"):
        raise BuildError(
            f"{where}.firmware: bios is for amd64, and arch is {spec.arch}", "firmware: [uefi]"
        )
    if bios and disk.loader != "grub":
        raise BuildError(
            f"{where}.firmware: {disk.loader} is for UEFI alone",
            "firmware: [uefi], or loader: grub",
        )
    esp = disk.of_kind("esp")
    if uefi and esp is None:
        raise BuildError(
            f"{where}.partitions: UEFI boots from an EFI system partition, and there is none",
            "add {name: esp, size: 64M, mount: /boot/efi}",
        )
    roots = [one for one in disk.filesystems if one.mount == "/"]
    if not roots:
        raise BuildError(
            f"{where}.partitions: nothing is mounted at `/`",
            "add {name: root, mount: /, size: rest}, or loader: none",
        )
    kernels = disk.loader != "grub"
    if kernels and esp is not None and esp.size is not None and esp.size < KERNELS_NEED:
        raise BuildError(
            f"{where}.partitions.{esp.name}.size: {_shown(esp.size)} are too small for kernels, "
            f"which {disk.loader} has there",
            f"{_shown(KERNELS_NEED)} or more, or loader: grub",
        )
    if disk.loader == "grub" and esp is not None and esp.mount == "/boot":
        raise BuildError(
            f"{where}.partitions.{esp.name}.mount: GRUB's kernels are in /boot of the tree",
            "mount it at /boot/efi",
        )
    _check_verity(where, disk, roots[0])


def _check_verity(where: str, disk: Disk, root: Partition) -> None:
    if not disk.verity:
        return
    if disk.loader != "uki":
        raise BuildError(f"{where}.verity: only loader: uki knows the root's hash", "loader: uki")
    if root.grow:
        raise BuildError(
            f"{where}.partitions.{root.name}.grow: a root that is checked by verity is read-only",
            "leave out grow, or verity",
        )
    if root.image is not None and not root.image.format.startswith(("ext", "xfs", "btrfs")):
        raise BuildError(
            f"{where}.verity: not with {root.image.format} as the root", "ext4 is the usual choice"
        )


def _check_together(spec: Spec) -> None:
    """Disks of one spec share its tree, and so what that says of how it is booted."""
    booted = [one for one in spec.disks if one.loader != "none"]
    for one in booted[1:]:
        first = booted[0]
        for name, mine, other in (
            ("loader", one.loader, first.loader),
            ("cmdline", one.cmdline, first.cmdline),
            ("verity", one.verity, first.verity),
            ("partitions", _mounts(one), _mounts(first)),
        ):
            if mine != other:
                what = "are mounted elsewhere" if name == "partitions" else f"is {mine!r}"
                raise BuildError(
                    f"{spec.path}: disks.{one.name}.{name}: it {what}, and of disk {first.name} "
                    "otherwise: both have the same tree, which says how it is booted",
                    "make it a variant, or a spec of its own that includes this one",
                )


def _mounts(disk: Disk) -> set[str]:
    return {one.mount for one in disk.partitions if one.mount}


# ---------------------------------------------------------------- exports and tests

CONTAINERS = {
    "oci": ("gzip", "zstd"),
    "tar": ("raw", "gzip", "zstd", "xz"),
    "cpio": ("raw", "gzip", "zstd", "xz"),
    "squashfs": ("raw",),
    "erofs": ("raw",),
    "netboot": ("raw",),
}
"""What each form of an export may be packed in."""


def _check_export(spec: Spec, export: Export) -> None:
    where = f"{spec.path}: exports.{export.name}"
    known = CONTAINERS[export.format]
    if export.container not in known:
        packs = "packs itself" if known == ("raw",) else f"takes {' or '.join(known)}"
        raise BuildError(
            f"{where}.container: {export.container} is none for {export.format}, which {packs}",
            "leave it out",
        )
    if export.format != "oci" and export.config != type(export.config)():
        raise BuildError(
            f"{where}.config: it is of oci, and this is {export.format}", "leave it out"
        )
    if export.cmdline and export.format != "netboot":
        raise BuildError(
            f"{where}.cmdline: it is of netboot, and this is {export.format}", "leave it out"
        )


def _check_test(spec: Spec, number: int, test: BootTest) -> None:
    where = f"{spec.path}: tests.{number}"
    disk = next((one for one in spec.disks if one.name == test.disk), None)
    if disk is None:
        there = ", ".join(one.name for one in spec.disks)
        raise BuildError(
            f"{where}.disk: there is no disk {test.disk!r}"
            if test.disk
            else f"{where}: there is no disk to boot",
            f"disks: {there}" if there else "add disks to the spec",
        )
    if disk.loader == "none":
        raise BuildError(
            f"{where}.disk: {disk.name} has no loader, so that nothing boots it",
            "name another disk, or give it a loader",
        )
    for one in test.firmware:
        if one.removesuffix("-secure") not in disk.firmware:
            raise BuildError(
                f"{where}.firmware: disk {disk.name} is not for {one}",
                f"it has firmware: [{', '.join(disk.firmware)}]",
            )
        if one == "uefi-secure" and disk.loader == "uki":
            raise BuildError(
                f"{where}.firmware: no key that the firmware knows has signed a UKI",
                "firmware: [uefi], or loader: grub",
            )
    if test.memory < LEAST_MEMORY:
        raise BuildError(f"{where}.memory: less than {_shown(LEAST_MEMORY)}", "1G is the default")
    if not os.path.isfile(test.script):
        raise BuildError(f"{where}.script: {test.script}: there is no such file", "a file's path")


def _shown(size: int) -> str:
    return f"{size // MIB}M" if size % MIB == 0 else f"{size} bytes"
