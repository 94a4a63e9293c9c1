"""`${name}` in texts and templates: what it stands for, and what is said where nothing gives it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ..errors import BuildError
from .words import near, short

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

LATE = {
    "version": "only file of an image may name it: file: web-${version}.img.gz; "
    "vars: gives values that are known before"
}
"""Names of which nobody knows the value before there is a lock, and what to do instead."""

_MARK = re.compile(r"\$\$\{|\$\{([^}]*)\}?")


def filled(text: str, values: Mapping[str, str], where: str, *, kept: Collection[str] = ()) -> str:
    """text with each `${name}` replaced and each `$${` as `${`; `kept` names stay as they are.

    All other dollars are themselves, as a shell's `$1` and `$(date)` are. Raises BuildError, with
    `where` and the line of a text that has several, for a name that has no value.
    """

    def put(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name = found[1]
        if name in kept:
            return found[0]
        if name not in values or not found[0].endswith("}"):
            line = f":{text.count(chr(10), 0, found.start()) + 1}" if "\n" in text else ""
            known = [*values, *kept]
            meant = near(name, known)
            hint = f"did you mean ${{{meant}}}? " if meant else ""
            mark = short(found[0])
            if name in LATE and found[0].endswith("}"):
                raise BuildError(
                    f"{where}{line}: {mark}: it is known only when the lock is", LATE[name]
                )
            raise BuildError(
                f"{where}{line}: {mark}: nothing gives it a value",
                f"{hint}vars: gives values; ${mark} stands for {mark} itself",
            )
        return values[name]

    return _MARK.sub(put, text) if "${" in text else text
