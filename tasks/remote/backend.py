"""What a shared cache has to offer, whatever it is kept in: records by name, files by SHA-256.

A record is a small text that names a file by its digest, so a file comes first and its record last.
Nothing that comes from here is believed: whoever asks checks it.
"""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import BuildError
from ..host import safe, strict
from ..host.process import check_signal, pause
from ..spec.words import printable

BLOCK = 1 << 20
"""Bytes that are read, hashed and written at a time."""

SLOWEST = 1 << 15
"""Bytes a second: what comes slower, over `patience` seconds, is sooner built than fetched."""

LONGEST = 30.0
"""Seconds of the longest pause between two tries."""

RECORD_LIMIT = strict.RECORD_LIMIT
"""Bytes of a record; of a longer one no more is read."""


SHOWN = 80
"""Characters of what a server says that are shown."""


def plain(text: str) -> str:
    """A few words of a server's as a message may have them: one line that commands no terminal."""
    return printable(" ".join(text[: 4 * SHOWN].split()))[:SHOWN]


class _Told(Exception):
    """Whose text is shown: whatever comes into it, it commands no terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class RemoteFault(_Told):
    """A shared cache cannot be used: the text says why, without a secret."""


def fault_of(error: BuildError) -> RemoteFault:
    """The same as a cache's own fault: what went wrong and what to do about it, in one line."""
    return RemoteFault(error.in_a_line)


class Cut(RemoteFault):
    """What was being sent ended too soon, or never began: asking again may help."""


class Silent(Cut):
    """Nothing came while it was waited for: only a file that has begun is asked for again."""


class Missing(RemoteFault):
    """There is no such file."""


class Unusable(_Told):
    """A record, or the file that it names, is not used: the text says why."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file by what it holds: `size` in bytes. `private`: others shall not read it."""

    sha256: str
    size: int
    private: bool = False


class Backend(ABC):
    """One shared cache. Every method may raise RemoteFault; names and digests are Strata's own."""

    shown: str
    """Its address as people may see it."""

    patience: float
    """Seconds without an answer, or of a crawl, after which it is given up."""

    writing: bool = False
    """Whether this run gives something to it: what it is kept in is made then."""

    @abstractmethod
    def record(self, name: str) -> bytes | None:
        """The record of this name, None if there is none; more than RECORD_LIMIT is cut off.

        Unusable for what is there and is no record.
        """

    @abstractmethod
    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        """Write a record, which needs these files; False where another was first, unless `replace`.

        Readers see the old one or the new one, and nothing between.
        """

    @abstractmethod
    def size(self, sha256: str) -> int | None:
        """How many bytes the file has, None if it is not there."""

    @abstractmethod
    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        """What the file holds from this byte on; Missing, or Cut where asking again may help."""

    @abstractmethod
    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        """Write a file, of which readers see nothing before it is whole."""

    def keep(self, name: str, files: Sequence[Blob]) -> None:  # noqa: B027 - most need nothing
        """Hold files that no record names, as .debs are, from being collected as garbage."""

    def close(self) -> None:  # noqa: B027 - most need nothing
        """Let connections go."""


class Meter:
    """Whether something moves fast enough; looked at after each block."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.since = time.monotonic()
        self.bytes = 0

    def moved(self, size: int) -> None:
        """Note bytes that moved; RemoteFault when too few did for too long, or a signal came."""
        check_signal()
        self.bytes += size
        passed = time.monotonic() - self.since
        if passed >= self.patience:
            if self.bytes < SLOWEST * passed:
                raise RemoteFault(f"too slow: {self.bytes} bytes in {math.ceil(passed)} seconds")
            self.since, self.bytes = time.monotonic(), 0

    def rest(self, failures: int) -> None:
        """Pause before asking again; the pause is ours, not the server's."""
        self.since += rest(failures)


def rest(failures: int) -> float:
    """Pause before asking again, the longer the more often it failed; how many seconds."""
    seconds = min(2.0 ** min(failures, 10) / 8, LONGEST)
    pause(seconds)
    return seconds


def blocks(source: BinaryIO, meter: Meter) -> Iterator[bytes]:
    """A file's blocks, as an upload takes them."""
    while block := source.read(1 << 16):
        yield block
        meter.moved(len(block))


def opened(path: Path) -> BinaryIO:
    """A file of the cache to be sent, through no link."""
    return os.fdopen(safe.reading(path), "rb")
