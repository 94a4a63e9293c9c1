"""What this very checkout has built: a signer vouches for nothing else that has no signature.

One small file for each entry, in .doit/built/, which no CI cache has and no shared folder is: what
a pull request built, and left in a cache that both use, is not there.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..host import safe
from ..host.files import remove, write_text
from ..plan.stage import Stage
from .cache import Cache
from .record import FOLDERS, read_record


class Made:
    """The entries that were built here, each with the checksum of its record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, stage: Stage, record: Path) -> None:
        """Remember that a stage was built here, whose record this is."""
        with contextlib.suppress(OSError, ValueError):  # it is a memory: the build goes on
            write_text(self.folder / stage.entry, read_record(record)["sum"] + "\n", sync=False)

    def has(self, stage: Stage, record_sum: str) -> bool:
        """Whether just this entry was built here."""
        with contextlib.suppress(OSError, ValueError):
            text = safe.read_bytes(self.folder / stage.entry, 1 << 8).decode("ascii")
            return text.strip() == record_sum
        return False

    def forget(self, cache: Cache) -> None:
        """Let go of entries that the cache has no more."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with safe.folder(self.folder) as opened:
                names = os.listdir(opened)
            records = {path.stem for folder in set(FOLDERS.values()) for path in cache.own(folder)}
            for name in names:
                if name not in records:
                    remove(self.folder / name)
