"""debconf's database in a tree: no answer of type `password` stays in it.

Packages have used it when a layer is done, and whoever gets the layer or an image would read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from . import paths

FOLDER = "var/cache/debconf"

LIMIT = 64 << 20
"""Bytes of a database that are read; Debian's whole archive would take less."""


def password_templates(text: str) -> set[str]:
    """The names of the templates of type `password`, by the text of templates.dat."""
    found = set()
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.split("\n") if ": " in line)
        if fields.get("Type") == "password":
            found.add(fields.get("Name", ""))
    return found


def without_values(text: str, templates: set[str] | None) -> str:
    """A database without the values of these templates' questions; None: of all questions.

    A question stays, with all else that debconf knows of it: it was asked and is seen.
    """
    stanzas = []
    for stanza in text.split("\n\n"):
        lines = stanza.split("\n")
        name = next((line[10:].strip() for line in lines if line.startswith("Template: ")), "")
        if templates is None or name in templates:
            lines = [line for line in lines if not line.startswith("Value:")]
        stanzas.append("\n".join(lines))
    return "\n\n".join(stanzas)


def sweep(folder: Path, upper: str, lower: Sequence[str]) -> None:
    """Take the passwords out of what a stage wrote, in `folder`/`upper`, on these lower trees."""
    top = folder / upper
    for name in ("passwords.dat", "config.dat"):
        path = paths.find_in(folder, [upper], f"{FOLDER}/{name}")
        if path is None or not stat.S_ISREG(path.lstat().st_mode) or top not in path.parents:
            continue
        templates = None
        if name == "config.dat":
            known = paths.find_in(folder, [upper, *lower], f"{FOLDER}/templates.dat")
            templates = password_templates(_text(known))
        old = _text(path)
        new = without_values(old, templates)
        if new != old:
            # In its place: its owner and mode stay.
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(new)


def _text(path: Path | None) -> str:
    """The text of a plain file of the tree, "" for anything else."""
    if path is None:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, encoding="utf-8", errors="surrogateescape", newline="") as file:
        info = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(info.st_mode) and info.st_size <= LIMIT else ""
