"""What this very checkout has built: a signer vouches for nothing else that has no signature.

A record in the cache does not tell who wrote it: a CI system may have restored it, or another
checkout left it in a cache that both use. So for each entry there is an empty file in .doit/built/,
called by it and by its record's checksum, as no commit can bring one (`safe.noted`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..host import safe
from ..host.files import remove
from ..plan.stage import Stage
from .cache import Cache
from .record import FOLDERS


class Made:
    """The entries that were built here, each with the checksum of its record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, stage: Stage, record_sum: str) -> Path:
        return self.folder / f"{stage.entry}-{record_sum[:32]}"

    def note(self, stage: Stage, record_sum: str) -> None:
        """Remember that a stage was built here, whose record has this checksum."""
        with contextlib.suppress(OSError):  # it is a memory: the build goes on
            safe.note(self._path(stage, record_sum))

    def has(self, stage: Stage, record_sum: str) -> bool:
        """Whether just this entry was built here."""
        return safe.noted(self._path(stage, record_sum))

    def forget(self, cache: Cache) -> None:
        """Let go of entries that the cache has no more."""
        forget(self.folder, cache)


def forget(folder: Path, cache: Cache) -> None:
    """Remove what .doit/ has in a folder as ENTRY-DIGEST, of entries that are no more."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with safe.folder(folder) as opened:
            names = os.listdir(opened)
        records = {path.stem for kind in set(FOLDERS.values()) for path in cache.own(kind)}
        for name in names:
            if name.rpartition("-")[0] not in records:
                remove(folder / name)
