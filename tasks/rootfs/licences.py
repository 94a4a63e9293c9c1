"""Licences of packages, by the copyright files in their tree's tarballs; nothing is unpacked.

Debian's copyright files may be machine-readable (copyright-format 1.0, DEP-5). What these name is
told in the words of SPDX. Any other one is prose, of which no more is read than the common licences
that it refers to.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..debian.deb822 import stanza_fields
from .members import Member

LIMIT = 4 << 20
"""Bytes of a copyright file that are read: Chromium's has one million."""

LONGEST = 1000
"""Characters of a licence's first line."""

MOST = 500
"""Licences of one package: no more are told."""

DOC = re.compile(r"usr/share/doc/([a-z0-9][a-z0-9+.-]+)(/copyright)?")
"""A package's folder of documentation, or its copyright: either may be a link to another one's."""

LINKS = 8
"""So many folders may be links to the next one."""

_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")

FORMAT = re.compile(
    r"https?://(www\.debian\.org/doc/packaging-manuals/copyright-format|dep\.debian\.net/deps/dep5"
    r"|dep-team\.pages\.debian\.net/deps/dep5|anonscm\.debian\.org/viewvc/dep/web/deps/dep5).*"
)
"""What the first paragraph's Format names, as copyright-format 1.0 and the drafts before it say."""

SPDX = {
    name.lower(): spdx
    for names, spdx in (
        ("Expat MIT", "MIT"),
        ("Apache-2 Apache-2.0 Apache2", "Apache-2.0"),
        ("Apache-1.0", "Apache-1.0"),
        ("Apache-1.1", "Apache-1.1"),
        ("Artistic Artistic-1 Artistic-1.0", "Artistic-1.0-Perl"),
        ("Artistic-2 Artistic-2.0", "Artistic-2.0"),
        ("BSD-2-clause BSD-2-Clauses", "BSD-2-Clause"),
        ("BSD-3-clause BSD-3-Clauses", "BSD-3-Clause"),
        ("BSD-4-clause", "BSD-4-Clause"),
        ("BSD-4-clause-UC", "BSD-4-Clause-UC"),
        ("0BSD BSD-0-clause", "0BSD"),
        ("BSL-1 BSL-1.0 Boost-1.0", "BSL-1.0"),
        ("bzip2-1.0.6", "bzip2-1.0.6"),
        ("CC0 CC0-1.0", "CC0-1.0"),
        ("CC-BY-3 CC-BY-3.0", "CC-BY-3.0"),
        ("CC-BY-4 CC-BY-4.0", "CC-BY-4.0"),
        ("CC-BY-SA-3 CC-BY-SA-3.0", "CC-BY-SA-3.0"),
        ("CC-BY-SA-4 CC-BY-SA-4.0", "CC-BY-SA-4.0"),
        ("CDDL-1.0", "CDDL-1.0"),
        ("curl", "curl"),
        ("EPL-1 EPL-1.0", "EPL-1.0"),
        ("EPL-2 EPL-2.0", "EPL-2.0"),
        ("FTL", "FTL"),
        ("HPND", "HPND"),
        ("ICU", "ICU"),
        ("ISC", "ISC"),
        ("LPPL-1.3c", "LPPL-1.3c"),
        ("MIT-0", "MIT-0"),
        ("MPL-1.1", "MPL-1.1"),
        ("MPL-2 MPL-2.0", "MPL-2.0"),
        ("NTP", "NTP"),
        ("OFL-1.1 SIL-OFL-1.1", "OFL-1.1"),
        ("OpenSSL", "OpenSSL"),
        ("PSF-2 PSF-2.0", "PSF-2.0"),
        ("Unicode-DFS-2016", "Unicode-DFS-2016"),
        ("Unlicense", "Unlicense"),
        ("Vim", "Vim"),
        ("WTFPL WTFPL-2", "WTFPL"),
        ("X11", "X11"),
        ("Zlib zlib/libpng", "Zlib"),
        ("ZPL-2.1", "ZPL-2.1"),
    )
    for name in names.split()
}
"""SPDX's names of what copyright-format 1.0 calls otherwise, and of those that both know."""

_PART = re.compile(r"(?:(and|or)\s+)?(.*)", re.IGNORECASE | re.DOTALL)

_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(\d(?:\.\d)?)(\.0)?(\+|-only|-or-later)?", re.IGNORECASE)

_GNU_VERSIONS = {
    "GPL": ("1.0", "2.0", "3.0"),
    "LGPL": ("2.0", "2.1", "3.0"),
    "AGPL": ("1.0", "3.0"),
    "GFDL": ("1.1", "1.2", "1.3"),
}


class Licences(NamedTuple):
    """Of one package: `declared` as expressions of SPDX, or just what a text refers to by name."""

    declared: bool
    names: tuple[str, ...]


NONE = Licences(False, ())


class Copyrights:
    """What is seen of /usr/share/doc while tarballs are read, from the base up.

    What a layer has taken out of the tree counts: a package is the same without its documentation.
    """

    def __init__(self) -> None:
        self.licences: dict[str, Licences] = {}
        """By package, of the copyright files that it has itself."""
        self.docs: dict[str, str] = {}
        """By package, whose documentation stands for its own."""

    def take(self, member: Member, content: bytes | None = None) -> None:
        """Look at one more member, of which `content` was read already."""
        place = DOC.fullmatch(member.path)
        info = member.info
        if not place or not (place[2] or info.issym()):
            return
        package = place[1]
        if info.issym() or info.islnk():
            # A hard link's is a path from the top of the tree.
            other = doc_of(member.path, info.linkname if info.issym() else f"/{info.linkname}")
            if other and other != package:
                self.docs[package] = other
                self.licences.pop(package, None)
        elif info.isreg():
            self.docs.pop(package, None)
            read = member.content() if content is None else content
            self.licences[package] = licences_in(read if info.size <= LIMIT else b"")

    def declared(self) -> dict[str, tuple[str, ...]]:
        """The expressions of SPDX by package, without those of which none is declared."""
        packages = sorted({*self.licences, *self.docs})
        found = {one: of_package(one, self.licences, self.docs) for one in packages}
        return {one: told.names for one, told in found.items() if told.declared and told.names}


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


