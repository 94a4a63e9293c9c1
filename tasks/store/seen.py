"""Which files were read and found whole, by what stat(2) says of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..host import strict
from ..host.files import read_sha256, remove, write_text


class SeenFiles:
    """Which files were read and found whole, by what stat(2) says of them.

    A file that has not been written since need not be read again to know that it is whole: the
    kernel sets ctime, and no program can set it back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = False
        self.known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            loaded = strict.read(path, strict.LIST_LIMIT, paths=True)
            self.known = {name: entry for name, entry in loaded.items() if _remembered(entry)}

    @staticmethod
    def _mark(path: Path) -> list[int]:
        info = path.lstat()
        return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file, read only if it may have changed."""
        mark = self._mark(path)
        entry = self.known.get(str(path))
        if entry is not None and entry[0] == mark:
            return str(entry[1])
        digest = read_sha256(path)
        # The mark from before the reading: what was written meanwhile has another one.
        self._keep(path, mark, digest)
        return digest

    def holds(self, path: Path, sha256: str) -> bool:
        """Whether a file has this digest; what is remembered may have rotted, so it damns none."""
        if self.sha256(path) == sha256:
            return True
        self.forget(path)
        return self.sha256(path) == sha256

    def note(self, path: Path, digest: str) -> None:
        """Remember the digest of a file that has just been written whole."""
        self._keep(path, self._mark(path), digest)

    def forget(self, path: Path) -> None:
        """Read the file the next time, whatever stat(2) says."""
        self.known.pop(str(path), None)
        self.changed = True

    def _keep(self, path: Path, mark: list[int], digest: str) -> None:
        self.known[str(path)] = [mark, digest]
        self.changed = True

    def rotten(self, folder: Path) -> Iterator[Path]:
        """The files below a folder that have other bytes now, though stat(2) says what it said.

        They are forgotten. What has another date was written since, by another build it may be, and
        is read by the next one anyway.
        """
        for path in sorted(map(Path, self.known)):
            entry = self.known[str(path)]
            if folder not in path.parents:
                continue
            with contextlib.suppress(OSError):
                same = self._mark(path) == entry[0] and read_sha256(path) != entry[1]
                if same and self._mark(path) == entry[0]:
                    self.forget(path)
                    yield path

    def save(self) -> None:
        """Keep it for the next process."""
        if self.changed:
            known = {path: value for path, value in self.known.items() if os.path.exists(path)}
            if os.path.isdir(self.path):
                remove(self.path)
            write_text(self.path, json.dumps(known))
            self.changed = False


def _remembered(entry: Any) -> bool:
    """Whether this is what `Memory` notes of a file: five numbers of stat(2) and a digest."""
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], list)
        and len(entry[0]) == 5
        and all(type(one) is int for one in entry[0])
        and isinstance(entry[1], str)
        and bool(re.fullmatch(strict.SHA256, entry[1]))
    )
