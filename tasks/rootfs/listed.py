"""Files of two stacks of trees, by their tarballs: nothing is unpacked or mounted."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from ..plan.difference import File
from .members import ATTRIBUTE, OVERLAY, Member, members, named

KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass
class _Node:
    """What is at a path, and below it; a folder that no tarball names has no `file`."""

    file: File | None = None
    below: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Member:
    """One of a tarball: `file` is None for what takes a path away, `opaque` all below a folder."""

    steps: tuple[str, ...]
    file: File | None
    opaque: bool = False


def both(before: Sequence[Path], after: Sequence[Path]) -> tuple[dict[str, File], dict[str, File]]:
    """The files of two trees by their absolute paths, of their tarballs from the base up.

    Of what both stand on, content is read only where one of them has something in its place.
    """
    shared = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        shared += 1
    uppers = [[list(_members(path)) for path in side[shared:]] for side in (before, after)]
    wanted = {member.steps for side in uppers for members in side for member in members}
    if not wanted:
        return {}, {}
    lower = [list(_members(path, wanted)) for path in before[:shared]]
    found = []
    for upper in uppers:
        top = _Node()
        for tree in (*lower, *upper):
            _merge(top, tree)
        found.append(dict(_walk(top, "")))
    return found[0], found[1]


def _members(path: Path, wanted: set[tuple[str, ...]] | None = None) -> Iterator[_Member]:
    """What a tarball has; `wanted` are those whose content is read, None for all.

    tarfile.TarError where it is damaged.
    """
    files: dict[str, File] = {}
    for member in members(path):
        steps = tuple(member.path.split("/"))
        info = member.info
        if member.gone:
            yield _Member(steps, None)
            continue
        if info.islnk():
            # The name of a file that came before, in the same tarball.
            known = files.get(named(info.linkname))
            if known is None:
                continue
            file = known
        else:
            file = _file(info)
            if info.isreg() and (wanted is None or steps in wanted):
                content = member.opened()
                file = replace(file, digest=_digest(member, content) if content else "")
        if info.isreg() or info.islnk():
            files[member.path] = file
        yield _Member(steps, file, member.opaque)


def _file(member: tarfile.TarInfo) -> File:
    target = member.linkname if member.issym() else ""
    if member.ischr() or member.isblk():
        target = f"{member.devmajor}:{member.devminor}"
    return File(
        kind=KINDS.get(member.type, "file"),
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size if member.isreg() else 0,
        target=target,
        attributes=tuple(
            (name.removeprefix(ATTRIBUTE), value.encode("utf-8", "surrogateescape").hex())
            for name, value in sorted(member.pax_headers.items())
            if name.startswith(ATTRIBUTE) and not name.startswith(OVERLAY)
        ),
    )


def _digest(member: Member, content: IO[bytes]) -> str:
    """Of a file's content; holes, which may be of many gigabytes, are not read."""
    parts = member.data
    digest = hashlib.sha256(repr(parts).encode() if parts else b"")
    # A stream goes forward only, so the buffered reader refuses to seek at all.
    raw: IO[bytes] = getattr(content, "raw", content)
    for offset, size in parts or [(0, member.info.size)]:
        if parts:
            raw.seek(offset)
        while size > 0 and (chunk := raw.read(min(size, 1 << 20))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def _merge(top: _Node, members: Sequence[_Member]) -> None:
    """Put what a tarball has over a tree, as overlayfs would show it.

    A character device 0:0 takes away what is below, an opaque folder all that it has (Linux,
    Documentation/filesystems/overlayfs).
    """
    for member in members:
        here = top
        for step in member.steps[:-1]:
            here = here.below.setdefault(step, _Node())
        name = member.steps[-1]
        if member.file is None:
            here.below.pop(name, None)
            continue
        known = here.below.setdefault(name, _Node())
        if member.opaque or member.file.kind != "folder":
            known.below.clear()
        known.file = member.file


def _walk(node: _Node, path: str) -> Iterator[tuple[str, File]]:
    # A folder may lie as deep as paths are long.
    stack = [(node, path)]
    while stack:
        one, here = stack.pop()
        if one.file is not None:
            yield here, one.file
        stack += [(inner, f"{here}/{name}") for name, inner in one.below.items()]