def is_copyright(path: str) -> bool:
    """Whether a tarball has a package's copyright file there, or what stands for it."""
    place = DOC.fullmatch(path)
    return bool(place and place[2])


# ---------------------------------------------------------------- pure


def doc_of(path: str, target: str) -> str:
    """The package in /usr/share/doc to which a link there leads, "" where it leads elsewhere."""
    whole = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    found = DOC.fullmatch(whole)
    return found[1] if found else ""


def licences_in(content: bytes) -> Licences:
    """The licences in a copyright file; what it says is its author's word."""
    text = content.decode("utf-8", "replace")
    if is_machine_readable(text):
        return Licences(True, named_in(text))
    return Licences(False, tuple(sorted(set(_COMMON.findall(text))))[:MOST])


def is_machine_readable(text: str) -> bool:
    """Whether a copyright file says by its first paragraph that it is of this form."""
    head = _paragraphs(text.lstrip("\n\ufeff")[:LONGEST])[0]
    return bool(FORMAT.fullmatch(head.get("format", head.get("format-specification", "")).strip()))


def _paragraphs(text: str) -> list[dict[str, str]]:
    return [
        {name.lower(): value for name, value in stanza_fields(one).items()}
        for one in re.split(r"\n[ \t\r]*\n", text.lstrip("\n\ufeff"))
    ]


def named_in(text: str) -> tuple[str, ...]:
    """The licences that a machine-readable copyright file names, each once; () of any other."""
    if not is_machine_readable(text):
        return ()
    paragraphs = _paragraphs(text)
    head = paragraphs[0]
    found: dict[str, None] = {}
    for one in paragraphs:
        # What stands alone explains a name that some files' paragraph has.
        if "files" in one or one is head:
            synopsis = one.get("license", "")[:LONGEST].partition("\n")[0].strip()
            said = expression(synopsis)
            if said and len(found) < MOST:
                found[said] = None
    return tuple(sorted(found))


def expression(synopsis: str) -> str:
    """A License field's first line as an expression of SPDX: `GPL-2+ or Expat, and Zlib`.

    `or` binds less than `and`, and a comma lifts that: `A or B, and C` is (A or B) and C. The
    format has no brackets: what has some is one licence of that name. "" of nothing.
    """
    if "(" in synopsis:
        return f"LicenseRef-{_reference(synopsis)}"
    parts = [_PART.fullmatch(part.strip()) for part in synopsis.split(",") if part.strip(" \t|/)")]
    whole, joint = "", "AND"
    said: list[tuple[str, str]] = []
    for found in reversed(parts):
        assert found is not None
        # In `A, B, or C` the last word is of all.
        joint = (found[1] or joint).upper()
        said.append((joint, _without_commas(found[2])))
    for joint, inner in filter(lambda one: one[1], reversed(said)):
        whole = f"{_grouped(whole, joint)} {joint} {_grouped(inner, joint)}" if whole else inner
    return whole


def _grouped(text: str, joint: str) -> str:
    """An expression as a part of one that is joined so."""
    return f"({text})" if set(re.findall(r" (AND|OR) ", text)) - {joint} else text


def _without_commas(text: str) -> str:
    ways = []
    for way in re.split(r"\s+or\s+", text, flags=re.IGNORECASE):
        names = [name_of(one) for one in re.split(r"\s+and\s+", way, flags=re.IGNORECASE)]
        ways.append(" AND ".join(dict.fromkeys(filter(None, names))))
    return " OR ".join(dict.fromkeys(filter(None, ways)))


def name_of(text: str) -> str:
    """One licence's name in SPDX; `LicenseRef-…` for what it does not know, "" for nothing."""
    name = text.strip().strip("|/)").strip()
    if not name:
        return ""
    return SPDX.get(name.lower()) or _gnu(name) or f"LicenseRef-{_reference(name)}"


def _gnu(name: str) -> str:
    """A licence of GNU's, whose version and the plus after it Debian writes in its own way."""
    found = _GNU.fullmatch(name)
    if not found:
        return ""
    family, version = found[1].upper(), found[2] if "." in found[2] else f"{found[2]}.0"
    if version not in _GNU_VERSIONS[family]:
        return ""
    later = (found[4] or "").lower() in ("+", "-or-later")
    return f"{family}-{version}-{'or-later' if later else 'only'}"


def _reference(name: str) -> str:
    """A name as SPDX lets one be made: letters, digits, dots and hyphens (SPDX 2.3, annex D)."""
    plain = name.replace("+", "-or-later ")
    return re.sub(r"[^A-Za-z0-9.-]+", "-", plain).strip("-")[:80] or "unnamed"


def references(expressions: Sequence[str]) -> Iterator[str]:
    """The `LicenseRef-…` that stand in expressions."""
    for one in expressions:
        yield from re.findall(r"LicenseRef-[A-Za-z0-9.-]+", one)
