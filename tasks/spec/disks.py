"""Disks, exports and boot tests of a spec, as frozen dataclasses; sizes are in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .images import Image

MIB = 1 << 20

BIOS_SIZE = MIB
"""Of the partition that GRUB's core lies in, on a GPT: https://www.gnu.org/software/grub/manual/."""

CORE = "/core"
"""What GRUB's core is called among the parts of a disk with an MBR, where no partition holds it."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition, in the order of the disk.

    `kind` is `esp`, `bios`, `filesystem`, `verity`, `swap`, `source` (a file as it is) or `empty`.
    `size` is None for what takes what is left (`rest`), and for what takes what it needs.
    """

    name: str
    kind: str
    mount: str = ""
    size: int | None = None
    rest: bool = False
    grow: bool = False
    image: Image | None = None
    """How its filesystem is made, where it is a filesystem."""
    source: Path | None = None
    type: str = ""
    """A GUID of small letters, of an MBR two hex digits; "" for what `kind` and `mount` mean."""


@dataclass(frozen=True, kw_only=True)
class DiskFile:
    """One file that a disk is published as; `format` is raw, qcow2, vhd or vmdk."""

    name: str
    format: str
    container: str = "raw"
    level: str = "default"
    bmap: bool = False


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A whole disk; `size` is None for one that is as small as it can be, with `slack` to spare."""

    name: str
    size: int | None
    slack: int = 0
    table: str = "gpt"
    firmware: tuple[str, ...] = ("uefi",)
    loader: str = "grub"
    cmdline: str = ""
    sector: int = 512
    partitions: tuple[Partition, ...] = ()
    verity: bool = False
    files: tuple[DiskFile, ...] = ()

    def of_kind(self, kind: str) -> Partition | None:
        """Its first partition of a kind."""
        return next((one for one in self.partitions if one.kind == kind), None)

    @property
    def filesystems(self) -> tuple[Partition, ...]:
        """Those that hold a part of the tree, `/` first."""
        found = (one for one in self.partitions if one.kind == "filesystem")
        return tuple(sorted(found, key=lambda one: one.mount))


@dataclass(frozen=True, kw_only=True)
class OciConfig:
    """What an OCI image says of how it is run: the specification's config."""

    user: str = ""
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Export:
    """The tree in another form; `format` is oci, tar, squashfs, erofs, cpio or netboot."""

    name: str
    format: str
    container: str = "raw"
    level: str = "default"
    cmdline: str = ""
    """Of netboot: the kernel's."""
    config: OciConfig = field(default_factory=OciConfig)

    @property
    def folder(self) -> bool:
        """Whether it is published as a folder."""
        return self.format in ("oci", "netboot")


@dataclass(frozen=True, kw_only=True)
class BootTest:
    """A script that runs in a booted disk; `firmware` is of uefi, uefi-secure and bios.

    `timeout` is in seconds, from the machine's start to the script's end, `memory` in bytes.
    """

    script: Path
    disk: str
    firmware: tuple[str, ...]
    timeout: int = 300
    memory: int = 1 << 30
