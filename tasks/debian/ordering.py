"""Versions of packages in their order, as Debian policy 5.6.12 and deb-version(7) have it.

`dpkg --compare-versions` says the same, a process for each pair: an audit compares thousands.
"""

from __future__ import annotations

import re
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")

FORM = re.compile(r"(?:[0-9]{1,9}:)?[A-Za-z0-9.+~:-]{1,200}")
"""What is taken for a version; dpkg warns of some of these, and compares them nevertheless."""


def older(version: str, than: str) -> bool:
    """Whether a version comes before another one."""
    return compared(version, than) < 0


def compared(version: str, other: str) -> int:
    """-1, 0 or 1: before, the same, after."""
    left, right = _split(version), _split(other)
    if left[0] != right[0]:
        return -1 if left[0] < right[0] else 1
    return _compared(left[1], right[1]) or _compared(left[2], right[2])


def _split(version: str) -> tuple[int, str, str]:
    """Epoch, upstream's version and Debian's revision; none of these is as 0."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isascii() or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "")


def _compared(left: str, right: str) -> int:
    for one, other in zip_longest(_PARTS.findall(left), _PARTS.findall(right), fillvalue=("", "")):
        for mine, theirs in zip_longest(one[0], other[0], fillvalue=""):
            if mine != theirs:
                return -1 if _weight(mine) < _weight(theirs) else 1
        mine, theirs = int(one[1] or 0), int(other[1] or 0)
        if mine != theirs:
            return -1 if mine < theirs else 1
    return 0


def _weight(sign: str) -> int:
    """A tilde comes before the end, that before letters, these before all else."""
    if sign == "~":
        return -1
    if not sign:
        return 0
    return ord(sign) if sign.isalpha() else ord(sign) + 256
