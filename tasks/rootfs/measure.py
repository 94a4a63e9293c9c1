"""What trees take, in bytes and blocks, and what an image's part of them does."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..formats.footprint import BLOCK, Footprint, whole_blocks
from ..host import holes
from ..plan.lockfile import Record
from . import clean, paths


def measure(folder: Path, lower: Sequence[str], mount: str, below: Sequence[str]) -> Footprint:
    """What a mount point's part of a stack of trees takes, in blocks and inodes."""
    top = mount.strip("/")
    hidden = {name.strip("/").removeprefix(top).lstrip("/") for name in below}
    size = apparent = inodes = names = 0
    start = paths.find_in(folder, lower, top) if top else folder / lower[0]
    several = start is not None and clean.has_several(os.fspath(start))
    sparse = False
    entries: dict[str, tuple[int, int]] = {}
    for path, where in paths.merged(folder, lower, top, hidden):
        info = os.lstat(where)
        inodes += 1
        names += len(os.fsencode(path.rpartition("/")[2])) + 12
        several = several or clean.has_several(where)
        taken = whole = BLOCK
        if stat.S_ISREG(info.st_mode):
            taken = holes.taken(where, info)
            whole = whole_blocks(info.st_size)
            sparse = sparse or holes.sparse(info)
        size += taken
        apparent += whole
        # A vfat's names are characters, which are UTF-8 in the tree whatever the locale says.
        text = os.fsencode(path).decode("utf-8", "surrogateescape")
        entries[text] = info.st_mode, info.st_size
    return Footprint(
        size=size + 2 * names,
        apparent=apparent + 2 * names,
        inodes=inodes,
        several_xattrs=several,
        sparse=sparse,
        entries=entries,
    )


def facts(epoch: int, records: Sequence[Record], tree: Path) -> dict[str, Any]:
    """What base and layer records keep beside their inputs; `size` is the unpacked tree's.

    `private`: it has a file that is not for everybody, so its tarball is none either.
    """
    size, private = measured(tree)
    return {"epoch": epoch, "installed": len(records), "size": size, "private": private}


def measured(tree: Path) -> tuple[int, bool]:
    """Bytes that the files of a tree take in blocks of 4 KiB, holes left out: alike anywhere.

    And whether one that is not empty may not be read by others, as /etc/shadow.
    """
    size = 0
    private = False
    linked: set[int] = set()
    stack = [os.fspath(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    stack.append(entry.path)
                elif stat.S_ISREG(info.st_mode) and info.st_ino not in linked:
                    private = private or (info.st_size > 0 and not info.st_mode & stat.S_IROTH)
                    size += holes.taken(entry.path, info)
                    if info.st_nlink > 1:
                        linked.add(info.st_ino)
    return size, private
