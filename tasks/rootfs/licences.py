"""Licences of packages, by what their maintainers write in /usr/share/doc/*/copyright. Pure.

A file of Debian's machine-readable form (DEP-5, copyright-format/1.0) declares them. Any other one
is prose, of which no more is read than the common licences that it refers to.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..debian.deb822 import stanza_fields

DOC = re.compile(r"usr/share/doc/([^/]+)(?:/copyright)?")
"""A package's folder of documentation, or its copyright: either may be a link to another one's."""

COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")

LIMIT = 4 << 20
"""Bytes of a copyright file: the kernel's has a tenth of that."""

MOST, LONGEST = 40, 80
"""Of a package so many licences are kept, and of each name so many characters."""

LINKS = 8
"""So many folders may be links to the next one."""

_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")

_FORM = re.compile(r"\A\s*Format(-Specification)?:", re.IGNORECASE)


class Licences(NamedTuple):
    """`declared` in the machine-readable form, or just those that a text refers to."""

    declared: bool
    names: tuple[str, ...]


NONE = Licences(False, ())


def licences_in(content: bytes) -> Licences:
    """The licences in a copyright file, by name; what it says is its author's word."""
    text = content.decode("utf-8", "replace")
    if not _FORM.search(text):
        return Licences(False, _few(_COMMON.findall(text)))
    found = []
    for stanza in re.split(r"\n[ \t\r]*\n", text):
        fields = {name.lower(): value for name, value in stanza_fields(stanza).items()}
        # A stanza of a licence alone is the text of what others name.
        if "files" in fields or "format" in fields or "format-specification" in fields:
            found.append(fields.get("license", "").partition("\n")[0])
    return Licences(True, _few(found))


def _few(names: Sequence[str]) -> tuple[str, ...]:
    told = {" ".join(name.split())[:LONGEST] for name in names}
    return tuple(sorted(told - {""}, key=lambda name: (name.lower(), name))[:MOST])


def doc_of(path: str, target: str) -> str:
    """The folder in /usr/share/doc to which a link there leads, "" for one that leads elsewhere."""
    whole = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    found = DOC.fullmatch(whole)
    return found[1] if found and found[1] not in (".", "..") else ""


def of_package(package: str, licences: Mapping[str, Licences], docs: Mapping[str, str]) -> Licences:
    """The licences of a package, through the links of others' documentation."""
    name = package
    for _ in range(LINKS):
        if name in licences:
            return licences[name]
        if name not in docs:
            break
        name = docs[name]
    return NONE
