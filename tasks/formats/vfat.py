"""What a vfat holds of a tree, and what mtools make of it: told before and looked for after.

mtools(1) write without the kernel, but what they cannot write as it is they write otherwise, or
over another file, in silence.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import fat

LARGEST = (1 << 32) - 1
"""Bytes of a file: its size is a number of 32 bits."""


FORBIDDEN = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|]')


RESERVED = re.compile(r"con|aux|prn|nul|com[1-4]|lpt[1-4]", re.IGNORECASE)
"""Names that mtools take for devices."""


SHORT = re.compile(r"[^.]{1,8}(\.[^.]{1,3})?")
"""A name that may do without a long one: then there is nothing but mtools' code page for it."""


# mtools write a vfat without the kernel, which may lack it, and in the order they are told. Names
# end in NUL: a newline in one would make a path of the host's out of what follows it. In the folder
# part of a target [ begins a pattern, in its last part and in the source it does not. A long name
# gets an alias like LONGNA~1, and a file that has just this as its name would be written over it:
# what could be an alias is written before all others of its folder, and mtools take another then.
# For that a part that could be one begins with 0 while sorted, all others with 1.
FILL = r"""
marked() {
    c='[^][/. +,;=]'
    sed -zE "s#/#/1#g; :again
        s#/1(($c{1,6}~[0-9]|$c{1,5}~[0-9]{2}|$c{1,4}~[0-9]{3})(\.$c{1,3})?)(/|\$)#/0\1\4#
        t again" | sort -z
}
put() {
    folder=${name%/*}
    target="::${folder//[/[[]}/${name##*/}"
    if [ -d "$name" ]; then
        mmd -D s -i "$1" "$target" < /dev/null
    else
        mcopy -m -D o -i "$1" "$name" "$target" < /dev/null
    fi
}
find . -mindepth 1 '(' -type d -o -type f -name '*~[0-9]*' ')' -print0 | marked |
while IFS= read -r -d '' key; do
    name=${key//\/[01]/\/}
    if [ -d "$name" ] || [[ ${key##*/} = 0* ]]; then put "$1"; fi
done
find . -type f -print0 | marked | while IFS= read -r -d '' key; do
    name=${key//\/[01]/\/}
    if [[ ${key##*/} = 1* ]]; then put "$1"; fi
done
"""


def unfit(path: str, mode: int, size: int) -> str:
    """Why a vfat cannot hold what is at a path, "" if it can."""
    name = path.rpartition("/")[2]
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return "it is no plain file"
    if stat.S_ISREG(mode) and size > LARGEST:
        return f"it has {size / (1 << 30):.1f} GiB, and 4 GiB are the most"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if found := FORBIDDEN.search(name):
        return f"its name has a {found[0]!r}"
    if name[-1] in ". ":
        return f"its name ends in a {name[-1]!r}"
    if RESERVED.fullmatch(name):
        return "its name is one of a device there"
    if max(name) > "\uffff":
        return "its name has a character that mtools cannot write (beyond U+FFFF)"
    if len(name) > 255:
        return "its name is longer than 255 characters"
    return ""


def same_name(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two of these paths that are one to a vfat, which does not tell upper from lower case."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        other = seen.setdefault(_folded(path), path)
        if other != path:
            return other, path
    return None


def _folded(path: str) -> str:
    # Each character by itself, as file systems do it: ß is not SS there.
    return "".join(_upper(char) for char in path)


def _upper(char: str) -> str:
    lower = char.lower()
    char = lower if len(lower) == 1 else char
    upper = char.upper()
    return upper if len(upper) == 1 else char


def doubtful(paths: Iterable[str]) -> str:
    """The characters of short names that the code page lacks; mtools may write others for them.

    They write such a name in capitals: ÿ is in the code page, and Ÿ is not.
    """
    found: set[str] = set()
    for path in paths:
        name = path.rpartition("/")[2]
        if SHORT.fullmatch(name):
            found |= {char for char in _capitals(name) if not _encodable(char)}
    return "".join(sorted(found))


def _capitals(name: str) -> set[str]:
    both = {*name, *(char.upper() for char in name)}
    return {char for char in both if len(char) == 1 and not char.isascii()}


def replaced(paths: Iterable[str], chars: str) -> str:
    """A path whose name is short and has one of these characters, or ""."""
    for path in sorted(paths):
        name = path.rpartition("/")[2]
        if SHORT.fullmatch(name) and _capitals(name) & set(chars):
            return path
    return ""


def transliterated(chars: str, said: bytes) -> str:
    """Those of `chars`, which iconv(1) was given a line each, that it wrote as something else.

    For what it writes a ? or nothing for, mtools make a long name.
    """
    lines = said.split(b"\n")
    return "".join(
        char for char, line in zip(chars, lines, strict=False) if line not in (b"", b"?")
    )


def _encodable(char: str) -> bool:
    try:
        char.encode(fat.CODEPAGE)
    except UnicodeEncodeError:
        return False
    return True


def lost(raw: Path, expected: Mapping[str, int]) -> str:
    """A path that is not in the filesystem as it should be, or "".

    `expected` has sizes of files by path, and -1 for folders.
    """
    found = fat.files(raw)
    return next((path for path in sorted(expected) if found.get(path) != expected[path]), "")
