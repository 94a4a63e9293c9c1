"""What packages draw by chance, or date by the clock, when they are installed.

a stage's own tree ─→ TABLE: removed, made neutral, dated anew, or kept ─┬→ drawn: told by name
                  └─→ private keys that no package ships ───────────────┘   with the way back
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import printable
from ..host.files import read_sha256, remove
from ..host.log import Log
from ..plan import reads
from ..plan.stage import Stage
from ..store.cache import Cache
from .drawn import KEPT, PERHAPS, REMOVED, TABLE, Drawn

DRAWS = re.compile(
    rb"(?<![\w-])(?:pwgen|pwqgen|apg|makepasswd|mcookie|uuidgen|ssh-keygen"
    rb"|openssl\s+(?:rand|gen\w+|dhparam|req))(?![\w.-])"
    rb"|/dev/u?random\b|/proc/sys/kernel/random/uuid\b|\$\{?RANDOM\b"
)
"""What draws, in a maintainer script. Of 1668 packages of bookworm, two say so, both in TABLE."""


SOURCED = re.compile(rb"^[ \t]*(?:\.|source)[ \t]+/?([\w.+/-]+)", re.MULTILINE)
"""A file of functions that a script reads."""


KEY = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----\r?$", re.MULTILINE)
"""RFC 7468, OpenSSH's and OpenPGP's (RFC 9580) armor of a private key."""


SCRIPTS = "var/lib/dpkg/info/"
"""Where dpkg keeps the packages' own scripts, which may hold such text."""


KEY_LIMIT = 1 << 16
"""Bytes of a file that are searched for one."""


PATHS_LIMIT = 8
"""Paths that are named of one thing."""


ALIASES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32")
"""Folders that are links into /usr in a merged tree, while lists of packages may say them so."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What a layer's packages drew, as its record keeps it; `paths` are absolute."""

    package: str
    """The package by the table, "" for a key of which it does not know."""
    what: str
    paths: tuple[str, ...]
    done: str
    again: str
    by: tuple[str, ...] = ()
    more: int = 0
    """How many paths there are beside `paths`."""
    layer: str = ""
    """The stage that installed it, in the record of an image."""

    def text(self) -> str:
        """A sentence for people."""
        paths = ", ".join(printable(path) for path in self.paths)
        paths += f" and {self.more} more" if self.more else ""
        if self.done == PERHAPS:
            return (
                f"{printable(self.package)}: {self.what} ({paths}): if a secret was drawn, it "
                "is the same in every copy of the image, and other in each build"
            )
        named = f"{self.package or 'drawn at install'}: {self.what}: {paths}: "
        if self.done == KEPT:
            again = f"; a machine's own: {self.again}" if self.again else ""
            return f"{named}the same in every copy of the image{again}"
        return f"{named}{self.done}; a machine makes its own with: {self.again}"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A stage's own tree, and what is known of it."""

    upper: Path
    epoch: int
    below: Callable[[str], Path | None] = lambda _path: None
    """What the trees below have under a path."""
    kept: Set[str] = frozenset()
    """Paths, relative to the tree, that the user made."""
    given: Set[str] = frozenset()
    """SHA-256 of the files that the user gave."""


def sweep(tree: Tree) -> list[Notice]:
    """Do with what the packages of a stage drew what TABLE says; what there is to tell of it.

    What is the user's own stays as it is, and so does what a tree below has already: it was not
    drawn by this stage. Links are never followed.
    """
    found: list[Notice] = []
    known: set[str] = set()
    for row in TABLE:
        paths = [
            path
            for pattern in row.paths
            for path in matching(tree.upper, pattern)
            if not _own(tree, path, row)
        ]
        done = [path for path in paths if _do(tree, path, row)]
        for pattern in row.links if done else ():
            for link in matching(tree.upper, pattern):
                target = os.readlink(link) if link.is_symlink() else ""
                if os.path.basename(target) in {path.name for path in done}:
                    link.unlink()
        known |= {_name(tree, path) for path in paths}
        if done and (row.again or row.done == KEPT):
            found.append(_notice(row, [_name(tree, path) for path in done]))
    keys = [name for name in private_keys(tree) if not _within(name, known)]
    if keys:
        found.append(
            _notice(
                Drawn(package="", what="a private key that no package ships", paths=(), done=KEPT),
                keys,
            )
        )
    return found + perhaps(tree)


