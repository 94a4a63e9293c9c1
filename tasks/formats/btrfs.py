"""btrfs: made and filled by the kernel, shrunk while it is mounted."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from ..host.sandbox import Step, step
from .filesystem import SCRIPTS, Filesystem, Making, each, guesses, labelled
from .footprint import MIB


def argv(making: Making, _fill: str) -> list[str]:
    """mkfs.btrfs(8)."""
    return [
        "mkfs.btrfs",
        "-q",
        "-f",
        "-U",
        making.uuid,
        *labelled(making),
        *making.options,
        str(making.raw),
    ]


def shrink(making: Making, size: int) -> list[Step]:
    """Shrink the mounted one, of so many bytes, to what it takes and what is to be free."""
    if making.size is not None:
        return []
    return [
        step(
            "/bin/sh",
            str(SCRIPTS / "shrink-btrfs.sh"),
            "filled",
            str(size),
            str(making.free or 0),
            title="shrinking",
        )
    ]


def finish(making: Making, _again: Callable[[], None]) -> None:
    """Cut off what it was shrunk by."""
    if making.size is None:
        os.truncate(making.raw, btrfs_size(making.raw))


def btrfs_size(raw: Path) -> int:
    """Bytes of a btrfs by its superblock: total_bytes, 0x70 behind 64 KiB."""
    with raw.open("rb") as file:
        file.seek(0x10000 + 0x70)
        return int(struct.unpack("<Q", file.read(8))[0])


ROW = Filesystem(
    name="btrfs", tool="mkfs.btrfs", tools=("mkfs.btrfs", "btrfs"), keyed=("mkfs.btrfs",),
    permitted={
        **each("-d --data -m --metadata -n --nodesize -O --features -R --runtime-features "
                "-s --sectorsize --checksum --csum --device-uuid", True),
        **each("-K --nodiscard -M --mixed", False),
    },
    instead={"-L": "label", "--label": "label", "-U": "uuid", "--uuid": "uuid", "-b": "size",
             "--byte-count": "size"},
    label_length=255, smallest=114 * MIB, overhead=100 * MIB, mounted_as="btrfs",
    varies="mkfs and the kernel draw UUIDs by chance, and transaction numbers are in every block",
    argv=argv, sizes=guesses, shrink=shrink, finish=finish,
)  # fmt: skip
