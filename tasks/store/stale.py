"""What an entry was made of, by digest: where keys do not decide the bytes of that.

A filesystem, or a tree in which packages drew something, may have other bytes under the same key
on another host, or when it is made again. What has a digest of it inside, a root hash or a
manifest, is of those very bytes alone, and its record says so in the fact `made_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plan.stage import Stage
from .record import FOLDERS, MADE_OF, Entry, read_record


def made_of(*parts: tuple[Stage, Entry]) -> dict[str, dict[str, str]]:
    """The fact: by entry the SHA-256 of these, and of what they are made of themselves."""
    found: dict[str, str] = {}
    for stage, entry in parts:
        found |= {**entry.facts.get(MADE_OF, {}), stage.entry: entry.sha256}
    return {MADE_OF: found}


def stale(root: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a cache has other bytes of something that an entry with these facts was made of."""
    for name, sha256 in facts.get(MADE_OF, {}).items():
        try:
            there = read_record(root / FOLDERS[name.partition("-")[0]] / f"{name}.json")
        except (OSError, ValueError):
            continue  # there is none, and what comes in its place is compared then
        if there["file"]["sha256"] != sha256:
            return True
    return False
