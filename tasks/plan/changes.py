"""Two locks compared, in package terms."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..spec.words import counted
from .lockfile import OWN, Lock, Record


def changes(old: Lock | None, new: Lock) -> list[str]:
    """A line for each package that a lock has, lacks or has in another version or place.

    Without an older one, a line for each part of it.
    """
    if old is None:
        parts = [("base", new.base), *((layer.name, layer.records) for layer in new.layers)]
        return [f"{name}: {counted(len(records), 'package')}" for name, records in parts if records]
    was, now = _placed(old), _placed(new)
    lines = []
    for slot in sorted(was.keys() | now.keys()):
        name = slot[0] if slot[1] == new.arch else ":".join(slot)
        if slot not in now:
            place, record = was[slot]
            lines.append(f"- {name} {record.version} ({place})")
        elif slot not in was:
            place, record = now[slot]
            own = f", {record.path}" if record.repository == OWN else ""
            lines.append(f"+ {name} {record.version} ({place}{own})")
        elif was[slot][1].version != now[slot][1].version:
            lines.append(f"  {name} {was[slot][1].version} → {now[slot][1].version}")
        elif was[slot][1].sha256 != now[slot][1].sha256:
            lines.append(f"  {name} {now[slot][1].version}: other bytes of the same version")
        elif was[slot][0] != now[slot][0]:
            lines.append(f"  {name}: {was[slot][0]} → {now[slot][0]}")
    return lines


SHOWN = 200
"""How many changes a pull request lists of one spec; the rest is in the lock."""


def markdown(name: str, old: Lock | None, new: Lock, suites: Mapping[str, str]) -> str:
    """The same for a pull request, what an archive's security suite has first; "" for none.

    `suites` are the suites of the spec's repositories, by their names.
    """
    lines = changes(old, new)
    if not lines:
        return ""
    labels = {repo.name: repo.fields.get("Label", "") for repo in new.repos}
    secure = {
        slot
        for slot, (_place, record) in _placed(new).items()
        if re.search(r"-security(/|$)|^[a-z]+/updates$", suites.get(record.repository, ""))
        or labels.get(record.repository) == "Debian-Security"
    }
    names = {slot[0] if slot[1] == new.arch else ":".join(slot) for slot in secure}
    first = [] if old is None else [one for one in lines if one[2:].split()[0].rstrip(":") in names]
    rest = [one for one in lines if one not in first]
    text = [f"### {name}"]
    shown = SHOWN
    for heading, some in (("Security", first), ("Others" if first else "", rest)):
        if some and shown:
            text += ["", f"**{heading}**", ""] if heading else [""]
            text += [_item(one) for one in some[:shown]]
            shown -= len(some[:shown])
    if len(lines) > SHOWN:
        text.append(f"- … and {len(lines) - SHOWN} more: see the lock")
    return "\n".join([*text, ""])


def _item(line: str) -> str:
    """A change as an item; nothing in it is Markdown, whatever a version has."""
    sign = {"+": "new: ", "-": "gone: "}.get(line[0], "")
    return f"- {sign}`{line[2:] if line[1] == ' ' else line}`"


def _placed(lock: Lock) -> dict[tuple[str, str], tuple[str, Record]]:
    """By package and architecture: which part installs it, and as what; the last one counts."""
    found = {(one.package, one.native(lock.arch)): ("base", one) for one in lock.base}
    for layer in lock.layers:
        found |= {(one.package, one.native(lock.arch)): (layer.name, one) for one in layer.records}
    return found
