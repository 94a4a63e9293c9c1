"""Why a stage is another one: what differs between what it was made of and what it would be now.

In the words of a spec's user, who changed something there. What only follows from another change
is not named: a password's salt that moves with the packages, a UUID that is made of a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..host import strict
from ..host.tools import TOOLS
from ..spec.words import counted
from . import layer_causes, top_causes
from .cause import MADE, Cause, Made, Now, Pair, cause, listed, moved_to
from .changes import Package, compared
from .difference import one_line, packages_text
from .lockfile import short_name
from .settings_causes import settings
from .stage import STANDS_ON, tools_of

AT_ONCE = 3
"""Packages that are told in one line, if it is no longer than WIDTH; more have a line each."""

WIDTH = 100

BELOW = "what it stands on changed"

FOLLOWS = ("arch", "foreign", "epoch", "shown")
"""Inputs of each stage that are those of the one below, too: that one tells them."""


def causes(old: Made, new: Now) -> list[Cause]:
    """What differs, without what lies below it.

    ValueError, LookupError, TypeError or AttributeError where the old inputs have no form that is
    known: only what the new ones hold is of a form that can be relied on.
    """
    was, now = old.inputs, new.inputs
    if was.get("recipe") != now.get("recipe"):
        # What the inputs are called may differ, too.
        return [cause("recipe", "this version of Strata makes it in another way")]
    found: list[Cause] = []
    for name in sorted(was.keys() | now.keys(), key=lambda one: (_rank(one), one)):
        before, after = was.get(name), now.get(name)
        if before == after or name in ("stage", *STANDS_ON):
            continue
        if None not in (before, after) and type(before) is not type(after) and name != "script":
            raise strict.Damaged(f"its inputs' {name} is malformed")
        found += TOLD.get(name, _field)(Pair(name=name, old=old, new=new))
    return [*_variant(old, new), *found]


def _field(pair: Pair) -> list[Cause]:
    """Any field of which nothing more is known than its name."""
    return [cause(pair.name, f"{pair.stage}: {pair.name} {moved_to(pair.before, pair.after)}")]


def _variant(old: Made, new: Now) -> list[Cause]:
    """A base's: its tool may be told the same of two variants, and the packages alone differ."""
    was, now = (one.notes.get("variant") for one in (old, new))
    if not was or not now or was == now:
        return []
    return [cause("base", f"base: variant {moved_to(was, now)}")]


_ORDER = ("arch", "foreign", "tool", "records", "manual", "auto", "removes", "debconf", "accounts",
          "files", "services", "remove", "script", "shown", "settings")  # fmt: skip


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


# ---------------------------------------------------------------- packages


def _records(pair: Pair) -> list[Cause]:
    arch = str(pair.new.inputs["arch"])
    was = {short_name(row[0], row[2], arch): row for row in pair.before or ()}
    now = {short_name(row[0], row[2], arch): row for row in pair.after or ()}
    after = {}
    for name, (_package, version, _architecture, sha256) in now.items():
        known = pair.new.known.get(name)
        fits = known is not None and known.sha256 == sha256
        after[name] = (
            replace(known, layer="", removed_by="")
            if known is not None and fits
            else Package(version=version, sha256=sha256)
        )
    before = {name: Package(version=str(row[1]), sha256=str(row[3])) for name, row in was.items()}
    found = compared(before, after)
    if not found:
        # The very same bytes, as a lock that somebody edited may call them.
        other = [name for name in now if now[name] != was.get(name)]
        return [cause("packages", f"packages: {name} {now[name][2]}") for name in other]
    told = Cause(what="packages", lines=(), packages=tuple(found))
    short = len(found) <= AT_ONCE and len(told.text) <= WIDTH
    lines = [told.text] if short else map(one_line, packages_text(found))
    return [replace(told, lines=tuple(lines))]


def _manual(pair: Pair) -> list[Cause]:
    """Which packages are asked for; of those that came or went, that is told."""
    return _marks(pair, pair.before, pair.after)


def _auto(pair: Pair) -> list[Cause]:
    """Which are not asked for: of a base nothing else tells it, of layers `manual` does."""
    if "manual" in pair.new.inputs or not pair.same("variant"):  # one of these has no marks at all
        return []
    return _marks(pair, pair.after, pair.before)


