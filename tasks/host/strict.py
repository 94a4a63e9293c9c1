"""JSON that may be anything by now: read within bounds, and its form checked before it is believed.

The one reader of records, of what .doit/ remembers and of locks. Whatever is wrong, size, depth,
a number out of all range, a name that stands twice, half of a character, is `Damaged`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from . import safe

RECORD_LIMIT = 1 << 20
"""Bytes of a cache record, a seal, build.json and what tools are remembered by."""


LIST_LIMIT = 64 << 20
"""Bytes of what grows with the number of packages or files: locks, answers of apt's, seen.json."""


DEPTH_LIMIT = 32
"""How deep lists and mappings may lie in one another; Strata writes seven levels."""


SHA256 = r"[0-9a-f]{64}"

MD5 = r"[0-9a-f]{32}"

KEY = r"[0-9a-f]{32}"

_HALF = re.compile(r"[\ud800-\udfff]")

_HALF_BUT_BYTES = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
"""U+DC80 to U+DCFF stand for the bytes of a file's name that is not UTF-8: os.fsdecode."""


_PERHAPS_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class Damaged(ValueError):
    """This text is not what Strata wrote; says in what."""


def read(path: Path, limit: int = RECORD_LIMIT, *, paths: bool = False) -> dict[str, Any]:
    """The JSON object of a file; Damaged, or OSError for what is no readable regular file."""
    return parse(safe.read_bytes(path, limit), paths=paths)


def parse(raw: bytes | str, *, paths: bool = False) -> dict[str, Any]:
    """The JSON object of a text; Damaged unless it is one.

    `paths`: it may hold names of files, which are any bytes; else every text is one that UTF-8 has.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite
        )
    except Damaged:
        raise
    except RecursionError:
        raise Damaged("it is nested too deep") from None
    except UnicodeDecodeError:
        raise Damaged("it is not UTF-8") from None
    except ValueError as error:
        raise Damaged(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Damaged("it is not a mapping")
    level: list[Any] = [value]
    for _depth in range(DEPTH_LIMIT):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, (dict, list))
        ]
        if not level:
            break
    else:
        raise Damaged("it is nested too deep")
    if _PERHAPS_HALF.search(text):  # the text is searched faster than its values
        _check_halves(value, _HALF_BUT_BYTES if paths else _HALF)
    return value


def _check_halves(value: Any, half: re.Pattern[str]) -> None:
    """Damaged for a surrogate: of UTF-16 half a character, of which no file or command can be."""
    if isinstance(value, str) and half.search(value):
        raise Damaged(f"half of a character (a surrogate) stands in {value[:80]!r}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_halves(name, half)
            _check_halves(inner, half)
    elif isinstance(value, list):
        for inner in value:
            _check_halves(inner, half)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name = twice(name for name, _value in pairs)
        raise Damaged(f"{str(name)[:80]!r} stands twice")
    return found


def twice(names: Iterable[str]) -> str | None:
    """The first name that was there before, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _constant(text: str) -> NoReturn:
    raise Damaged(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Damaged(f"{text[:20]} is too large a number")
    return value


# ---------------------------------------------------------------- forms


def mapping(value: Any, what: str) -> dict[str, Any]:
    """value if it is a mapping."""
    if not isinstance(value, dict):
        raise Damaged(f"{what}: expected a mapping")
    return value


def items(value: Any, what: str) -> list[Any]:
    """value if it is a list."""
    if not isinstance(value, list):
        raise Damaged(f"{what}: expected a list")
    return value


def field(value: dict[str, Any], name: str, what: str = "") -> Any:
    """The field of a mapping, which must be there."""
    if name not in value:
        raise Damaged(f"it has no {what}{name}")
    return value[name]


def text(value: dict[str, Any], name: str, form: str | None = None, what: str = "") -> str:
    """A field that is a text; `form` is a regular expression for all of it."""
    found = field(value, name, what)
    if not isinstance(found, str) or (form is not None and not re.fullmatch(form, found)):
        raise Damaged(f"its {what}{name} is malformed: {str(found)[:80]!r}")
    return found


def number(value: dict[str, Any], name: str, most: int = (1 << 63) - 1, what: str = "") -> int:
    """A field that is a whole number from 0 to `most`."""
    found = field(value, name, what)
    if type(found) is not int or not 0 <= found <= most:
        raise Damaged(f"its {what}{name} is malformed: {str(found)[:80]!r}")
    return found
