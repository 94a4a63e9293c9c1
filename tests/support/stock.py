"""Real .debs that many tests begin with. `./doit test` has them fetched while pip installs, by the host's Python.

So nothing that pip installs may be imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support import tiny_disk
from support.repository import real_debs
from support.slim import slim_debs

KEPT = Path(__file__).resolve().parents[2] / ".doit" / "test"
"""What is slow to make and stays the same between runs."""

BASE = ("?essential", "apt", "usr-is-merged")
"""What the base variant `apt` selects."""


def kept_debs(names: Sequence[str]) -> list[Path]:
    """The .debs of these packages and of all that they depend on, as the host's mirror has them."""
    return real_debs(KEPT / "debs", names)


def base_debs() -> list[Path]:
    """Those of a base, made light."""
    return slim_debs(KEPT, kept_debs(BASE))


def initramfs_debs() -> list[Path]:
    """Those of initramfs-tools that a base has not."""
    base = {deb.name for deb in kept_debs(BASE)}
    return [deb for deb in kept_debs([*BASE, "initramfs-tools"]) if deb.name not in base]


def disk_debs() -> list[Path]:
    """Those of the disk that boots in seconds."""
    return kept_debs(tiny_disk.PACKAGES)


if __name__ == "__main__":
    base_debs()
    initramfs_debs()
    disk_debs()
