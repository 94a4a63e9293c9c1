"""What is in the way in out/NAME/: files where folders are published now, and the reverse."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import BuildError
from ..host import safe
from ..host.files import remove


def shown_in(out: Path, path: Path) -> str:
    """A path as a user knows it: relative to the checkout that has this folder of out/."""
    root = out.parent.parent
    return str(path.relative_to(root) if root in path.parents else path)


def clear_way(out: Path, stale: Sequence[str], names: Iterable[str]) -> list[str]:
    """Make room where a file was published that is a folder now, or a folder that is a file now.

    `stale` are published files that are no longer among `names`; which of them are left is
    returned. BuildError, before anything is changed, where what is in the way is not Strata's.
    """
    ways = {name: [str(one) for one in Path(name).parents][:-1] for name in names}
    files = {one for way in ways.values() for one in way if _is_file(out / one)}
    # A folder in which nothing was published is told by what would write there.
    folders = {one for one in ways if any(name.startswith(f"{one}/") for name in stale)}
    below = [name for name in stale if any(name.startswith(f"{one}/") for one in folders)]
    others = [out / one for one in sorted(files - {*stale})]
    for one in sorted(folders):
        kept = {out / name for name in below}
        others += [path for path in (out / one).rglob("*") if _is_file(path) and path not in kept]
    if others:
        raise BuildError(
            f"{shown_in(out, others[0])}: another file than Strata published is where this build "
            "publishes",
            "move it away, or give what is published another name",
        )
    for name in [*sorted(files), *below]:
        remove(out / name)
    drop_empty(out, below)
    return [one for one in stale if one not in files and one not in below]


def _is_file(path: Path) -> bool:
    """Whether there is something that is no folder itself: a link is none."""
    return os.path.lexists(path) and not _is_folder(path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def drop_empty(out: Path, names: Iterable[str]) -> None:
    """Remove the folders of exports in which nothing is left of what was published."""
    folders = {parent for name in names for parent in Path(name).parents if parent != Path()}
    for folder in sorted(folders, key=lambda one: -len(one.parts)):
        with contextlib.suppress(OSError), safe.at(out / folder) as here:
            here.rmdir()