def perhaps(tree: Tree) -> list[Notice]:
    """Packages of this tree, of which TABLE does not know, whose scripts call what draws.

    Files of functions that they read count as theirs, but for those of packages in TABLE.
    """
    found: dict[str, Notice] = {}
    known = {row.package for row in TABLE}
    for ending in reads.SCRIPTS:
        for path in matching(tree.upper, f"{SCRIPTS}*.{ending}"):
            package = path.name.removesuffix(f".{ending}").partition(":")[0]
            if package in known or package in found:
                continue
            if text := _calls(tree, path, known):
                what = f"its {ending} calls {text}"
                found[package] = Notice(
                    package=package,
                    what=what,
                    done=PERHAPS,
                    again="",
                    paths=("/" + _name(tree, path),),
                )
    return [found[package] for package in sorted(found)]


def _calls(tree: Tree, script: Path, known: Set[str]) -> str:
    """What draws that a script calls, by itself or by functions that it reads; "" for nothing."""
    code = _code(script)
    codes = [code]
    for name in SOURCED.findall(code):
        path = os.path.normpath(name.decode())
        if path.startswith("usr/") and not known & set(path.split("/")):
            here = matching(tree.upper, glob.escape(path))
            below = tree.below(path)
            codes += [_code(one) for one in (here or ([below] if below else []))]
    match = next(filter(None, map(DRAWS.search, codes)), None)
    return " ".join(match[0].decode().split()) if match else ""


def _code(path: Path) -> bytes:
    """A script without its comments; b"" for what is no plain file of a script's length."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_size > reads.LIMIT:
        return b""
    return reads.code(path.read_bytes())


def patterns() -> list[str]:
    """Every pattern of the table by which something is removed or made anew."""
    return [path for row in TABLE if row.done != KEPT for path in (*row.paths, *row.links)]


def _notice(row: Drawn, names: Sequence[str]) -> Notice:
    names = sorted(names)
    return Notice(
        package=row.package,
        what=row.what,
        done=row.done,
        again=row.again,
        by=row.by,
        paths=tuple("/" + name for name in names[:PATHS_LIMIT]),
        more=max(0, len(names) - PATHS_LIMIT),
    )


def _name(tree: Tree, path: Path) -> str:
    return os.path.relpath(path, tree.upper)


def _own(tree: Tree, path: Path, row: Drawn) -> bool:
    """Whether it is the user's, or a tree below has it already."""
    name = _name(tree, path)
    if name in tree.kept or (tree.given and _sha256(path) in tree.given):
        return True
    return row.done in (REMOVED, KEPT) and tree.below(name) is not None


def _do(tree: Tree, path: Path, row: Drawn) -> bool:
    """Do with one path what its row says; whether that was done."""
    if row.done == KEPT:
        return True
    mode = path.lstat().st_mode
    if row.done == REMOVED:
        remove(path) if stat.S_ISDIR(mode) else path.unlink()
        return True
    if not stat.S_ISREG(mode) or row.make is None:
        return False
    content = path.read_bytes()
    below = tree.below(_name(tree, path))
    old = below.read_bytes() if below is not None and stat.S_ISREG(below.lstat().st_mode) else None
    made = row.make(content, old, tree.epoch)
    if made is not None and made != content:
        path.write_bytes(made)  # the same inode: owner, mode and attributes stay
    return made is not None


def matching(tree: Path, pattern: str) -> list[Path]:
    """What a pattern means in a tree: no whiteouts, and nothing behind a symlink."""
    found = [tree]
    for step in pattern.split("/"):
        found = [
            Path(entry.path)
            for folder in found
            for entry in _entries(folder)
            if fnmatch.fnmatchcase(entry.name, step)
        ]
    return [path for path in found if not _whiteout(path.lstat())]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _sha256(path: Path) -> str:
    """SHA-256 of a file's content; "" of what is no file."""
    return read_sha256(path) if stat.S_ISREG(path.lstat().st_mode) else ""


