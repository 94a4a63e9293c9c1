"""Packages of two locks compared: what `lock`, `outdated` and `diff` say of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..spec.words import counted
from .lockfile import OWN, Lock, Record, short_name, slot

SHOWN = 200
"""How many changes a pull request lists of one spec; the rest is in the lock."""

_SECURE = re.compile(r"-security(/|$)|^[a-z]+/updates$")
"""Suites of security updates: Debian's, of before bullseye too, and Ubuntu's."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of one side; what that side does not tell is "".

    `layer` installs it, or the base does, and `removed_by` is the layer that takes it away again.
    `path` is that of a .deb of the project's own. `security`: an archive's security suite has it.
    """

    version: str
    sha256: str = ""
    layer: str = ""
    repository: str = ""
    path: str = ""
    security: bool = False
    removed_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A package that differs; `before` and `after` are None where a side has none of it."""

    name: str
    before: Package | None
    after: Package | None

    @property
    def kind(self) -> str:
        """added, removed, changed (its version), rebuilt (its bytes alone) or moved (its layer).

        By what the image has, of which a layer may have taken something away.
        """
        was = self.before is not None and not self.before.removed_by
        now = self.after is not None and not self.after.removed_by
        if was != now:
            return "added" if now else "removed"
        if self.before is None or self.after is None:
            return "added" if self.after else "removed"
        if self.before.version != self.after.version:
            return "changed"
        return "rebuilt" if _other(self.before.sha256, self.after.sha256) else "moved"

    @property
    def security(self) -> bool:
        """Whether what comes with it is a security update; a new package is none."""
        return bool(self.after and self.after.security and self.kind != "moved")

    def line(self) -> str:
        """It in a line: the sign, name, versions, where it is from."""
        before, after, kind = self.before, self.after, self.kind
        if kind == "removed":
            gone = before or after
            assert gone is not None
            if after is not None and after.removed_by:
                return f"- {self.name} {gone.version} ({after.removed_by} removes it)"
            return f"- {self.name} {gone.version}{_listed([gone.layer])}"
        assert after is not None
        origin = [after.path or (f"from {after.repository}" if after.repository else "")]
        marked = [*(["security"] if self.security and kind != "added" else []), *origin]
        if kind == "added":
            taken = f"{after.removed_by} removes it" if after.removed_by else ""
            return f"+ {self.name} {after.version}{_listed([after.layer, *origin, taken])}"
        assert before is not None
        if kind == "changed":
            return f"  {self.name} {before.version} → {after.version}{_listed(marked)}"
        if kind == "rebuilt":
            return (
                f"  {self.name} {after.version}: other bytes of the same version{_listed(marked)}"
            )
        return f"  {self.name}: {before.layer} → {after.layer}"

    def plain(self) -> dict[str, Any]:
        """It for another program."""
        sides = {"from": self.before, "to": self.after}
        return {
            "package": self.name,
            "change": self.kind,
            "security": self.security,
            **{
                side: {name: value for name, value in asdict(one).items() if value}
                for side, one in sides.items()
                if one is not None
            },
        }


def _listed(parts: Iterable[str]) -> str:
    told = ", ".join(part for part in parts if part)
    return f" ({told})" if told else ""


def _other(before: str, after: str) -> bool:
    """Whether both sides tell it, and tell it otherwise."""
    return before != after and bool(before and after)


def compared(old: Mapping[str, Package], new: Mapping[str, Package]) -> list[Change]:
    """What differs between two sides' packages, by name."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if (
            before is None
            or after is None
            or before.version != after.version
            or any(_other(getattr(before, one), getattr(after, one)) for one in ("sha256", "layer"))
            or bool(before.removed_by) != bool(after.removed_by)
        ):
            found.append(Change(name=name, before=before, after=after))
    return found


def packages_of(lock: Lock, suites: Mapping[str, str] | None = None) -> dict[str, Package]:
    """A lock's packages by name, or name:arch where it is another architecture's.

    Of several layers that install one, the last counts. `suites` are the suites of the spec's
    repositories, by their names, as far as they are known: the lock has what the Releases say.
    """
    secure = {
        repo.name
        for repo in lock.repos
        if repo.fields.get("Label") == "Debian-Security"
        or any(
            _SECURE.search(suite)
            for suite in (
                (suites or {}).get(repo.name, ""),
                *(repo.fields.get(name, "") for name in ("Suite", "Archive", "Codename")),
            )
        )
    }
    found: dict[str, Package] = {}

    def put(layer: str, records: Iterable[Record]) -> None:
        for record in records:
            found[short_name(record.package, record.architecture, lock.arch)] = Package(
                version=record.version,
                sha256=record.sha256,
                layer=layer,
                repository="" if record.repository == OWN else record.repository,
                path=record.path if record.repository == OWN else "",
                security=record.repository in secure,
            )

    put("base", lock.base)
    for layer in lock.layers:
        for removed in layer.removes:
            name = short_name(*slot(removed, lock.arch), lock.arch)
            if name in found:
                found[name] = replace(found[name], removed_by=layer.name)
        put(layer.name, layer.records)
    return found


def in_image(packages: Mapping[str, Package]) -> dict[str, Package]:
    """Those that no layer takes away: all that a build's metadata tells of a lock."""
    return {name: one for name, one in packages.items() if not one.removed_by}


def parts_of(lock: Lock) -> list[str]:
    """A line for each part of a lock, where there is no other to compare it with."""
    parts = [("base", lock.base), *((layer.name, layer.records) for layer in lock.layers)]
    return [f"{name}: {counted(len(records), 'package')}" for name, records in parts if records]


def changes(old: Lock | None, new: Lock, suites: Mapping[str, str] | None = None) -> list[str]:
    """A line for each package that a lock has, lacks or has in another version or place.

    Without an older one, a line for each part of it.
    """
    if old is None:
        return parts_of(new)
    return [one.line() for one in compared(packages_of(old, suites), packages_of(new, suites))]


# ---------------------------------------------------------------- for a pull request


def markdown(name: str, old: Lock | None, new: Lock, suites: Mapping[str, str]) -> str:
    """The same for a pull request, what an archive's security suite has first; "" for none.

    `suites` are the suites of the spec's repositories, by their names.
    """
    if old is None:
        items = [_item(one) for one in parts_of(new)]
        return "\n".join([f"### {name}", "", *items, ""]) if items else ""
    found = compared(packages_of(old, suites), packages_of(new, suites))
    return "\n".join([f"### {name}", *items_of(found), ""]) if found else ""


def items_of(found: Iterable[Change]) -> list[str]:
    """Changes as lines of Markdown, security updates first under a heading of their own."""
    every = list(found)
    first = [one for one in every if one.security]
    rest = [one for one in every if not one.security]
    text: list[str] = []
    shown = SHOWN
    for heading, some in (("Security", first), ("Others" if first else "", rest)):
        if some and shown:
            text += ["", f"**{heading}**", ""] if heading else [""]
            text += [_item(one.line()) for one in some[:shown]]
            shown -= len(some[:shown])
    if len(every) > SHOWN:
        text.append(f"- … and {len(every) - SHOWN} more: see the lock")
    return text


def _item(line: str) -> str:
    """A change as an item; nothing in it is Markdown, whatever a version has."""
    sign = {"+": "new: ", "-": "gone: "}.get(line[0], "")
    return f"- {sign}`{line[2:] if line[1] == ' ' else line}`"
