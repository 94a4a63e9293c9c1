"""debconf's answers in a spec and in files of it: lines as debconf-set-selections(1) reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import BuildError
from ..host import safe
from .model import debconf_fields
from .words import near

TYPES = ("select", "boolean", "string", "multiselect", "note", "password", "text", "title",
         "seen")  # fmt: skip
"""Those of debconf-set-selections(1), which skips a line of any other with a mere warning."""


FILE_LIMIT = 1 << 20
"""Bytes of a file of answers: all that a large system was ever asked takes a tenth."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def answers(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, answer) of a text: lines joined after a backslash, no comments.

    A text is a file to debconf-set-selections: its last line keeps a backslash at its end, and
    takes no other in. The CR of a CR LF is none of an answer's.
    """
    lines = [line.removesuffix("\r") for line in text.rstrip("\n").split("\n")]
    number = 0
    while number < len(lines):
        first, parts = number + 1, [lines[number]]
        while parts[-1].endswith("\\") and number + 1 < len(lines):
            number += 1
            parts[-1] = parts[-1][:-1]
            parts.append(lines[number])
        number += 1
        line = "".join(parts)
        if line.strip() and not line.lstrip().startswith("#"):
            yield first, line


def from_file(path: Path, project: Path, *, where: str, hint: str) -> dict[str, str]:
    """The answers in a file as debconf-get-selections(1) writes them, each with its `file:line`.

    BuildError for a file that cannot be read, of the field `where` of a spec (`hint` says where it
    was looked for) or is outside the project: its lines are told, and might be /etc/shadow's. Also
    for a line that is no answer. Of one that stands twice the last counts.
    """
    try:
        with open(safe.inside(path, project), "rb") as file:
            raw = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise BuildError(f"{where}: {path} cannot be read: {error.strerror}", hint) from error
    if len(raw) > FILE_LIMIT:
        raise BuildError(
            f"{path}: larger than the {FILE_LIMIT >> 20} MiB of a file of answers",
            "take out what no package of the image asks",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = raw.count(b"\n", 0, error.start) + 1
        raise BuildError(f"{path}:{at}: not UTF-8", "save it as UTF-8") from error
    found: dict[str, str] = {}
    for number, line in answers(text):
        place = f"{path}:{number}"
        if _CONTROL.search(line):
            raise BuildError(
                f"{place}: a control character stands in this answer",
                "an answer is PACKAGE QUESTION TYPE VALUE, apart by blanks or tabs",
            )
        check_answer(place, line)
        found.pop(line, None)
        found[line] = place
    return found


def check_answer(where: str, line: str) -> None:
    """BuildError, with `where` it stands, for a line that debconf-set-selections would not take."""
    fields = debconf_fields(line)
    # Its first three words: the rest may be a password.
    told = " ".join(line.split()[:3])
    if len(fields) < 3:
        raise BuildError(f"{where}: {told!r} is not `PACKAGE QUESTION TYPE VALUE`")
    if fields[2] not in TYPES:
        meant = near(fields[2], TYPES)
        raise BuildError(
            f"{where}: {told!r}: {fields[2]!r} is no type of debconf's",
            f"did you mean {meant!r}?" if meant else f"types: {', '.join(TYPES)}",
        )
