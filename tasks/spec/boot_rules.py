"""What a boot loader, firmware, architecture and partitions of a disk must have of each other."""

from __future__ import annotations

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from .disk_values import left
from .disks import Disk
from .partitions import ESP_MOUNTS, ESP_SIZE
from .sizes import shown

ARCHITECTURES = ("amd64", "arm64")
"""Of which Debian has signed loaders for UEFI."""

OURS = ("root=", "initrd=", "BOOT_IMAGE=", "roothash=", "systemd.verity", "usrhash=")
"""Arguments of a kernel that say what is booted: Strata's to give."""


def check_boot(arch: str, disk: Disk, where: str) -> None:
    """BuildError for a disk that could not start, with the disk as `where`."""
    if disk.loader == "none":
        _check_no_loader(disk, where)
    else:
        _check_loader(arch, disk, where)
    _check_esp(disk, where)
    _check_bios(arch, disk, where)
    if disk.verity:
        _check_verity(disk, where)
    check_cmdline(disk.cmdline, f"{where}.cmdline")


def check_cmdline(cmdline: str, where: str) -> None:
    """BuildError for a kernel's argument that says where the tree is."""
    for word in cmdline.split():
        if word.startswith(OURS):
            raise BuildError(
                f"{where}: {word!r}: what is booted, and from where, is Strata's to say",
                "remove it",
            )


def _check_no_loader(disk: Disk, where: str) -> None:
    if disk.firmware:
        raise BuildError(
            f"{where}.firmware: {', '.join(disk.firmware)}: loader none puts nothing there that "
            "it could start",
            "remove firmware, or write a loader",
        )
    if disk.cmdline:
        raise BuildError(
            f"{where}.cmdline: loader none hands it to no kernel",
            "remove cmdline, or write a loader",
        )


def _check_loader(arch: str, disk: Disk, where: str) -> None:
    if arch not in ARCHITECTURES:
        raise BuildError(
            f"{where}.loader: {disk.loader} boots {' and '.join(ARCHITECTURES)}, and arch is "
            f"{arch}",
            "write loader: none",
        )
    if "bios" in disk.firmware and arch != "amd64":
        raise BuildError(
            f"{where}.firmware: bios: machines of {arch} have none",
            "write firmware: [uefi]",
        )
    if "bios" in disk.firmware and disk.loader != "grub":
        raise BuildError(
            f"{where}.firmware: bios: {disk.loader} is started by UEFI alone",
            "write loader: grub, or firmware: [uefi]",
        )
    if "bios" in disk.firmware and disk.sector != 512:
        raise BuildError(
            f"{where}.sector: a BIOS reads sectors of 512 bytes",
            "remove sector, or write firmware: [uefi]",
        )


def _check_esp(disk: Disk, where: str) -> None:
    found = [one for one in disk.partitions if one.kind == "esp"]
    if "uefi" in disk.firmware and not found:
        other = ", or write firmware: [bios]" if disk.loader == "grub" else ""
        raise BuildError(
            f"{where}.partitions: firmware uefi starts from an EFI system partition, and there is "
            "none",
            f"add {{name: esp, mount: {ESP_MOUNTS[0]}}}{other}",
        )
    if found and "uefi" not in disk.firmware:
        raise BuildError(
            f"{where}.partitions.{found[0].name}: an EFI system partition, and no firmware reads "
            "it",
            "remove it, or add uefi to firmware"
            + (", or give it a source" if disk.loader == "none" else ""),
        )
    if found[1:]:
        raise BuildError(
            f"{where}.partitions.{found[1].name}: {found[0].name} is the EFI system partition, and "
            "firmware looks for one",
            "remove one of them",
        )
    least = ESP_SIZE["systemd-boot"]
    for one in found:
        size = one.size or left(disk)
        if disk.loader == "systemd-boot" and size is not None and size < least:
            raise BuildError(
                f"{where}.partitions.{one.name}.size: {shown(size)} are too small: with "
                "systemd-boot it holds each kernel and its initrd, and new ones beside them",
                f"write {shown(least)} or more, or leave size out",
            )


def _check_bios(arch: str, disk: Disk, where: str) -> None:
    found = [one for one in disk.partitions if one.kind == "bios"]
    for one in found:
        here = f"{where}.partitions.{one.name}"
        if disk.table == "mbr":
            raise BuildError(
                f"{here}: on an mbr GRUB for BIOS lies before the first partition",
                "remove it",
            )
        if "bios" not in disk.firmware:
            raise BuildError(
                f"{here}: it is for GRUB, and firmware has no bios",
                "remove it" + (", or add bios to firmware" if arch == "amd64" else ""),
            )
        if one is not found[0]:
            raise BuildError(f"{here}: {found[0].name} is for GRUB already", "remove one of them")


def _check_verity(disk: Disk, where: str) -> None:
    if disk.loader != "uki":
        raise BuildError(
            f"{where}.verity: only a uki says to the kernel which hash `/` must have, and the "
            f"loader is {disk.loader}",
            "write loader: uki, or remove verity",
        )
    if disk.table != "gpt":
        raise BuildError(
            f"{where}.verity: it finds its partitions by their GUIDs, and the table is "
            f"{disk.table}",
            "write table: gpt, or remove verity",
        )
    _check_verity_root(disk, where)


def _check_verity_root(disk: Disk, where: str) -> None:
    """BuildError for a root that is not the same bytes each time: its hash is in the uki."""
    root = next((one for one in disk.partitions if one.mount == "/"), None)
    if root is None or root.image is None:
        return
    image, kind = root.image, FILESYSTEMS[root.image.format]
    # What published images have stands in `images`, else in the partition.
    field = "images./" if image.file else f"disks.{disk.name}.partitions.{root.name}"
    if kind.varies:
        raise BuildError(
            f"{where}.verity: `/` is {image.format}, which has other bytes each time, and so "
            "another hash than the uki has",
            f"write {field}.format: ext4" + (", with pack: direct" if image.file else ""),
        )
    if kind.mounted_as and image.pack == "loop":
        raise BuildError(
            f"{where}.verity: `/` has pack: loop, so that the kernel of whoever builds lays out "
            "its blocks, and the uki may have another's hash",
            f"write {field}.pack: direct",
        )
