"""What a tree's tarball holds, file by file, with packages and licences; and its memory.

    cache/layers/layer-KEY.tar.zst  ─→  Contents  ─→  .doit/sizes/layer-KEY-SHA256

Reading takes a second for a bootable server, what is remembered a tenth of one. The name has the
tarball's digest, so it is never of other bytes.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..host import strict
from ..host.files import write_text
from ..store.record import Entry
from .largest import STATUS, installed
from .licences import Copyrights, Licences
from .members import members

FORMAT = 2

LIST = re.compile(r"var/lib/dpkg/info/([^/]+)\.list")
"""Where dpkg keeps the paths of a package, which it calls NAME:ARCHITECTURE if several may be."""

MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32|libo32)/")
"""Folders of a merged /usr: a list may name what is there by the path that is a link now."""


class Held(NamedTuple):
    """A file, link or device: its bytes in whole blocks, its package, "" where no list has it."""

    bytes: int
    package: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What one tarball puts over those below it, by paths without a slash before them."""

    files: Mapping[str, Held]
    folders: frozenset[str]
    gone: frozenset[str]
    """What of the trees below is no longer seen, with all that is in it: whiteouts, opaque ones."""
    installed: Mapping[str, int] | None
    """Bytes by NAME:ARCHITECTURE, of its own dpkg status; None where it has none."""
    licences: Mapping[str, Licences] = field(default_factory=dict)
    """By the names of their folders in /usr/share/doc: packages'."""
    docs: Mapping[str, str] = field(default_factory=dict)
    """Of such a folder that is a link, or whose copyright is one, the folder that has it."""
    closed: frozenset[str] = frozenset()
    """Folders in which not everybody may look."""


def read(path: Path) -> Contents:
    """What a tarball holds."""
    sizes: dict[str, int] = {}
    folders: set[str] = set()
    gone: set[str] = set()
    lists: dict[str, bytes] = {}
    status: bytes | None = None
    copyrights = Copyrights()
    closed: set[str] = set()
    for member in members(path):
        if member.gone:
            gone.add(member.path)
            continue
        if member.info.isdir():
            folders.add(member.path)
            gone |= {member.path} if member.opaque else set()
            closed |= {member.path} if member.info.mode & 0o005 != 0o005 else set()
            continue
        sizes[member.path] = member.bytes
        copyrights.take(member)
        listed = LIST.fullmatch(member.path)
        if listed:
            lists[listed[1]] = member.content()
        elif member.path == STATUS:
            status = member.content()
    owners = owners_of(lists, sizes)
    return Contents(
        files={name: Held(size, owners.get(name, "")) for name, size in sizes.items()},
        folders=frozenset(folders),
        gone=frozenset(gone),
        installed=dict(installed(status)) if status is not None else None,
        licences=copyrights.licences,
        docs=copyrights.docs,
        closed=frozenset(closed),
    )


def owners_of(lists: Mapping[str, bytes], sizes: Mapping[str, int]) -> dict[str, str]:
    """The package of each path that a list names."""
    found: dict[str, str] = {}
    for package, content in sorted(lists.items()):
        for line in content.decode("utf-8", "surrogateescape").split("\n"):
            path = line.lstrip("/")
            if path not in sizes and MERGED.match(path):
                path = f"usr/{path}"
            if path in sizes:
                found.setdefault(path, package)
    return found


# ---------------------------------------------------------------- the memory


def remembered(folder: Path, entry: Entry) -> Contents | None:
    """What is known of an entry's tarball without reading it; None where that is nothing."""
    try:
        return _parsed(strict.read(_place(folder, entry), strict.LIST_LIMIT, paths=True))
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return None


def remember(folder: Path, entry: Entry, contents: Contents) -> None:
    """Keep it; where it cannot be, the tarball is read again the next time."""
    packages = sorted({held.package for held in contents.files.values()})
    place = {package: number for number, package in enumerate(packages)}
    told = {
        "format": FORMAT,
        "paths": list(contents.files),
        "bytes": [held.bytes for held in contents.files.values()],
        "packages": packages,
        "owners": [place[held.package] for held in contents.files.values()],
        "folders": sorted(contents.folders),
        "gone": sorted(contents.gone),
        "installed": contents.installed,
        "licences": {
            name: [one.declared, list(one.names)] for name, one in contents.licences.items()
        },
        "docs": dict(contents.docs),
        "closed": sorted(contents.closed),
    }
    with contextlib.suppress(OSError):
        # Names of files that are not for everybody may be among them.
        write_text(_place(folder, entry), json.dumps(told), mode=0o600, sync=False)


def _place(folder: Path, entry: Entry) -> Path:
    return folder / f"{entry.path.name.partition('.')[0]}-{entry.sha256[:32]}"


def _parsed(told: dict[str, Any]) -> Contents:
    """What `remember` has written; Damaged, or another error of its form, for anything else."""
    if told["format"] != FORMAT:
        raise strict.Damaged("it is of another version")
    packages = _texts(told["packages"])
    sizes, owners = (_numbers(told[name]) for name in ("bytes", "owners"))
    known = told["installed"]
    if known is not None:
        _texts(list(known))
        _numbers(list(known.values()))
    paths = _texts(told["paths"])
    held = [Held(size, packages[owner]) for size, owner in zip(sizes, owners, strict=True)]
    return Contents(
        files=dict(zip(paths, held, strict=True)),
        folders=frozenset(_texts(told["folders"])),
        gone=frozenset(_texts(told["gone"])),
        installed=known,
        licences={name: _licences(one) for name, one in told["licences"].items()},
        docs=dict(zip(told["docs"], _texts(list(told["docs"].values())), strict=True)),
        closed=frozenset(_texts(told["closed"])),
    )


def _licences(value: Any) -> Licences:
    declared, names = value
    if type(declared) is not bool:
        raise strict.Damaged("it is neither true nor false")
    return Licences(declared, tuple(_texts(names)))


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(type(one) is str for one in value):
        raise strict.Damaged("it is no list of texts")
    return value


def _numbers(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(one) is int and one >= 0 for one in value):
        raise strict.Damaged("it is no list of numbers")
    return value
