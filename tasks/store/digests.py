"""A folder with the SHA-256 of each of its files."""

from __future__ import annotations

import json
from pathlib import Path

from ..host import strict
from ..host.files import read_sha256, write_text

SEAL = ".sha256"
"""In a snapshot of indexes: the SHA-256 of each file by its name."""


def seal(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder into it, for `broken` to compare."""
    sums = {path.name: read_sha256(path) for path in folder.iterdir()}
    write_text(folder / SEAL, json.dumps(sums, indent=1, sort_keys=True) + "\n", sync=False)


def sealed(folder: Path) -> dict[str, str]:
    """The SHA-256 that a sealed folder's files had; ValueError or OSError if that is damaged."""
    sums = strict.read(folder / SEAL)
    return {name: strict.text(sums, name, strict.SHA256) for name in sums}


def broken(folder: Path) -> str:
    """The first file of a sealed folder that is not what it was, or ""; reads every byte."""
    name = SEAL
    try:
        sums = sealed(folder)
        for name in sorted({*sums, *(path.name for path in folder.iterdir())} - {SEAL}):
            if read_sha256(folder / name) != sums.get(name):
                return name
    except (OSError, ValueError):
        return name
    return ""
