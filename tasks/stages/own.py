"""What of a tree is the user's own: what `files` or a script put where a build cleans or writes.

before the script ─→ sums of what is there ─→ the script ─→ what is new or other is its own
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BuildError, printable
from ..plan.entries import Entry
from ..rootfs import clean, identities, paths
from ..rootfs.overlay import Upper
from ..spec import given

LISTED = "/dev/.strata/before"
"""Where the sandbox writes what was there before the script: a file of scratch, bound there."""


LEFT = "/dev/.strata/left"

NOTES = (LISTED, LEFT)

LIMIT = 1 << 22
"""Bytes of either that are read: a package's code may write there."""


SETTINGS = ("etc/hosts", "etc/locale.gen", *(
    path.lstrip("/") for path in given.MADE_BY if path != "/etc/shadow"
))  # fmt: skip
"""What settings would write: where it is the user's own, it stays or the build ends."""


DPKG_LISTS = "var/lib/dpkg/info"

LEFT_LINES = 1000
"""Lines that are told of at the most: as many names of the longest kind are within LIMIT."""


def watched() -> list[str]:
    """Patterns of what is looked at, relative to the tree: what is swept, what settings make."""
    return [*clean.REMOVED, *identities.patterns(), "etc/machine-id", *SETTINGS]


def patterns() -> str:
    """Those patterns as words of a shell, which expands them in the tree."""
    return " ".join("/" + pattern for pattern in watched())


def sums(text: str) -> dict[str, str]:
    """What the step noted: as `sum_of` has it, by path, relative to the tree."""
    found = {}
    for line in text.split("\n"):
        if match := re.fullmatch(r"([0-9a-f]{64}) /(.+)", line):
            found[match[2]] = match[1]
        elif match := re.fullmatch(r"node:([0-9a-f]+):([0-9a-f]+):([0-9a-f]+) /(.+)", line):
            mode, major, minor = (int(one, 16) for one in match.groups()[:3])
            found[match[4]] = _node(mode, major, minor)
    return found


def noted(path: Path) -> str:
    """What the sandbox wrote into a file of scratch; "" if it is too long to be ours."""
    if path.stat().st_size > LIMIT:
        return ""
    return path.read_text("utf-8", "surrogateescape")


def script_made(upper: Path, before: Mapping[str, str]) -> set[str]:
    """What of `watched` a script made or changed, as paths relative to the tree."""
    found = set()
    for pattern in watched():
        for path in (leaf for one in identities.matching(upper, pattern) for leaf in _leaves(one)):
            name = str(path.relative_to(upper))
            trace = any(fnmatch.fnmatch(name, one) for one in clean.TRACES)
            if not trace and sum_of(path) != before.get(name):
                found.add(name)
    return found


def places(
    folder: Path, lower: Sequence[str], entries: Sequence[Entry], where: str
) -> dict[str, Entry]:
    """Where what `files` give lies in a stack of trees, behind the links on the way to it.

    Folders are theirs only where nothing is given in them. BuildError where two are one place,
    as /bin/x and /usr/bin/x are: the first would be lost.
    """
    filled = {os.path.dirname(entry.target) for entry in entries}
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind == "folder" and entry.target in filled:
            continue
        place = paths.resolved(folder, lower, entry.target)
        other = found.setdefault(place, entry)
        if other.target != entry.target and other.identity()[1:] != entry.identity()[1:]:
            raise BuildError(
                f"{where}: {other.target!r} and {entry.target!r} are one file in the image, "
                f"/{place}, and other things are given for each",
                "remove one of the two",
            )
    return found


def files_made(places: Iterable[str]) -> set[str]:
    """What of `watched` these places of a tree are."""
    patterns = [one for pattern in watched() for one in (pattern, f"{pattern}/*")]
    return {place for place in places if any(fnmatch.fnmatch(place, one) for one in patterns)}


def shielded(upper: Upper, lower: Sequence[str], made: Iterable[str]) -> set[str]:
    """What of the paths that layers below made is left alone here, too.

    Not a log or another note of tools that has other bytes now: the packages of this layer added
    to it, by the clock. Without that copy what the layer below made is seen again.
    """
    noted = (*clean.TRACES, "var/log/*.log")
    found = set()
    for name in made:
        now, before = (paths.find_in(upper.base, stack, name) for stack in ([upper.name], lower))
        logged = any(fnmatch.fnmatch(name, one) for one in noted)
        if not (logged and now and before and sum_of(now) != sum_of(before)):
            found.add(name)
    return found


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A target of a layer's `files` that a package of a later layer ships, too, or `removes`."""

    target: str
    layer: str
    package: str
    removes: bool = False