def _marks(pair: Pair, before: Any, after: Any) -> list[Cause]:
    had, has = set(before or ()), set(after or ())
    records = [
        {tuple(row[:3]) for row in side.inputs.get("records") or ()}
        for side in (pair.old, pair.new)
    ]
    other = {str(row[0]) for row in records[0] ^ records[1]}
    lines = [
        f"package {name} is {verb}"
        for names, verb in ((had - has, "no longer asked for"), (has - had, "asked for"))
        for name in sorted(one.partition(":")[0] for one in names)
        if name not in other
    ]
    return [cause("packages", line) for line in lines]


def _removes(pair: Pair) -> list[Cause]:
    was, now = set(pair.before or ()), set(pair.after or ())
    lines = [f"packages: {one} is taken away" for one in sorted(now - was)]
    lines += [f"packages: {one} is no longer taken away" for one in sorted(was - now)]
    return [cause("packages", line) for line in lines]


# ---------------------------------------------------------------- base, images, tools


def _tools(pair: Pair) -> list[Cause]:
    old, new = tools_of(pair.old.inputs), tools_of(pair.new.inputs)
    return [cause("tools", line) for line in other_tools_here(old, new)]


def other_tools_here(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The tools whose versions differ, of those that both name, by the packages that have them."""
    lines = []
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            package = TOOLS.get(name, name)
            whose = f" ({name})" if package != name else ""
            lines.append(
                one_line(f"other tools here: {package} {moved_to(old[name], new[name])}{whose}")
            )
    return lines


def _base_field(pair: Pair) -> list[Cause]:
    """tool, variant, suite of a base: another tool brings its own of the other two."""
    if pair.name != "tool" and not pair.same("tool"):
        return []
    if pair.name == "variant" and pair.old.notes.get("variant"):
        return []  # told by what the spec says
    return [cause("base", f"base: {pair.name} {moved_to(pair.before, pair.after)}")]


def _image_field(pair: Pair) -> list[Cause]:
    before, after = pair.before, pair.after
    if pair.name == "level" and not (before and after):
        return []  # of what is not compressed there is none
    if pair.name == "uuid" and {_own_uuid(before), _own_uuid(after)} == {""}:
        return []
    if pair.name == "below":
        return listed(pair, f"{pair.stage}: images below it")
    if pair.name in ("size", "free"):
        before, after = (_size(one) for one in (before, after))
    return [cause("image", f"{pair.stage}: {pair.name} {moved_to(before, after)}")]


def _own_uuid(uuid: Any) -> str:
    """A UUID that the user gave; "" for one that is made of a key, which is of version 8."""
    return "" if not uuid or re.fullmatch(MADE, str(uuid)) else str(uuid)


def _size(size: Any) -> str:
    """As a spec has it."""
    if not size:
        return ""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size % (1 << 10 * power) == 0:
            return f"{size >> 10 * power}{letter}"
    return counted(size, "byte")


def _epoch(pair: Pair) -> list[Cause]:
    return [cause("epoch", f"SOURCE_DATE_EPOCH: {moved_to(pair.before, pair.after)}")]


def _arch(pair: Pair) -> list[Cause]:
    return [cause("arch", f"arch: {moved_to(pair.before, pair.after)}")]


TOLD: dict[str, Callable[[Pair], list[Cause]]] = {
    "records": _records,
    "manual": _manual,
    "auto": _auto,
    "removes": _removes,
    "files": layer_causes.files,
    "script": layer_causes.script,
    "debconf": layer_causes.debconf,
    "accounts": layer_causes.accounts,
    "services": layer_causes.services,
    "shown": layer_causes.shown,
    "settings": settings,
    "epoch": _epoch,
    "arch": _arch,
    "foreign": lambda pair: listed(pair, "foreign architectures"),
    "remove": lambda pair: listed(pair, "remove"),
    "tools": _tools,
    "tool_version": _tools,
    **top_causes.TOLD,
    **dict.fromkeys(("tool", "suite", "variant"), _base_field),
    **dict.fromkeys(
        ("mount", "below", "format", "container", "level", "pack", "label", "uuid", "options",
         "size", "free"), _image_field
    ),
}  # fmt: skip
"""Who tells each input."""


def following(found: Sequence[Cause], below: Collection[str], *, moved: bool) -> list[Cause]:
    """Causes without those that a stage below has told; `moved`: that one is another now."""
    return [one for one in found if not (moved and one.what in FOLLOWS and one.text in below)]
