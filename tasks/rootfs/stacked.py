"""The sizes of a stack of trees: by layer, package and folder, and what two of them hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..formats.footprint import BLOCK
from .contents import Contents, Held
from .largest import Folder, folders


class Floor(NamedTuple):
    """What one tree of the stack adds: `holds` in its tarball, of which `seen` is seen in the end.

    `replaces` is what files below it take that it has anew, `removes` what it takes away.
    """

    files: int
    holds: int
    seen: int
    replaces: int
    removes: int


class Package(NamedTuple):
    """Bytes of its files as they are in the tree, and by Installed-Size, None where unknown."""

    name: str
    bytes: int
    installed: int | None


class Twice(NamedTuple):
    """A file that two trees hold, by their numbers; only the upper one's bytes are seen."""

    path: str
    lower: int
    upper: int
    bytes: int
    above: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything in bytes of whole blocks; lists begin with the largest."""

    files: int
    bytes: int
    floors: list[Floor]
    packages: list[Package]
    no_package: int
    folders: list[tuple[str, int]]
    twice: list[Twice]


class _Seen(NamedTuple):
    held: Held
    floor: int


def stacked(trees: Sequence[Contents], arch: str) -> Sizes:
    """The sizes of trees from the base up, of packages of an architecture."""
    seen: dict[str, _Seen] = {}
    made: dict[str, int] = {}
    """The folders, with the tree that has each first."""
    twice: list[Twice] = []
    floors: list[Floor] = []
    for number, tree in enumerate(trees):
        removed = _without(seen, made, tree)
        again = [_twice(path, held, seen[path], number) for path, held in tree.files.items()
                 if path in seen]  # fmt: skip
        twice += [one for one in again if one.bytes and one.above]
        for path, held in tree.files.items():
            package = held.package or (seen[path].held.package if path in seen else "")
            seen[path] = _Seen(Held(held.bytes, package), number)
        for path in tree.folders:
            made.setdefault(path, number)
        holds = sum(held.bytes for held in tree.files.values()) + BLOCK * len(tree.folders)
        floors.append(Floor(files=len(tree.files), holds=holds, seen=0,
                            replaces=sum(one.bytes for one in again), removes=removed))  # fmt: skip
    left = [0] * len(trees)
    for one in seen.values():
        left[one.floor] += one.held.bytes
    for number in made.values():
        left[number] += BLOCK
    known = next((one.installed for one in reversed(trees) if one.installed is not None), {})
    packages, no_package = _packages(seen.values(), known, arch)
    return Sizes(
        files=len(seen),
        bytes=sum(left),
        floors=[floor._replace(seen=size) for floor, size in zip(floors, left, strict=True)],
        packages=packages,
        no_package=no_package,
        folders=folders(_nested(seen, made), ""),
        twice=sorted(twice, key=lambda one: (-one.bytes, one.path, one.upper)),
    )


def _without(seen: dict[str, _Seen], made: dict[str, int], tree: Contents) -> int:
    """Take out what a tree hides of those below; the bytes that went.

    A folder goes where a file comes, and a file where a folder does.
    """
    gone = tree.gone | {path for path in tree.files if path in made}
    hidden = [path for path in seen if path not in tree.files
              and (path in tree.folders or (gone and _below(path, gone)))]  # fmt: skip
    hidden_folders = [path for path in made if gone and _below(path, gone)]
    removed = sum(seen.pop(path).held.bytes for path in hidden)
    for path in hidden_folders:
        del made[path]
    return removed + BLOCK * len([path for path in hidden_folders if path not in tree.folders])


def _below(path: str, gone: frozenset[str] | set[str]) -> bool:
    """Whether a path, or a folder that it is in, is one of these."""
    while path:
        if path in gone:
            return True
        path = path.rpartition("/")[0]
    return False


def _twice(path: str, held: Held, below: _Seen, number: int) -> Twice:
    return Twice(path=f"/{path}", lower=below.floor, upper=number,
                 bytes=below.held.bytes, above=held.bytes)  # fmt: skip


def _packages(
    seen: Iterable[_Seen], installed: Mapping[str, int], arch: str
) -> tuple[list[Package], int]:
    """Each package, and the bytes of what is in none.

    A package of the native architecture is called by its name alone, as dpkg does.
    """
    known = {name.removesuffix(f":{arch}").removesuffix(":all"): size
             for name, size in installed.items()}  # fmt: skip
    foreign = {name.partition(":")[0]: name for name in known if ":" in name}
    sizes = dict.fromkeys(known, 0)
    no_package = 0
    for one in seen:
        name = one.held.package.removesuffix(f":{arch}")
        if name not in known:
            name = foreign.get(name, name)  # dpkg's lists name the architecture where it must
        if name:
            sizes[name] = sizes.get(name, 0) + one.held.bytes
        else:
            no_package += one.held.bytes
    found = [Package(name, size, known.get(name)) for name, size in sizes.items()]
    return sorted(found, key=lambda one: (-one.bytes, -(one.installed or 0), one.name)), no_package


def _nested(seen: Mapping[str, _Seen], made: Mapping[str, int]) -> Folder:
    """The tree as `largest.folders` takes it."""
    top: Folder = {}
    for path in made:
        _folder(top, path)
    for path, one in seen.items():
        above, _, name = path.rpartition("/")
        _folder(top, above)[name] = one.held.bytes
    return top


def _folder(top: Folder, path: str) -> Folder:
    """The folder at a path, made where it is not."""
    here = top
    for step in path.split("/") if path else ():
        inner = here.get(step)
        if not isinstance(inner, dict):
            inner = here[step] = {}
        here = inner
    return here
