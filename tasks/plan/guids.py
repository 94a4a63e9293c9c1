"""Names that a machine finds disks, partitions and filesystems by: made of names, not of content.

What /etc/fstab and a kernel's command line say of a disk is known before any of it is packed, and
stays when its content changes.
"""

from __future__ import annotations

import hashlib
import uuid

from ..formats.table import FILESYSTEMS
from ..spec.disks import Disk, Partition
from ..spec.images import Image
from ..spec.model import Spec

NAMESPACE = uuid.UUID("e29141ca-9573-5a86-8066-9870dd922945")
"""Strata's own, for names as RFC 9562 has them (version 5)."""


def _named(*words: str) -> str:
    # A name of a spec or of a mount point may have spaces, but no zero byte.
    return str(uuid.uuid5(NAMESPACE, "\0".join(words)))


def disk_guid(spec: Spec, disk: Disk) -> str:
    """A disk's own GUID; of an MBR, its first eight digits are the signature."""
    return _named("disk", spec.name, disk.name)


def partition_guid(spec: Spec, disk: Disk, name: str) -> str:
    """A partition's GUID, by which the kernel knows it as PARTUUID."""
    return _named("partition", spec.name, disk.name, name)


def part_uuid(spec: Spec, disk: Disk, name: str) -> str:
    """What the kernel calls a partition, by PARTUUID: of an MBR, its signature and number."""
    if disk.table == "gpt":
        return partition_guid(spec, disk, name)
    number = [one.name for one in disk.partitions].index(name) + 1
    return f"{disk_guid(spec, disk)[:8]}-{number:02x}"


def swap_uuid(spec: Spec, name: str) -> str:
    """The UUID of the swap area in a partition of this name."""
    return _named("swap", spec.name, name)


def partition_at(spec: Spec, mount: str) -> Partition | None:
    """The first partition of a spec's disks that is mounted there."""
    every = (one for disk in spec.disks for one in disk.partitions)
    return next((one for one in every if mount and one.mount == mount), None)


def image_at(spec: Spec, mount: str) -> Image | None:
    """How the filesystem of a mount point is made, where a disk or `images` has one for it."""
    found = partition_at(spec, mount)
    if found is not None and found.image is not None:
        return found.image
    return next((image for image in spec.images if image.mount == mount), None)


def filesystem_uuid(spec: Spec, mount: str) -> str:
    """The UUID of the filesystem that is mounted there: the spec's own, or one of its name.

    Of a vfat, and so of an EFI system partition, as blkid(8) writes it: `1A2B-3C4D`.
    """
    image, found = image_at(spec, mount), partition_at(spec, mount)
    if image is not None and image.uuid:
        return image.uuid
    named = _named("filesystem", spec.name, mount)
    esp = found is not None and found.kind == "esp"
    short = esp or (image is not None and FILESYSTEMS[image.format].short_uuid)
    return f"{named[:4]}-{named[4:8]}".upper() if short else named


def esp_serial(spec: Spec, disk: Disk) -> str:
    """The volume ID of a disk's EFI system partition, as mkfs.vfat(8) takes it: eight digits."""
    esp = disk.of_kind("esp")
    mount = esp.mount if esp is not None else ""
    if mount:
        return filesystem_uuid(spec, mount).replace("-", "").lower()
    return _named("esp", spec.name, disk.name)[:8]


def verity_uuid(spec: Spec, disk: Disk) -> str:
    """The UUID of a disk's hash tree."""
    return _named("verity", spec.name, disk.name)


def verity_salt(spec: Spec, disk: Disk) -> str:
    """What its hashes are salted with, in hexadecimal: 32 bytes."""
    return hashlib.sha256(verity_uuid(spec, disk).encode()).hexdigest()


# ---------------------------------------------------------------- types

# The Discoverable Partitions Specification of the UAPI group, and the UEFI specification.
ROOT = {
    "amd64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "arm64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "armhf": "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    "i386": "44479540-f297-41b2-9af7-d131d5f0458a",
    "ppc64el": "c31c45e6-3f39-412e-80fb-4809c4980599",
    "riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    "s390x": "5eead9a9-fe09-4a1e-a1d7-520d00531306",
}
USR = {
    "amd64": "8484680c-9521-48c6-9c11-b0720656f69e",
    "arm64": "b0e01050-ee5f-4390-949a-9101b17104e9",
}
ROOT_VERITY = {
    "amd64": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    "arm64": "df3300ce-d69f-4c92-978c-9bfb0f38d820",
}
MOUNTS = {
    "/home": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
    "/srv": "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
    "/tmp": "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
    "/var": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
    "/var/tmp": "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
}
KINDS = {
    "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bios": "21686148-6449-6e6f-744e-656564454649",
    "swap": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
}
BOOT = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
"""Of /boot that a boot loader reads itself, so of a vfat: the Boot Loader Specification."""
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
"""Of what is nothing else."""

MBR = {"esp": "ef", "swap": "82"}
"""Types of an MBR's partitions by kind; all others are Linux's."""
MBR_LINUX = "83"


def type_of(partition: Partition, table: str, arch: str) -> str:
    """The type of a partition: the spec's own, or the one of its kind and mount point.

    A GUID of small letters, of an MBR two hex digits.
    """
    if partition.type:
        return partition.type
    if table == "mbr":
        return MBR.get(partition.kind, MBR_LINUX)
    if partition.kind in KINDS:
        return KINDS[partition.kind]
    if partition.kind == "verity":
        return ROOT_VERITY.get(arch, LINUX)
    if partition.mount == "/":
        return ROOT.get(arch, LINUX)
    if partition.mount == "/usr":
        return USR.get(arch, LINUX)
    if partition.mount == "/boot" and partition.image and partition.image.format == "vfat":
        return BOOT
    return MOUNTS.get(partition.mount, LINUX)
