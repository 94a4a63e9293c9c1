"""Sizes and words as a spec writes them → bytes and lists."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from fractions import Fraction

UNITS = {"": 1, **{letter: 1 << 10 * power for power, letter in enumerate("KMGT", 1)},
         **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}  # fmt: skip
"""As truncate(1) reads them; KiB is K."""


def size_of(value: str | int | None) -> int | None:
    """Bytes; a fraction of one is left out. None for what was not given."""
    return None if value is None else size_in(value)


def size_in(value: str | int) -> int:
    """Bytes of a size that the schema let through."""
    if isinstance(value, int):
        return value
    number = value.rstrip("kKmMgGtTiB")
    unit = value[len(number) :].replace("iB", "")
    return int(Fraction(number) * UNITS[unit[:1].upper() + unit[1:]])


def shown(size: int) -> str:
    """Bytes as a spec would have them: `8G`, `512M`, or the number alone."""
    for power, letter in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{letter}"
    return str(size)


def words_of(value: str | Sequence[str]) -> tuple[str, ...]:
    """The words of a tool's options, which may be one text."""
    return tuple(shlex.split(value) if isinstance(value, str) else value)
