"""A root in which programs of the host run confined: these, and nothing else that is the host's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from . import etc


def skeleton(folder: Path) -> None:
    """Make the root in which a tool of the host runs: its programs, and nothing that is its.

    /usr is bound read-only over it; a package's script that leaves its chroot finds only this.
    """
    for name in (
        "etc",
        "usr",
        "root",
        "target",
        "repo",
        "var/lib/dpkg",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "etc/apt/apt.conf.d",
        "etc/apt/trusted.gpg.d",
        "etc/apt/preferences.d",
        "etc/apt/sources.list.d",
        "dev",
        "proc",
        "sys",
        "tmp",
        "run",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "var/lib/dpkg/status").touch()
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            (folder / name).symlink_to(os.readlink(f"/{name}"))
    etc.make(folder / "etc")


def programs() -> Iterator[tuple[str, str]]:
    """The host's programs: /usr, and /bin and its kin where they are no links into it."""
    for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            yield f"/{name}", f"/{name}"
