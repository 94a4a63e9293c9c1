"""`strata sizes`: what takes how much of a spec's tree, by layer, package and folder; offline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import BuildError
from ..plan.stage import Stage
from ..rootfs import contents
from ..rootfs.largest import COUNT
from ..rootfs.stacked import Sizes, stacked
from ..session.session import Session
from ..spec.words import amount, printable
from ..store.readable import need_readable
from ..store.record import Entry

FORMS = ("text", "json")

LEAST = 1000
"""JSON has folders that take at least this part of the tree: one in a thousand."""


def sizes(session: Session) -> None:
    """Print them in the form that `format=` names; BuildError where the cache lacks a tree."""
    form = session.variables.get("format", "text")
    if form not in FORMS:
        raise BuildError(f"format={form}: expected {' or '.join(FORMS)}")
    stages = session.plan.tree
    there, trees = trees_of(session)
    found = stacked(trees, session.spec.arch)
    if form == "json":
        session.screen.line(json.dumps(document(session.name, stages, there, found), indent=1))
        return
    for line in told(session.name, stages, there, found):
        session.screen.line(line)


def trees_of(session: Session) -> tuple[list[Entry], list[contents.Contents]]:
    """The entries of the plan's trees and what they hold; BuildError where the cache lacks one."""
    stages = session.plan.tree
    entries = [session.cache.get(stage) for stage in stages]
    there = [entry for entry in entries if entry is not None]
    if len(there) < len(stages):
        lacking = [stage.title for stage, one in zip(stages, entries, strict=True) if one is None]
        raise BuildError(
            f"{session.spec.path}: the cache has no tree of {', '.join(lacking)}: "
            "what is in it is not known",
            f"strata base layer spec={session.name} lock=keep makes what lacks",
        )
    return there, [_contents(session, *one) for one in zip(stages, there, strict=True)]


def _contents(session: Session, stage: Stage, entry: Entry) -> contents.Contents:
    """What a tree's tarball holds: remembered, or read now, which takes a second for 500 MB."""
    folder = session.state / "sizes"
    known = contents.remembered(folder, entry)
    if known is not None:
        return known
    session.screen.moving(f"{stage.title}: reading its tarball")
    need_readable(entry.path, session.shown(entry.path))
    if session.cache.intact(stage) is None:
        raise BuildError(
            f"{session.shown(entry.path)}: it is damaged: its SHA-256 is another",
            f"strata verify drops it, strata base layer spec={session.name} makes it anew",
        )
    known = contents.read(entry.path)
    contents.remember(folder, entry, known)
    return known


# ---------------------------------------------------------------- told; pure


def told(
    name: str, stages: Sequence[Stage], entries: Sequence[Entry], found: Sizes
) -> Iterator[str]:
    """The lines for people: ten of each."""
    packed = sum(entry.size for entry in entries)
    yield (
        f"{name}: {amount(found.bytes)} in {found.files} files; "
        f"{amount(packed)} in {len(stages)} tarball{'s' * (len(stages) > 1)}"
    )
    yield ""
    yield f"{'by layer':<22}{'tarball':>12}{'holds':>12}{'seen':>12}{'replaces':>12}{'removes':>12}"
    for stage, entry, floor in zip(stages, entries, found.floors, strict=True):
        columns = (entry.size, floor.holds, floor.seen, floor.replaces, floor.removes)
        yield f"  {stage.title:<20}{''.join(map(_wide, columns))}"
    if found.packages:
        few = found.packages[:COUNT]
        yield ""
        wide = max(32, *(len(printable(one.name)) for one in few))
        first = _first("package", len(few), len(found.packages))
        yield f"{first:<{wide + 4}}{'files':>12}{'Installed-Size':>16}"
        for one in few:
            installed = "-" if one.installed is None else _wide(one.installed)
            yield f"  {printable(one.name):<{wide + 2}}{_wide(one.bytes)}{installed:>16}"
        yield f"  {'(in no package)':<{wide + 2}}{_wide(found.no_package)}"
    yield ""
    few_folders = found.folders[:COUNT]
    yield _first("folder", len(few_folders), len(found.folders))
    for path, size in few_folders:
        yield f"  {_wide(size)}  {printable(path)}"
    yield ""
    yield from _twice(stages, found)


def _twice(stages: Sequence[Stage], found: Sizes) -> Iterator[str]:
    """Which files two layers hold: the lower one's bytes are in a tarball and in no image."""
    if not found.twice:
        yield "no two layers hold the same file"
        return
    wasted = sum(one.bytes for one in found.twice)
    count = len(found.twice)
    yield f"{count} file{'s' * (count > 1)} held twice: {amount(wasted)} that no image shows"
    for one in found.twice[:COUNT]:
        lower, upper = stages[one.lower].title, stages[one.upper].title
        yield f"  {_wide(one.bytes)}  {printable(one.path)}  ({lower}, then {upper})"


def _first(what: str, shown: int, all_of_them: int) -> str:
    return f"by {what}" + (f", the largest {shown} of {all_of_them}" if shown < all_of_them else "")


def _wide(size: int) -> str:
    """An amount in 12 columns, with a dash for nothing."""
    return f"{amount(size) if size else '-':>12}"


def document(
    name: str, stages: Sequence[Stage], entries: Sequence[Entry], found: Sizes
) -> dict[str, Any]:
    """The same for programs, with every package and file held twice; docs/questions.md tells it."""
    least = math.ceil(found.bytes / LEAST)
    return {
        "spec": name,
        "files": found.files,
        "bytes": found.bytes,
        "layers": [
            {
                "stage": stage.kind,
                "name": stage.name,
                "key": stage.key,
                "tarball": entry.size,
                **floor._asdict(),
            }
            for stage, entry, floor in zip(stages, entries, found.floors, strict=True)
        ],
        "packages": [one._asdict() for one in found.packages],
        "no_package": found.no_package,
        "folders": [{"path": path, "bytes": size} for path, size in found.folders if size >= least],
        "twice": [
            {
                "path": one.path,
                "lower": stages[one.lower].task,
                "upper": stages[one.upper].task,
                "bytes": one.bytes,
                "above": one.above,
            }
            for one in found.twice
        ],
    }
