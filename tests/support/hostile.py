"""Values that somebody hostile may write, and the places in a document that take one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Path_ = tuple[Any, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of each scalar, and of each key of a mapping whose keys are the user's."""
    if isinstance(value, dict):
        for key, child in value.items():
            if str(key).startswith("/"):
                yield (*path, key, "KEY")
            yield from leaves(child, (*path, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from leaves(child, (*path, number))
    else:
        yield path


def put(document: Any, path: Path_, value: Any) -> Any:
    """The document with another value, or another key, at a path."""
    document = copy.deepcopy(document)
    at = document
    renaming = path[-1] == "KEY"
    for step in path[: -2 if renaming else -1]:
        at = at[step]
    if renaming:
        at[value] = at.pop(path[-2])
    else:
        at[path[-1]] = value
    return document


CANARY = "/tmp/strata-canary"  # no name of it is ever made, whichever shell would run these


STRINGS = [
    "../../../etc/passwd", "/../../etc/passwd", "..", "", " ", "a\nb", "a\n", "a\0b", "\tx",
    f"$(touch {CANARY})", f"`touch {CANARY}`", f"; touch {CANARY};", f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "', f"x\\'; touch {CANARY}", "${IFS}", "--help",
    "-oDPkg::Pre-Invoke::=x", "%s%n%x", "%2e%2e/", "ünïcödé☃\u202e", "\ud800", "\x1b]0;x\x07", "\x9b2J",
    "a" * 5_000, "a/" * 3_000, "1" * 6_000, "~root", "*", "[trusted=yes]", "http://[::1]/$(x)",
    "file:///../../etc", "\u2028", "a=b", "a:b:c",
]  # fmt: skip


NUMBERS: list[Any] = [0, -1, 1.0, 1.5, float("nan"), True, None, 1 << 64, 10**400, [], {"x": 1}]
