"""Licences of packages, by the copyright files in their tree's tarballs; nothing is unpacked.

Debian's copyright files may be machine-readable (copyright-format 1.0, DEP-5). What these name is
told in the words of SPDX; of all others nothing is guessed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..debian.deb822 import stanza_fields
from .members import Member, members

LIMIT = 4 << 20
"""Bytes of a copyright file that are read: Chromium's has one million."""

LONGEST = 1000
"""Characters of a licence's first line."""

MOST = 500
"""Licences of one package: no more are told."""

DOC = re.compile(r"usr/share/doc/([a-z0-9][a-z0-9+.-]+)(/copyright)?")

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


def licences(tarballs: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """The licences of each package whose copyright file is machine-readable, by its name.

    `tarballs` are those of the trees from the base up. Each licence is an expression of SPDX, with
    `LicenseRef-…` for what SPDX has no name of; several hold for different files. What a layer has
    taken out of the tree counts: the package is the same without its documentation.
    """
    found = Copyrights()
    for path in tarballs:
        for member in members(path):
            found.take(member)
    return found.licences()


class Copyrights:
    """What is seen of /usr/share/doc while tarballs are read, from the base up."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[str, ...]] = {}
        self._links: dict[str, str] = {}

    def take(self, member: Member, content: bytes | None = None) -> None:
        """Look at one more member, of which `content` was read already."""
        place = DOC.fullmatch(member.path)
        if not place or not (place[2] or member.info.issym()):
            return
        info = member.info
        if info.issym():
            above = posixpath.dirname(f"/{member.path}")
            to = posixpath.normpath(posixpath.join(above, info.linkname))
            self._links[member.path] = to.lstrip("/")
        elif info.islnk():
            self._links[member.path] = posixpath.normpath(info.linkname).lstrip("/")
        elif info.isreg():
            self._links.pop(member.path, None)
            self._named[member.path] = named_in(_text(member, content))

    def licences(self) -> dict[str, tuple[str, ...]]:
        """By package, without those of which nothing is known."""
        packages = {place[1] for path in (*self._named, *self._links) if (place := DOC.match(path))}
        found = {one: self._of(f"usr/share/doc/{one}/copyright") for one in sorted(packages)}
        return {package: names for package, names in found.items() if names}

    def _of(self, path: str) -> tuple[str, ...]:
        for _step in range(8):  # links may lead to one another
            folder = posixpath.dirname(path)
            if path in self._links:
                path = self._links[path]
            elif folder in self._links:
                path = f"{self._links[folder]}/copyright"
            else:
                break
        return self._named.get(path, ())


def is_copyright(path: str) -> bool:
    """Whether a tarball has a package's copyright file there, or what stands for it."""
    place = DOC.fullmatch(path)
    return bool(place and place[2])


def _text(member: Member, content: bytes | None) -> str:
    if member.info.size > LIMIT:
        return ""
    return (member.content() if content is None else content).decode("utf-8", "replace")


# ---------------------------------------------------------------- pure


def named_in(text: str) -> tuple[str, ...]:
    """The licences that a machine-readable copyright file names, each once; () of any other."""
    paragraphs = [
        {name.lower(): value for name, value in stanza_fields(one).items()}
        for one in re.split(r"\n[ \t]*\n", text.lstrip("\n\ufeff"))
    ]
    head: Mapping[str, str] = paragraphs[0] if paragraphs else {}
    if not FORMAT.fullmatch(head.get("format", head.get("format-specification", "")).strip()):
        return ()
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