def replaced(
    upper: Upper,
    lower: Sequence[str],
    below: Mapping[str, str],
    entries: Sequence[Entry],
) -> Lost | None:
    """The first file of the layers below in whose place this layer's packages have put their own.

    `below` has the layers' names by target. What a package's script edits is no loss, and neither
    is a conffile, which dpkg leaves alone, nor what the layer's own `files` (`entries`) give anew.
    """
    changed: dict[str, str] = {}
    gone: dict[str, str] = {}
    for target in below:
        name = paths.resolved(upper.base, lower, target)
        now, before = (paths.find_in(upper.base, stack, name) for stack in ([upper.name], lower))
        if before is None:
            continue
        if now is not None and sum_of(now) != sum_of(before):
            changed[name] = target
        elif now is None and paths.find_in(upper.base, [upper.name, *lower], name) is None:
            gone[name] = target
    again = {paths.resolved(upper.base, [upper.name, *lower], entry.target) for entry in entries}
    left = changed.keys() - again
    if taken := _remover(upper, lower, gone):
        target = gone[taken[0]]
        return Lost(target=target, layer=below[target], package=taken[1], removes=True)
    if not left:
        return None
    for listing in clean.matching_in(upper.path, f"{DPKG_LISTS}/*.list"):
        conffiles = set(_lines(listing.with_suffix(".conffiles")))
        for line in _lines(listing):
            if line in conffiles:
                continue
            # /bin is a link to /usr/bin in the tree, and not in the package.
            name = line.lstrip("/")
            if any(name.endswith(one.rpartition("/")[2]) for one in left):
                name = paths.resolved(upper.base, [upper.name, *lower], name)
            if name in left:
                package = listing.name.removesuffix(".list").partition(":")[0]
                return Lost(target=changed[name], layer=below[changed[name]], package=package)
    return None


def _remover(upper: Upper, lower: Sequence[str], gone: Iterable[str]) -> tuple[str, str] | None:
    """(path, package) of the first of these paths that dpkg removed in this layer, or None.

    A package had it in its list below, and has it no more: it was removed, or its new version has
    no such file. What a script removed is its own doing.
    """
    names = set(gone)
    folder = upper.path / DPKG_LISTS
    if not names or not paths.is_folder(folder):
        return None
    for path in sorted(folder.glob("*.list")):  # whiteouts of what was removed, too
        listing = paths.find_in(upper.base, lower, f"{DPKG_LISTS}/{path.name}")
        if listing is None:
            continue
        for line in sorted({*_lines(listing)} - {*_lines(path)}):
            name = line.lstrip("/")
            if any(name.endswith(one.rpartition("/")[2]) for one in names):
                name = paths.resolved(upper.base, lower, name)
            if name in names:
                return name, path.name.removesuffix(".list").partition(":")[0]
    return None


def _lines(path: Path) -> list[str]:
    """The lines of a file of dpkg's; none where it is not there or something else."""
    said = content(path) if os.path.lexists(path) else None
    text = said[1] if said is not None and said[0] == "file" else b""
    return text.decode("utf-8", "surrogateescape").splitlines()


def _leaves(path: Path) -> list[Path]:
    """A path, or all below it that is no folder, or an empty one."""
    if not paths.is_folder(path):
        return [path]
    found = []
    for folder, folders, files in os.walk(path):
        found += [
            Path(folder) / name
            for name in (*files, *folders)
            if not paths.is_folder(Path(folder) / name)
        ]
        if not folders and not files:
            found.append(Path(folder))
    return found


def warning(layer: str, script: str, left: str) -> str:
    """What to tell of what a script left in folders that no image keeps."""
    lines = [line for line in left.split("\n") if line]
    new = set(lines)
    # Of a folder, what is in it is not told, too.
    names = [line for line in lines if not any(str(parent) in new for parent in Path(line).parents)]
    return (
        f"  layer {layer}: {script} left {_listed(names)}: "
        "in no image, since it is empty until the system boots"
    )


def late(layer: str, answers: Sequence[str]) -> str:
    """What to tell of debconf answers for packages that are installed by then."""
    names = sorted({line.split(None, 1)[0] for line in answers})
    are = "is" if len(names) == 1 else "are"
    return (
        f"  layer {layer}: debconf: {_listed(names)} {are} installed below this layer: these "
        "answers count when something asks again, as dpkg-reconfigure does"
    )


def sockets(layer: str, paths: Sequence[str]) -> str:
    """What to tell of sockets that were bound in a tree and belong to no process any more."""
    return (
        f"  layer {layer}: {_listed(['/' + path for path in paths])}: in no image, since "
        "a socket is nothing without the process that made it"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(printable, names[:5])) + more


def content(path: Path) -> tuple[str, bytes] | None:
    """What a small file or a link says, with its kind; None for anything else."""
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "link", os.fsencode(os.readlink(path))
    if not stat.S_ISREG(info.st_mode) or info.st_size > LIMIT:
        return None
    return "file", path.read_bytes().strip()


def _node(mode: int, major: int, minor: int) -> str:
    """A folder, pipe, socket or device; its mode is no content, as that of a file is none."""
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return f"node:{stat.S_IFMT(mode):o}:" + (f"{major}:{minor}" if device else "")


def sum_of(path: Path) -> str | None:
    """SHA-256 of a file's bytes or of a link's text, the kind of other nodes; None: a whiteout."""
    info = path.lstat()
    mode = info.st_mode
    if stat.S_ISLNK(mode):
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    if stat.S_ISCHR(mode) and info.st_rdev == 0:
        return None
    if not stat.S_ISREG(mode):
        return _node(mode, os.major(info.st_rdev), os.minor(info.st_rdev))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
