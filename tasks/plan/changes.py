"""Two locks compared, in package terms."""

from __future__ import annotations

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


def _placed(lock: Lock) -> dict[tuple[str, str], tuple[str, Record]]:
    """By package and architecture: which part installs it, and as what; the last one counts."""
    found = {(one.package, one.native(lock.arch)): ("base", one) for one in lock.base}
    for layer in lock.layers:
        found |= {(one.package, one.native(lock.arch)): (layer.name, one) for one in layer.records}
    return found
