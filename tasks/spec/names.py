"""`${name}` in texts and templates: what it stands for, and what is said where nothing gives it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ..errors import BuildError
from .model import SETTINGS
from .words import near, printable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

FILLED_LIMIT = 1 << 23
"""Characters of a text with its names replaced: a name that is short may stand for much."""

LATE = {
    "version": "only file of an image may name it: file: web-${version}.img.gz; "
    "vars: gives values that are known before"
}
"""Names of which nobody knows the value before there is a lock, and what to do instead."""

_MARK = re.compile(r"\$\$\{|\$\{([^}]*)\}?")


def filled(text: str, values: Mapping[str, str], where: str, *, kept: Collection[str] = ()) -> str:
    """text with each `${name}` replaced and each `$${` as `${`; `kept` names stay as they are.

    All other dollars are themselves, as a shell's `$1` and `$(date)` are. What is put in is not
    looked at again: no name can stand for another. Raises BuildError, with `where` and the line of
    a text that has several, for a name that has no value, and for more than FILLED_LIMIT.
    """
    size = len(text)

    def put(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        nonlocal size
        name, whole = found[1], found[0].endswith("}")
        if name in kept and whole:
            return found[0]
        if name not in values or not whole:
            line = f":{text.count(chr(10), 0, found.start()) + 1}" if "\n" in text else ""
            known = [*values, *kept]
            meant = near(name, known)
            hint = f"did you mean ${{{meant}}}? " if meant else ""
            if name in SETTINGS and whole:
                hint = f"templates and env know it where the spec sets {name}; elsewhere "
            mark = printable(found[0])
            if name in LATE and whole:
                raise BuildError(
                    f"{where}{line}: {mark}: it is known only when the lock is", LATE[name]
                )
            raise BuildError(
                f"{where}{line}: {mark}: nothing gives it a value",
                f"{hint}vars: gives values; ${mark} stands for {mark} itself",
            )
        size += len(values[name])
        if size > FILLED_LIMIT:
            raise BuildError(f"{where}: with its names replaced longer than {FILLED_LIMIT}")
        return values[name]

    return _MARK.sub(put, text) if "${" in text else text
