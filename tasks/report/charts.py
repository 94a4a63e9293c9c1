"""Where the parts of a chart lie, in percent of its width and height, so that it fits any. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..spec.words import amount, counted
from ..store.history import Build, Took

WIDE, TALL = 1000, 440
"""Pixels for which a treemap is laid out; its cells are stretched to what there is."""

MOST = 120
"""Cells of a treemap that have a name of their own; the rest is one."""

DEEP = 5
"""Levels of folders in a treemap."""

LEAST = 300
"""A folder is drawn that takes one part in so many of the tree."""

HEAD = 17
"""Pixels of the strip above a folder's own, where its name stands."""

SHADES = 8
"""Colours of layers, or of folders at the top."""


class Cell(NamedTuple):
    """A rectangle of a treemap: `kind` is its colour, `tip` says all of it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    name: str
    tip: str

    @property
    def named(self) -> bool:
        """Whether there is room for some letters of its name."""
        return self.width * WIDE / 100 > 34 and self.height * TALL / 100 > 13


class Part(NamedTuple):
    """What a cell of a treemap stands for."""

    name: str
    bytes: int
    kind: str
    note: str = ""


Box = tuple[float, float, float, float]


def _laid(sizes: Sequence[int], box: Box) -> list[Box]:
    """Squarified rectangles in a box of pixels, of sizes that are above 0, the largest first."""
    import squarify

    x, y, wide, tall = box
    if not sizes or wide <= 0 or tall <= 0:
        return []
    normal = squarify.normalize_sizes(list(sizes), wide, tall)
    return [
        (one["x"], one["y"], one["dx"], one["dy"])
        for one in squarify.squarify(normal, x, y, wide, tall)
    ]


def _cell(box: Box, kind: str, name: str, tip: str) -> Cell:
    x, y, wide, tall = box
    return Cell(
        x=round(100 * x / WIDE, 3),
        y=round(100 * y / TALL, 3),
        width=round(100 * wide / WIDE, 3),
        height=round(100 * tall / TALL, 3),
        kind=kind,
        name=name,
        tip=tip,
    )


def treemap(parts: Sequence[Part], whole: int) -> list[Cell]:
    """A cell for each part, the largest first; of many small ones one for all."""
    every = sorted((one for one in parts if one.bytes > 0), key=lambda one: (-one.bytes, one.name))
    shown, rest = every[:MOST], every[MOST:]
    if rest:
        left = sum(one.bytes for one in rest)
        shown.append(Part(counted(len(rest), "smaller one"), left, "rest"))
        shown.sort(key=lambda one: (-one.bytes, one.name))
    boxes = _laid([one.bytes for one in shown], (0, 0, WIDE, TALL))
    return [
        _cell(box, one.kind, one.name, _tip(one.name, one.bytes, whole, one.note))
        for one, box in zip(shown, boxes, strict=True)
    ]


def _tip(name: str, size: int, whole: int, note: str = "") -> str:
    said = f"{name}: {amount(size)}, {share(size, whole)}"
    return f"{said}; {note}" if note else said


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


# ---------------------------------------------------------------- folders


@dataclass
class _Folder:
    path: str
    bytes: int
    inner: list[_Folder] = field(default_factory=list)


def nested(folders: Sequence[tuple[str, int]], whole: int) -> list[Cell]:
    """Folders in folders, each before what is in it; `folders` are paths and bytes of all below."""
    top = _Folder("", whole)
    known = {"": top}
    wanted = [(path, size) for path, size in folders if size > 0 and size * LEAST >= whole]
    for path, size in sorted(wanted):
        above = path.rpartition("/")[0]
        while above not in known:
            above = above.rpartition("/")[0]
        known[path] = _Folder(path, size)
        known[above].inner.append(known[path])
    cells: list[Cell] = []
    _nest(top, (0, 0, WIDE, TALL), 0, "", whole, cells)
    return cells


def _nest(here: _Folder, box: Box, depth: int, shade: str, whole: int, cells: list[Cell]) -> None:
    """Add what is in a folder, which has this box of pixels."""
    inner = sorted(here.inner, key=lambda one: (-one.bytes, one.path))
    own = here.bytes - sum(one.bytes for one in inner)
    parts: list[_Folder | None] = [*inner]
    sizes = [one.bytes for one in inner]
    if own > 0 and inner:
        place = sum(size >= own for size in sizes)
        parts.insert(place, None)
        sizes.insert(place, own)
    for number, (one, place_of) in enumerate(zip(parts, _laid(sizes, box), strict=False)):
        x, y, wide, tall = place_of
        if one is None:
            said = f"{here.path or '/'} itself and small folders"
            cells.append(_cell(place_of, f"{shade or 'rest'} own", "", _tip(said, own, whole)))
            continue
        # A quarter of the tree has no colour of its own: what is in it has.
        large = one.bytes * 4 > whole and bool(one.inner)
        kind = shade or ("rest" if large else f"l{number % SHADES}")
        name = one.path.removeprefix(f"{here.path}/") if here.path else one.path
        cells.append(_cell(place_of, f"{kind} d{depth}", name, _tip(one.path, one.bytes, whole)))
        within = (x + 2, y + HEAD, wide - 4, tall - HEAD - 2)
        if one.inner and depth + 1 < DEEP and within[2] > 30 and within[3] > 16:
            _nest(one, within, depth + 1, "" if kind == "rest" else kind, whole, cells)


# ---------------------------------------------------------------- builds


class Bar(NamedTuple):
    """A stage in one build: where it lies on the line of seconds, None if it took no time."""

    result: str
    said: str
    x: float
    width: float


class Row(NamedTuple):
    """A stage in the last build and in the one before; None where that had none of it."""

    title: str
    now: Bar | None
    before: Bar | None


class Waterfall(NamedTuple):
    """Rows from the base on; `ticks` are (percent, text) of a line of seconds."""

    rows: list[Row]
    ticks: list[tuple[float, str]]


def waterfall(now: Build, before: Build | None) -> Waterfall:
    """When each stage of a build was made, beside the build before."""
    sides = [{one.task: one for one in build.stages} if build else {} for build in (now, before)]
    every = [one for build in (now, before) if build for one in build.stages]
    longest = max((one.began + one.seconds for one in every), default=0) or 1.0
    rows = [
        Row(_title(task), *(_bar(side.get(task), longest) for side in sides))
        for task in dict.fromkeys(one.task for one in every)
    ]
    step = next((one for one in _steps() if longest / one <= 6), longest)
    count = min(6, int(longest / step))
    ticks = [
        (round(100 * step * number / longest, 3), took(step * number))
        for number in range(count + 1)
    ]
    return Waterfall(rows, [one for one in ticks if one[0] <= 94])


def _title(task: str) -> str:
    return task.replace(":", " ", 1)


def _steps() -> list[float]:
    """What the line of seconds may count by: up to a day."""
    return [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400]


def _bar(one: Took | None, longest: float) -> Bar | None:
    if one is None:
        return None
    width = max(0.4, 100 * one.seconds / longest) if one.seconds else 0
    x = min(100 * one.began / longest, 100 - width)
    said = f"{one.result}, {took(one.seconds)}" if one.seconds else one.result
    return Bar(one.result, said, round(x, 3), round(width, 3))


def took(seconds: float) -> str:
    """A time in the unit that people would use."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds % 1 or seconds < 10 else f"{seconds:.0f} s"


RESULTS = ("hit", "pulled", "built", "failed", "skipped")


def counts(build: Build) -> dict[str, int]:
    """How many stages of a build were what, in the order in which a bar shows them."""
    found = dict.fromkeys(RESULTS, 0)
    for one in build.stages:
        found[one.result] += 1
    return {result: number for result, number in found.items() if number}


class Piece(NamedTuple):
    """A part of a bar that is 100 % wide."""

    kind: str
    x: float
    width: float


def stacked(numbers: Mapping[str, int]) -> list[Piece]:
    """A bar of these, one after the other."""
    whole, x = sum(numbers.values()), 0.0
    pieces = []
    for kind, number in numbers.items():
        width = 100 * number / whole
        pieces.append(Piece(kind, round(x, 3), round(width, 3)))
        x += width
    return pieces


def hit_rate(builds: Sequence[Build]) -> str:
    """Of the stages that builds needed, how many nobody had to build; "-" where there were none."""
    found = [one.result for build in builds for one in build.stages if one.result != "skipped"]
    there = sum(result in ("hit", "pulled") for result in found)
    return f"{100 * there / len(found):.0f} %" if found else "-"
