"""What trees' tarballs say of their packages and files: dpkg's fields, licences, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from ..debian.deb822 import stanza_fields
from .contents import LIST, owners_of
from .largest import STATUS
from .licences import Copyrights, is_copyright
from .members import Member, members, named


class Sums(NamedTuple):
    """A file's digests, its bytes, and its package, "" where no list of dpkg's has it."""

    sha1: str
    sha256: str
    size: int
    package: str


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All of a stack of trees; what a layer has taken out of it is in none but the licences."""

    fields: Mapping[tuple[str, str], Mapping[str, str]]
    """dpkg's fields of what is installed, by (package, architecture)."""
    licences: Mapping[str, tuple[str, ...]]
    files: Mapping[str, Sums]
    """Those that were wanted and that everybody may read, by paths with a slash before them."""


class Every:
    """All paths there are."""

    def __contains__(self, path: object) -> bool:
        return True


def inventory(tarballs: Sequence[Path], wanted: Container[str] = ()) -> Inventory:
    """What is in the trees of these tarballs, from the base up; `wanted` are the files to digest.

    A file that not everybody may read is passed over: the digest of what is short lets it be
    guessed. dpkg's status is the last that there is, though a layer may have removed it.
    """
    copyrights = Copyrights()
    status = b""
    files: dict[str, Sums] = {}
    for path in tarballs:
        tree = _Tree(wanted)
        for member in members(path):
            # Once: the archive is a stream, in which nothing is read again.
            content = member.content() if _is_read(member) else None
            copyrights.take(member, content)
            tree.take(member, content)
            if member.path == STATUS:
                status = content or status
        files = tree.over(files)
    return Inventory(
        fields=dict(_installed(status)),
        licences=copyrights.declared(),
        files={_readable(f"/{name}"): files[name] for name in sorted(files)},
    )


def _is_read(member: Member) -> bool:
    path = member.path
    return member.info.isreg() and (
        path == STATUS or bool(LIST.fullmatch(path)) or is_copyright(path)
    )


def _readable(path: str) -> str:
    """A path as a text that UTF-8 has: a byte that is none of it is written as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _installed(status: bytes) -> Iterator[tuple[tuple[str, str], Mapping[str, str]]]:
    for stanza in status.decode("utf-8", "replace").split("\n\n"):
        fields = stanza_fields(stanza)
        if fields.get("Status", "").rpartition(" ")[2] == "installed":
            yield (fields.get("Package", ""), fields.get("Architecture", "")), fields


class _Tree:
    """The files of one tarball, and what it hides of those below."""

    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted
        self._files: dict[str, Sums] = {}
        self._hidden: set[str] = set()
        self._lists: dict[str, bytes] = {}

    def take(self, member: Member, content: bytes | None = None) -> None:
        """One more of its members, of which `content` was read already."""
        path, info = member.path, member.info
        if info.isdir() and not member.opaque:
            return
        # A file, a link or a whiteout comes in the place of what is below, with all that is in it.
        self._hidden.add(path)
        listed = LIST.fullmatch(path)
        if listed and content is not None:
            self._lists[listed[1]] = content
        if f"/{path}" not in self._wanted or not info.mode & 0o004:
            return
        if info.islnk():
            linked = self._files.get(named(info.linkname))
            if linked is not None:
                self._files[path] = linked
        elif info.isreg():
            known = content is not None and len(content) == info.size
            self._files[path] = _sums(content or b"") if known else _read(member)

    def over(self, below: Mapping[str, Sums]) -> dict[str, Sums]:
        """Its files over those of the trees below; a file that it replaces stays its package's."""
        own = owners_of(self._lists, dict.fromkeys(self._files, 0))
        found = {path: one for path, one in below.items() if not self._covers(path)}
        for path, one in self._files.items():
            was = below[path].package if path in below else ""
            package = own.get(path, was)
            found[path] = one._replace(package=package.partition(":")[0])
        return found

    def _covers(self, path: str) -> bool:
        while path:
            if path in self._hidden:
                return True
            path = path.rpartition("/")[0]
        return False


def _sums(content: bytes) -> Sums:
    return Sums(
        hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        hashlib.sha256(content).hexdigest(),
        len(content),
        "",
    )


def _read(member: Member) -> Sums:
    file: IO[bytes] | None = member.opened()
    sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    while file is not None and (block := file.read(1 << 20)):
        sha1.update(block)
        sha256.update(block)
        size += len(block)
    return Sums(sha1.hexdigest(), sha256.hexdigest(), size, "")
