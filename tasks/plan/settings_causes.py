"""What differs of the settings, which the last layer of a tree is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .cause import MADE, Cause, Pair, cause, moved_to, salted


def settings(pair: Pair) -> list[Cause]:
    """Each field that differs, but for what only follows from another change."""
    was, now = pair.before or {}, pair.after or {}
    lines: list[str] = []
    for name in sorted(was.keys() | now.keys()):
        before, after = was.get(name), now.get(name)
        # Where nothing at all was set, there was no field at all.
        if before != after and (before or after) and name not in ("fstab", "pins"):
            lines += SETTING.get(name, _setting)(name, before, after, pair)
    if (was.get("pins") or "") != (now.get("pins") or "") and was.get("apt_sources") == now.get(
        "apt_sources"
    ):
        lines.append("apt_sources: the pins are others")
    # A short UUID tells nothing of itself: it is a made one where what it is made of changed.
    moved = bool(lines) or not pair.same("parent") or not pair.same("epoch")
    lines += _fstab(was.get("fstab"), now.get("fstab"), moved=moved)
    return [cause("settings", f"settings: {line}") for line in lines]


def _setting(name: str, before: Any, after: Any, _pair: Pair) -> list[str]:
    if isinstance(before if before else after, dict):
        return [f"{name} is {'gone' if not after else 'new' if not before else 'another'}"]
    return [f"{name} {moved_to(before, after)}"]


def _password(_name: str, before: Any, after: Any, pair: Pair) -> list[str]:
    if before and after and salted(pair, "", before, after):
        return []
    return [f"root's password is {'gone' if not after else 'new' if not before else 'another'}"]


def _version(_name: str, before: Any, after: Any, _pair: Pair) -> list[str]:
    old, new = before or ["", ""], after or ["", ""]
    return (
        [f"version {moved_to(old[1], new[1])}"]
        if old[1] != new[1]
        else [f"name {moved_to(old[0], new[0])}"]
    )


def _docs(_name: str, before: Any, after: Any, _pair: Pair) -> list[str]:
    if before and after:
        return ["docs: what is left out is another"]
    return ["docs true → false" if after else "docs false → true"]


def _boot(_name: str, before: Any, after: Any, _pair: Pair) -> list[str]:
    """Files that a boot loader reads: command lines and the like."""
    was, now = ({row[0]: row[1:] for row in rows or ()} for rows in (before, after))
    return [
        f"{path} is {'gone' if path not in now else 'new' if path not in was else 'another'}"
        for path in dict.fromkeys([*now, *was])
        if was.get(path) != now.get(path)
    ]


_SOURCE = ("uri", "suite", "section", "priority", "trusted", "keyring")


def _sources(_name: str, before: Any, after: Any, _pair: Pair) -> list[str]:
    was, now = ({row[0]: row for row in rows or ()} for rows in (before, after))
    if not before or not after:
        return [f"apt_sources {'false → true' if after else 'true → false'}"]
    lines = []
    for name in dict.fromkeys([*now, *was]):
        if name not in was or name not in now:
            lines.append(f"apt_sources: {'+' if name in now else '-'} {name}")
            continue
        for field, old, new in zip(_SOURCE, was[name][1:], now[name][1:], strict=True):
            if old != new:
                told = "changed" if field == "keyring" and old and new else moved_to(old, new)
                told = (
                    told if field != "keyring" or (old and new) else "is new" if new else "is gone"
                )
                lines.append(f"apt_sources: {name}: {field} {told}")
    return lines or ["apt_sources: another order"]


def _fstab(before: Any, after: Any, *, moved: bool) -> list[str]:
    """How the file differs but for UUIDs that are made of keys."""
    if before == after:
        return []
    if not before or not after:
        return [f"fstab is {'new' if after else 'gone'}"]
    was, now = (
        {row[1]: row for row in map(str.split, one["text"].splitlines())
         if len(row) == 6 and not row[0].startswith("#")}
        for one in (before, after)
    )  # fmt: skip
    lines = []
    for mount in dict.fromkeys([*now, *was]):
        if mount not in was or mount not in now:
            lines.append(f"fstab: {'+' if mount in now else '-'} {mount}")
            continue
        old, new = (_own_line(rows[mount], moved=moved) for rows in (was, now))
        differ = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
        if differ:
            told = ", ".join(moved_to(one or "UUID", other or "UUID") for one, other in differ)
            lines.append(f"fstab: {mount} {told}")
    if not lines and before.get("asked") != after.get("asked"):
        lines.append(f"fstab is {'asked for' if after.get('asked') else 'no longer asked for'}")
    return lines


def _own_line(row: Sequence[str], *, moved: bool) -> list[str]:
    uuid = row[0].removeprefix("UUID=")
    made = re.fullmatch(MADE, uuid) or (moved and re.fullmatch(r"[0-9A-F]{4}-[0-9A-F]{4}", uuid))
    return ["" if made else uuid, *row[2:]]


SETTING: dict[str, Callable[[str, Any, Any, Pair], list[str]]] = {
    "password": _password,
    "boot": _boot,
    "os_release": _version,
    "docs": _docs,
    "apt_sources": _sources,
}
