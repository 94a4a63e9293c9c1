"""Changelogs of packages: where an archive has them, and which of their entries are new.

deb-changelog(5); a Release's field `Changelogs` is told in apt's `apt.conf(5)` and the repository
format of wiki.debian.org: an address in which @CHANGEPATH@ stands for a source package's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from ..errors import printable

ENTRIES = 5
"""Entries that are shown where the one that is installed is not among them."""

LINES = 60
"""Lines of a source package's new entries that are shown."""

LINE = 200
"""Characters of a line."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source package, and where a .deb of it tells that it lies in the archive."""

    name: str
    version: str
    component: str

    @property
    def place(self) -> str:
        """As in main/o/openssl/openssl_3.0.17-1: versions are without their epoch there."""
        prefix = self.name[:4] if self.name.startswith("lib") else self.name[:1]
        version = self.version.partition(":")[2] or self.version
        return f"{self.component}/{prefix}/{self.name}/{self.name}_{version}"


@dataclass(frozen=True, kw_only=True)
class Changelog:
    """The new entries of a source package, each a version and its lines, for these packages."""

    source: str
    packages: tuple[str, ...]
    entries: tuple[tuple[str, tuple[str, ...]], ...]


def source_of(path: str, version: str) -> Source | None:
    """The source package of a .deb by its path in a pool; None where that tells none.

    A package that was only built again (+b1) is of the version without that.
    """
    found = re.fullmatch(
        r"pool/(?:[^/]+/)*?([a-z-]+)/(?:lib)?[^/]/([a-z0-9][a-z0-9+.-]*)/[^/]+", path
    )
    if found is None:
        return None
    return Source(name=found[2], version=_built_from(version), component=found[1])


def _built_from(version: str) -> str:
    return re.sub(r"\+b[0-9]+$", "", version)


def address(template: str, source: Source) -> str:
    """Where a changelog is by a Release's field; "" where that says that there is none."""
    if "@CHANGEPATH@" not in template or not template.isprintable() or " " in template:
        return ""
    url = template.replace("@CHANGEPATH@", quote(source.place, safe="/+~"))
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        return url if plain else ""
    except ValueError:
        return ""


_HEAD = re.compile(r"(\S+) \(([^() \t]+)\)(?: [A-Za-z0-9.+-]+)+;")


def new_entries(text: str, source: Source, before: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The entries from the source's version down to the one before, which is no longer among them.

    None where the text is not this very source's: it begins with another name or version.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    left = LINES
    for name, version, lines in _entries(text):
        if name != source.name or (not found and version != source.version):
            break
        if version == _built_from(before):
            return tuple(found)
        found.append((version, tuple(lines[:left])))
        left -= len(lines[:left])
        if left <= 0:
            break
    return tuple(found[:ENTRIES])


def _entries(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(source, version, lines) of each entry: without its signature, and empty lines around it."""
    head: re.Match[str] | None = None
    lines: list[str] = []
    for raw in [*text.split("\n"), None]:
        begins = _HEAD.match(raw) if raw is not None else None
        if head is not None and (begins or raw is None):
            yield head[1], printable(head[2])[:LINE], "\n".join(lines).strip("\n").split("\n")
        if begins:
            head, lines = begins, []
        elif raw is not None and not raw.startswith(" -- "):
            lines.append(printable(raw.replace("\t", "    ")).rstrip()[:LINE])
