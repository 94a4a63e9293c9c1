"""Paths in a stack of trees, as an overlay of them would show it; nothing is mounted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

LINKS = 40
"""Links that a path may lead through, as the kernel has it (path_resolution(7))."""


def mode_of(path: Path) -> int:
    """st_mode of what is there itself, 0 for nothing: nor is there what no folder could hold."""
    try:
        return path.lstat().st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        return 0


def plain_folder(tree: Path, folder: str) -> Path | None:
    """A folder of the tree if every step to it is a real directory."""
    path = tree
    for step in folder.split("/") if folder else ():
        path = path / step
        if not stat.S_ISDIR(mode_of(path)):
            return None
    return path


def find_in(folder: Path, lower: Sequence[str], path: str) -> Path | None:
    """The topmost version of a path in a stack of lower directories, None if it is hidden.

    What is not a directory hides all that lies below it, and so does an opaque directory
    (Linux, Documentation/filesystems/overlayfs).
    """
    for name in lower:
        here = folder / name
        hides = False
        for step in path.split("/"):
            if here != folder / name:
                if not stat.S_ISDIR(mode_of(here)):
                    return None
                hides = hides or _opaque(here)
            here = here / step
            mode = mode_of(here)
            if stat.S_ISCHR(mode):
                return None
            if not mode:
                break
        else:
            return here
        if hides:
            return None
    return None


def resolved(folder: Path, lower: Sequence[str], path: str) -> str:
    """Where a path of a stack of trees leads, relative to it; its last step is not followed.

    Symlinks lead within the tree, as they do for what runs in it; a loop of them leads nowhere.
    """
    steps = [step for step in path.split("/") if step not in ("", ".")]
    here: list[str] = []
    links = 0
    while steps:
        step = steps.pop(0)
        if step == "..":
            here = here[:-1]
            continue
        here.append(step)
        found = find_in(folder, lower, "/".join(here)) if steps else None
        if found is not None and stat.S_ISLNK(mode_of(found)):
            links += 1
            if links > LINKS:
                break
            text = os.readlink(found)
            here = [] if text.startswith("/") else here[:-1]
            steps = [step for step in text.split("/") if step not in ("", ".")] + steps
    return "/".join(here)


def merged(
    folder: Path, lower: Sequence[str], path: str, hidden: Set[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """(path below `path`, where it is) of all that an overlay of these directories shows there.

    What is in a folder of `hidden`, by its path below `path`, is left out.
    """
    folders = [os.fspath(folder / name) for name in lower]
    for step in path.split("/") if path else ():
        folders = _below(folders, step)
    yield from _merged(folders, "", hidden)


def _below(folders: Sequence[str], name: str) -> list[str]:
    """The folders of this name in a stack of folders that are seen together."""
    found = []
    for folder in folders:
        path = os.path.join(folder, name)
        mode = mode_of(Path(path))
        if not mode:
            continue
        if not stat.S_ISDIR(mode):
            break
        found.append(path)
        if _opaque(Path(path)):
            break
    return found


def _merged(folders: Sequence[str], below: str, hidden: Set[str]) -> Iterator[tuple[str, str]]:
    shown: dict[str, tuple[str, os.stat_result]] = {}
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in shown:
                    shown[entry.name] = entry.path, entry.stat(follow_symlinks=False)
    for name, (path, info) in sorted(shown.items()):
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            continue
        yield below + name, path
        if stat.S_ISDIR(info.st_mode) and below + name not in hidden:
            yield from _merged(_below(folders, name), f"{below}{name}/", hidden)


def is_folder(path: Path | None) -> bool:
    """Whether it is a directory itself, not a link to one."""
    return path is not None and stat.S_ISDIR(mode_of(path))


def _opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