# ---------------------------------------------------------------- private keys


def private_keys(tree: Tree) -> list[str]:
    """Files of a stage's tree with a private key that no package ships and no user gave.

    A package's own file is the same in every machine of the world: no secret, so not looked at.
    """
    owned = _owned(tree.upper)
    if not owned:  # no package was installed, or all were only unpacked
        return []
    found = []
    for path in _files(tree.upper):
        name = _name(tree, path)
        if name in owned or name in tree.kept or name.startswith(SCRIPTS) or not _has_key(path):
            continue
        if tree.below(name) is None and _sha256(path) not in tree.given:
            found.append(name)
    return sorted(found)


def _files(tree: Path) -> Iterator[Path]:
    """Every regular file of a tree."""
    stack = [os.fspath(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _has_key(path: Path) -> bool:
    with path.open("rb") as file:
        return KEY.search(file.read(KEY_LIMIT)) is not None


def _owned(tree: Path) -> set[str]:
    """What the packages unpacked in this tree ship, by dpkg's lists, relative to the tree."""
    found: set[str] = set()
    for path in matching(tree, "var/lib/dpkg/info/*.list"):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        for line in path.read_text("utf-8", "surrogateescape").splitlines():
            name = line.lstrip("/")
            found.add(name)
            if name.split("/", 1)[0] in ALIASES:
                found.add(f"usr/{name}")
    return found


def _within(name: str, known: Set[str]) -> bool:
    return name in known or any(name.startswith(f"{one}/") for one in known)


# ---------------------------------------------------------------- records and messages


def facts(notices: Sequence[Notice]) -> list[dict[str, Any]]:
    """Notices as a record keeps them."""
    return [asdict(notice) for notice in notices]


def of_trees(cache: Cache, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """What the packages of these trees drew, as an image's record keeps it: trees may be pruned."""
    return [
        {**one, "layer": stage.name}
        for stage in stages
        for one in cache.require(stage).facts.get("drawn", ())
    ]


def read(value: Any) -> list[Notice]:
    """Notices of a record's facts; what is none is left out, as older records have none."""
    found = []
    for one in value if isinstance(value, list) else ():
        try:
            fields: dict[str, Any] = dict(one)
            texts = [fields[name] for name in ("package", "what", "done", "again")]
            texts += [*fields["paths"], *fields.get("by", ()), fields.get("layer", "")]
            if all(type(text) is str for text in texts) and type(fields.get("more", 0)) is int:
                fields |= {name: tuple(fields.get(name, ())) for name in ("paths", "by")}
                found.append(Notice(**fields))
        except (TypeError, KeyError, ValueError):
            continue
    return found


def told(
    notices: Sequence[Notice], installed: Set[str], made: Set[str] = frozenset()
) -> list[Notice]:
    """Those that a user must know of: what is shared, and what nothing makes at a first boot.

    `made` are packages of which a unit of Strata's makes then what was removed.
    """
    return [
        notice
        for notice in notices
        if (notice.again or not notice.package or notice.done == PERHAPS)
        and not installed & set(notice.by)
        and not (notice.done == REMOVED and notice.package in made)
    ]


def note(notices: Sequence[Notice], log: Log) -> None:
    """Write them into a stage's log."""
    for notice in notices:
        log.line(f"# {notice.text()}")


@functools.cache
def _patterns_kept(package: str) -> tuple[str, ...]:
    return tuple(
        path
        for row in TABLE
        if row.done == KEPT and row.package == package
        for path in (*row.paths, *row.also)
    )


def differing(notices: Sequence[Notice], path: str) -> Notice | None:
    """The notice that says why a path, absolute, has other bytes in each build; None if none does.

    Only of what the table knows: a private key of which it does not is a difference to look into.
    """
    steps = path.strip("/").split("/")
    for notice in notices:
        for pattern in _patterns_kept(notice.package) if notice.done == KEPT else ():
            parts = pattern.split("/")
            if len(steps) >= len(parts) and all(
                fnmatch.fnmatchcase(step, part) for step, part in zip(steps, parts, strict=False)
            ):
                return notice
    return None
