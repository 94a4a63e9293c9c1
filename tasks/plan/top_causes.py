"""What differs of parts of disks, disks, exports and boot tests, in the words of a spec's user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..spec.sizes import shown
from .cause import Cause, Pair, cause, moved_to

PLAIN = ("size", "rest", "grow", "kind", "mount", "type", "guid", "uuid")
"""Fields of a partition, in the order in which they are told."""


def _partitions(pair: Pair) -> list[Cause]:
    """Each partition that came, went or is another one."""
    was, now = ({row["name"]: row for row in rows or ()} for rows in (pair.before, pair.after))
    lines = []
    for name in dict.fromkeys([*now, *was]):
        if name not in was or name not in now:
            lines.append(f"partitions: {'+' if name in now else '-'} {name}")
            continue
        differ = [one for one in PLAIN if was[name].get(one) != now[name].get(one)]
        lines += [
            f"partition {name}: {one} {_moved(one, was[name].get(one), now[name].get(one))}"
            for one in differ
        ]
    if not lines and list(was) != list(now):
        lines = ["partitions: another order"]
    return [cause("disk", f"{pair.stage}: {line}") for line in lines]


def _moved(field: str, was: Any, now: Any) -> str:
    if field == "size":
        was, now = (shown(one) if isinstance(one, int) else one for one in (was, now))
    return moved_to(was, now)


def _named(what: str) -> Callable[[Pair], list[Cause]]:
    """Of a map from names: which came, went or have another content."""

    def told(pair: Pair) -> list[Cause]:
        was, now = pair.before or {}, pair.after or {}
        lines = []
        for name in dict.fromkeys([*now, *was]):
            if was.get(name) != now.get(name):
                state = "is gone" if name not in now else "is new" if name not in was else "changed"
                lines.append(f"{what} {name} {state}")
        return [cause(pair.name, f"{pair.stage}: {line}") for line in lines]

    return told


def _text(pair: Pair) -> list[Cause]:
    """A text of many lines."""
    return [cause(pair.name, f"{pair.stage}: its {pair.name} changed")]


def _tests(pair: Pair) -> list[Cause]:
    """The scripts of a boot test: SHA-256 and seconds of each, in the spec's order."""
    was, now = pair.before or [], pair.after or []
    if [row[0] for row in was] == [row[0] for row in now]:
        return [cause("script", "the timeout of a script is another")]
    return [cause("script", "a script is another" if len(was) == len(now) else "other scripts")]


TOLD: dict[str, Callable[[Pair], list[Cause]]] = {
    "partitions": _partitions,
    "texts": _named("file"),
    "sources": _named("source of partition"),
    "config": _text,
    "scripts": _tests,
}
"""Who tells each input."""
