"""Jobs of the stages above the tree but for images: parts of disks, disks, files, exports, tests.

All sizes are in bytes. What another stage made is named by that stage: its file is in the cache,
a disk's in scratch (see stages/disk.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..spec.disks import BootTest, Disk, DiskFile, Export
from ..spec.images import Image
from .entries import Script
from .job import Job
from .stage import Stage


@dataclass(frozen=True, kw_only=True)
class FilesystemJob(Job):
    """The raw filesystem of one mount point, as small as it can be; `image` says how it is made."""

    image: Image
    bare: tuple[str, ...] = ()
    """Mount points of what is made without the tree, which may have nothing there."""


@dataclass(frozen=True, kw_only=True)
class EspJob(Job):
    """An EFI system partition: a FAT of `size` bytes with a boot loader, and what that reads."""

    disk: Disk
    size: int
    serial: str
    """Its volume ID: eight hex digits."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Files that are texts, by path on the partition."""
    cmdline: str = ""
    """The whole command line of the kernel, but for what a verity stage adds."""
    verity: Stage | None = None


@dataclass(frozen=True, kw_only=True)
class BiosJob(Job):
    """GRUB for BIOS: boot.img (512 bytes), then its core in whole sectors of 512 bytes.

    Where it lies on a disk is not in it: the disk's writer patches that in.
    """

    config: str
    """The text of the core's embedded configuration."""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VerityJob(Job):
    """The hash tree of a filesystem, by veritysetup(8); the root hash is in its facts."""

    filesystem: Stage
    uuid: str
    salt: str


@dataclass(frozen=True, kw_only=True)
class DiskJob(Job):
    """A raw disk, written in scratch; `parts` are the stages of what lies in a partition, by name.

    The BIOS core is the part of the partition of kind `bios`; of an MBR it is "bios" as well.
    """

    disk: Disk
    guid: str
    """Of the table; of an MBR its first eight digits are the signature."""
    guids: Mapping[str, str]
    """Of each partition, by its name."""
    types: Mapping[str, str]
    """GUIDs of partitions' types, or of an MBR two hex digits, by the partition's name."""
    parts: Mapping[str, Stage]
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Files that partitions of kind `source` hold."""
    held: Mapping[str, bytes] = field(default_factory=dict)
    """What these have, for a machine without the project: by the partition's name."""
    uuids: Mapping[str, str] = field(default_factory=dict)
    """Of swap partitions."""


@dataclass(frozen=True, kw_only=True)
class FileJob(Job):
    """A disk in a format that people take; with format "bmap" the block map of `raw`."""

    disk: DiskJob
    file: DiskFile
    raw: Stage | None = None
    """Of a block map: the file that it goes with, whose facts have its text."""


@dataclass(frozen=True, kw_only=True)
class BlobJob(Job):
    """One tree stage as a layer of OCI: `tree` is it, `below` are those under it."""

    tree: Stage
    container: str
    level: str


@dataclass(frozen=True, kw_only=True)
class ExportJob(Job):
    """The whole tree in another form; `blobs` are those of an OCI image, the base's first."""

    export: Export
    name: str = ""
    """The spec's name."""
    blobs: tuple[Stage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TestJob(Job):
    """A boot of a disk's file under one firmware, with the scripts that run in it, in order."""

    disk: Disk
    file: Stage
    format: str
    """Of the file: raw, qcow2, vhd or vmdk; it may be in a container."""
    container: str
    firmware: str
    tests: tuple[BootTest, ...]
    scripts: tuple[Script, ...] = ()
    """Of each test: what it runs."""
