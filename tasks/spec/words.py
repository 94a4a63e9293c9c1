"""Words for messages: shortened, without passwords, and near ones for mistyped names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MESSAGE_LIMIT = 400
"""Characters of what is said of a value."""


_ADDRESS = re.compile(r"(?<![A-Za-z])([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/\s'\"]+@")


def without_users(text: str) -> str:
    """text without the user and password of any address in it."""
    # To the last @ before a slash: a password may hold one.
    return _ADDRESS.sub(r"\1***@", text)


def short(text: str) -> str:
    """text without its middle if it is long: a value in it may be."""
    half = MESSAGE_LIMIT // 2
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:half]} ... {text[-half:]}"


def printable(text: str) -> str:
    """text as a message may have it: not too long, and without what a terminal would obey."""
    return short("".join(sign if sign.isprintable() else "?" for sign in text))


def amount(size: int) -> str:
    """Bytes as people read them: MB, of what is small kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"


def near(name: str, known: Iterable[str]) -> str:
    """The one of these names that was meant, or ""."""
    names = list(known)
    name = name[:MESSAGE_LIMIT]
    found = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1)
    return (found or difflib.get_close_matches(name, names, 1) or [""])[0]


def counted(number: int, what: str) -> str:
    """A number and what it counts, in English: `1 repository`, `2 repositories`."""
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what[-1:] == "y" else f"{number} {what}s"


def network_told(layer: str) -> str:
    """What is said of a layer of which a script sees the network."""
    return f"layer {layer}: not reproducible: a script of it sees the network"


def field_of_layer(spec: object, layer: str, field: str) -> str:
    """A layer's field as messages name it: of `packages`, they stand at the top."""
    return f"{spec}: {field}" if layer == "packages" else f"{spec}: layers.{layer}.{field}"
