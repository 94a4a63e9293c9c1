"""What the cache has, read whole before it is used: a disk may lose bits of what was seen whole."""

from __future__ import annotations

import errno

from ..builder import Builder
from ..errors import DamagedEntry
from ..host.files import read_sha256
from ..plan.stage import Stage
from ..store.record import Entry


def sound(stage: Stage, builder: Builder) -> Entry:
    """The entry of a stage, each byte of it read now; DamagedEntry, and none, where one rotted."""
    entry = builder.cache.require(stage)
    try:
        whole = read_sha256(entry.path) == entry.sha256
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        whole = False
    if not whole:
        raise rotten(stage, entry, builder)
    return entry


def rotten(stage: Stage, entry: Entry, builder: Builder) -> DamagedEntry:
    """The error of an entry whose bytes are not its record's; it is dropped."""
    builder.cache.damaged(stage, builder.log.progress)
    return DamagedEntry(
        f"{entry.path}: its SHA-256 is not its record's; it is dropped",
        "run the same command again",
    )
