"""What a cause is, and the two sides that are compared: see plan.causes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .changes import Change, Package
from .difference import one_line
from .passwords import crypted

MADE = r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One change; `what` is its kind for a program, `lines` are for a person."""

    what: str
    lines: tuple[str, ...]
    packages: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        """It in one line."""
        if self.packages:
            told = "; ".join(one.line().strip() for one in self.packages)
            return one_line(f"packages: {told}")
        return self.lines[0]

    def plain(self) -> dict[str, Any]:
        """It for another program."""
        packages = [one.plain() for one in self.packages]
        return {
            "cause": self.what,
            "text": self.text,
            **({"packages": packages} if packages else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a stage is made of: its inputs, and what of it no key has but people want to read.

    `notes`: `sizes` in bytes by path, paths of `scripts`, `salts` of passwords, a base's `variant`.
    """

    name: str
    inputs: Mapping[str, Any]
    notes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Now(Made):
    """The same of what it would be now; `known` are the lock's packages, by their names.

    `passwords` are the plain ones, of users by their names and of root as "".
    """

    known: Mapping[str, Package]
    passwords: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One input of both sides, which differs."""

    name: str
    old: Made
    new: Now

    @property
    def before(self) -> Any:
        """It as it was."""
        return self.old.inputs.get(self.name)

    @property
    def after(self) -> Any:
        """It as it would be."""
        return self.new.inputs.get(self.name)

    @property
    def stage(self) -> str:
        """What its user calls the stage, an image by its mount point."""
        return self.new.name if self.new.inputs["stage"] == "image" else self.new.inputs["stage"]

    def same(self, name: str) -> bool:
        """Whether another input is the same on both sides."""
        return self.old.inputs.get(name) == self.new.inputs.get(name)


def cause(what: str, *lines: str) -> Cause:
    """A cause in these lines, whatever is in them."""
    return Cause(what=what, lines=tuple(one_line(line) for line in lines))


def moved_to(before: Any, after: Any) -> str:
    """`a → b`, each in a few words."""
    return f"{short(before)} → {short(after)}"


def short(value: Any) -> str:
    """A value in a few words."""
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return str(value)[:120]


def listed(pair: Pair, what: str) -> list[Cause]:
    """A list of texts, of which some came and some went."""
    was, now = pair.before or [], pair.after or []
    signs = [f"+ {one}" for one in now if one not in was] + [
        f"- {one}" for one in was if one not in now
    ]
    told = "; ".join(signs) or f"another order: {short(now)}"
    return [cause(pair.name, f"{what}: {told}")]


def salted(pair: Pair, user: str, old: str, new: str) -> bool:
    """Whether a password is the same, and only the salt is another, which packages make."""
    if not old or not new or (pair.same("records") and pair.same("parent")):
        return False
    salt = pair.old.notes.get("salts", {}).get(user, "")
    plain = pair.new.passwords.get(user, "")
    if not plain or not isinstance(salt, str) or not re.fullmatch(r"[0-9a-f]{16}", salt):
        # Nobody knows: what is certain is that the packages are others.
        return bool(plain)
    return hashlib.sha256(crypted(plain, salt).encode()).hexdigest() == old
