"""When `prune` dropped which entry from the cache, so that `why` can say it.

.doit/pruned.json      the date of each, in seconds since 1970, of the last ones alone
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection
from pathlib import Path

from ..host import safe, strict
from ..host.files import write_text

FORMAT = 1

KEPT = 4096
"""Entries that are remembered: the others were dropped longer ago."""


def note(state: Path, entries: Collection[str], there: Collection[str]) -> None:
    """Remember that these went just now, and no longer what is `there` again."""
    known = {name: when for name, when in _known(state).items() if name not in there}
    known |= dict.fromkeys(entries, int(time.time()))
    newest = sorted(known.items(), key=lambda one: one[1])[-KEPT:]
    with contextlib.suppress(OSError):
        write_text(state / "pruned.json", json.dumps({"format": FORMAT, "entries": dict(newest)}))


def when(state: Path, entry: str) -> int | None:
    """When an entry was dropped, None if nothing is known of it."""
    return _known(state).get(entry)


def _known(state: Path) -> dict[str, int]:
    try:
        told = strict.parse(safe.read_bytes(state / "pruned.json", strict.RECORD_LIMIT))
        if told["format"] != FORMAT:
            return {}
        entries = strict.mapping(told["entries"], "entries")
        return {name: strict.number(entries, name, 1 << 40) for name in entries}
    except (OSError, ValueError, LookupError):
        return {}
