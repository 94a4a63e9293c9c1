"""CACHEDIR.TAG: says that all in a folder may be removed, to backup programs and to Strata itself.

The Cache Directory Tagging Specification. A folder gets it while it is empty or has only what
Strata put there; in one that has more, nothing is removed by what its name looks like.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from . import safe

NAME = "CACHEDIR.TAG"

SIGNATURE = "Signature: 8a477f597d28d172789f06e886806bc55"

TEXT = f"""\
{SIGNATURE}
# Made by Strata: all that it has put into this folder can be made again.
# See the Cache Directory Tagging Specification.
"""


NEUTRAL = ("lost+found", ".gitignore", ".gitkeep", ".keep")
"""What may be in an otherwise empty folder."""


def neutral(name: str) -> bool:
    """Whether a name says nothing of whose folder it is in."""
    return name in NEUTRAL or name.startswith(".strata-")


def marked(folder: Path) -> bool:
    """Whether a folder has the marker."""
    try:
        return safe.read_bytes(folder / NAME, 1 << 16).startswith(SIGNATURE.encode())
    except OSError:
        return False


def claim(folder: Path, foreign: Collection[Path]) -> bool:
    """Whether Strata may remove what it put into a folder; marks it unless `foreign` is in it.

    Who may not write to the folder may not remove from it either.
    """
    if marked(folder):
        return True
    path = folder / NAME
    with contextlib.suppress(OSError):
        # Another's is left alone; an empty one is what a killed build left.
        if os.path.lexists(path) and (path.is_symlink() or path.stat().st_size):
            return False
        if not [one for one in foreign if not neutral(one.name)]:
            with open(safe.creating(path), "w", encoding="ascii") as file:
                file.write(TEXT)
            return True
    return False
