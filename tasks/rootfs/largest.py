"""What takes most in a stack of trees, by their tarballs: nothing is unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..debian.deb822 import stanza_fields
from ..formats.footprint import BLOCK
from .members import Member, members

COUNT = 10
"""How many of each are named."""

MOST = 0.9
"""Of a folder's size: one below it that takes more is named in its place."""

STATUS = "var/lib/dpkg/status"

Folder = dict[str, Any]
"""By name the bytes of a file, or a folder in it."""


class Largest(NamedTuple):
    """Packages and folders, the largest first, with their bytes."""

    packages: list[tuple[str, int]]
    folders: list[tuple[str, int]]


def largest(tarballs: Sequence[Path], mount: str, below: Sequence[str]) -> Largest:
    """What takes most of an image, of the tarballs of its trees from the base up.

    Packages are those of the whole tree, by Installed-Size; folders those of the image's own part.
    """
    tree: Folder = {}
    status = b""
    for path in tarballs:
        status = _merge(tree, path) or status
    for point in below:
        _at(tree, point).clear()
    top = _at(tree, mount)
    return Largest(packages=_packages(status), folders=folders(top, mount.rstrip("/"))[:COUNT])


def _at(tree: Folder, path: str) -> Folder:
    """The folder at a path, an empty one where there is none."""
    here: Any = tree
    for step in path.strip("/").split("/") if path != "/" else ():
        here = here.get(step) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else {}


# ---------------------------------------------------------------- trees


def _merge(tree: Folder, path: Path) -> bytes:
    """Put what a tarball has over a tree, as overlayfs would show it; its dpkg status, or b"".

    A character device 0:0 takes away what is below, an opaque folder all that it has (Linux,
    Documentation/filesystems/overlayfs).
    """
    status = b""
    for member in members(path):
        _put(tree, member)
        if member.path == STATUS:
            status = member.content()
    return status


def _put(tree: Folder, member: Member) -> None:
    *above, name = member.path.split("/")
    here = tree
    for step in above:
        inner = here.get(step)
        if not isinstance(inner, dict):
            inner = here[step] = {}
        here = inner
    if member.gone:
        here.pop(name, None)
    elif member.info.isdir():
        if member.opaque or not isinstance(here.get(name), dict):
            here[name] = {}
    else:
        here[name] = member.bytes


# ---------------------------------------------------------------- sums


def _packages(status: bytes) -> list[tuple[str, int]]:
    """The largest of dpkg's status."""
    found = [(name.partition(":")[0], size) for name, size in installed(status)]
    return sorted(found, key=lambda one: (-one[1], one[0]))[:COUNT]


def installed(status: bytes) -> Iterator[tuple[str, int]]:
    """NAME:ARCHITECTURE and bytes of what dpkg's status has installed.

    Installed-Size counts KiB (Debian policy 5.6.20); what has none is left out.
    """
    for stanza in status.decode("utf-8", "replace").split("\n\n"):
        fields: Mapping[str, str] = stanza_fields(stanza)
        state = fields.get("Status", "").rpartition(" ")[2]
        size = fields.get("Installed-Size", "")
        if state not in ("not-installed", "config-files") and size.isdecimal() and len(size) < 12:
            name = f"{fields.get('Package', '?')}:{fields.get('Architecture', 'all')}"
            yield name, int(size) << 10


def folders(top: Folder, mount: str) -> list[tuple[str, int]]:
    """Folders below a mount point with all that is in them; not those that one below makes up."""
    sizes: dict[str, int] = {}
    most: dict[str, int] = {}
    for path, own in reversed(list(_walk(top, mount))):  # what is below a folder comes before it
        size = sizes[path] = sizes.get(path, 0) + own
        parent = path.rpartition("/")[0]
        sizes[parent] = sizes.get(parent, 0) + size
        most[parent] = max(most.get(parent, 0), size)
    named = [
        (path, size)
        for path, size in sizes.items()
        if path.startswith(f"{mount}/") and most.get(path, 0) <= MOST * size
    ]
    return sorted(named, key=lambda one: (-one[1], one[0]))


def _walk(top: Folder, mount: str) -> Iterator[tuple[str, int]]:
    """Each folder below with the bytes of its own files, one before those in it."""
    stack = [(f"{mount}/{name}", one) for name, one in top.items() if isinstance(one, dict)]
    while stack:
        path, folder = stack.pop()
        yield path, BLOCK + sum(one for one in folder.values() if isinstance(one, int))
        stack += [(f"{path}/{name}", one) for name, one in folder.items() if isinstance(one, dict)]
