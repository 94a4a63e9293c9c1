"""Sizes as a spec writes them."""

from __future__ import annotations

from fractions import Fraction

UNITS = {"": 1, **{letter: 1 << 10 * power for power, letter in enumerate("KMGT", 1)},
         **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}  # fmt: skip
"""As truncate(1) reads them; KiB is K."""


def size_of(value: str | int | None) -> int | None:
    """Bytes; a fraction of one is left out."""
    if value is None or isinstance(value, int):
        return value
    number = value.rstrip("kKmMgGtTiB")
    unit = value[len(number) :].replace("iB", "")
    return int(Fraction(number) * UNITS[unit[:1].upper() + unit[1:]])
