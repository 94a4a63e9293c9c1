"""The graph of stages as text, dot, Mermaid or SVG. Pure.

Each stage stands on one other, so of any specs the graph is a forest: the picture has a column for
each depth and a row for each end, and needs no program to lay it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ..spec.words import amount

HIT, PULLED, LACKING = "hit", "would be pulled", "lacking"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A stage of one or more specs; `below` is the entry that it stands on, "" for a base.

    `size` is its file's in bytes, None where the cache has none; `makes` what is published of it.
    """

    entry: str
    title: str
    key: str
    below: str
    state: str
    size: int | None
    specs: tuple[str, ...]
    makes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """Its state, and its size where it has one."""
        return self.state if self.size is None else f"{self.state}, {amount(self.size)}"


Forest = Mapping[str, Sequence[Node]]
"""By entry the stages that stand on it; by "" the bases."""


def forest(nodes: Sequence[Node]) -> Forest:
    """The stages by what they stand on, in their order."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        found.setdefault(node.below, []).append(node)
    return found


def _walk(above: Forest) -> Iterator[tuple[Node, int]]:
    """Each stage with its depth, before what stands on it."""
    stack = [(node, 0) for node in reversed(above.get("", ()))]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(one, depth + 1) for one in reversed(above.get(node.entry, ()))]


# ---------------------------------------------------------------- text


def text(nodes: Sequence[Node]) -> str:
    """A tree of lines; specs are named where there is more than one."""
    above = forest(nodes)
    several = len({spec for node in nodes for spec in node.specs}) > 1
    rows = []
    for node, depth, last in _branches(above):
        lead = "".join("   " if one else "│  " for one in last[1:-1])
        branch = "" if depth == 0 else "└─ " if last[-1] else "├─ "
        size = amount(node.size) if node.size is not None else ""
        rest = ", ".join(node.makes or (node.specs if several else ()))
        rows.append((f"{lead}{branch}{node.title}", node.key[:8], node.state, size, rest))
    wide = max((len(row[0]) for row in rows), default=0)
    lines = [
        f"{title:<{wide}}  {key}  {state:<15}{size:>12}  {rest}".rstrip()
        for title, key, state, size, rest in rows
    ]
    return "\n".join(lines)


def _branches(above: Forest) -> Iterator[tuple[Node, int, tuple[bool, ...]]]:
    """Each stage, its depth, and of it and each below whether it is the last one there."""
    last: list[bool] = []
    ends = {one.entry for row in above.values() for one in row[-1:]}
    for node, depth in _walk(above):
        last = [*last[:depth], node.entry in ends]
        yield node, depth, tuple(last)


# ---------------------------------------------------------------- for other programs


def dot(nodes: Sequence[Node]) -> str:
    """For graphviz."""
    fill = {HIT: "#d7f0dc", PULLED: "#d9e8fb", LACKING: "#fbe3c8"}

    def quoted(line: str) -> str:
        return line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")

    lines = ["digraph strata {", '  rankdir="LR"; node [shape=box style="rounded,filled"];']
    for node in nodes:
        label = "\\n".join(map(quoted, _lines(node)))
        lines.append(f'  "{node.entry}" [label="{label}" fillcolor="{fill[node.state]}"];')
    lines += [f'  "{node.below}" -> "{node.entry}";' for node in nodes if node.below]
    return "\n".join([*lines, "}"])


def mermaid(nodes: Sequence[Node]) -> str:
    """For a Markdown page that draws Mermaid."""

    def quoted(line: str) -> str:
        coded = {
            "#": "#35;",
            "&": "#amp;",
            '"': "#quot;",
            "<": "#lt;",
            ">": "#gt;",
            "`": "#96;",
            "\n": " ",
        }
        return "".join(coded.get(sign, sign) for sign in line)

    name = {node.entry: f"s{number}" for number, node in enumerate(nodes)}
    kinds = {HIT: "hit", PULLED: "pulled", LACKING: "lacking"}
    lines = ["flowchart LR"]
    for node in nodes:
        label = "<br>".join(map(quoted, _lines(node)))
        lines.append(f'  {name[node.entry]}["{label}"]:::{kinds[node.state]}')
    lines += [f"  {name[node.below]} --> {name[node.entry]}" for node in nodes if node.below]
    return "\n".join([
        *lines,
        "  classDef hit fill:#d7f0dc,stroke:#2c7a3f,color:#111",
        "  classDef pulled fill:#d9e8fb,stroke:#2b62a8,color:#111",
        "  classDef lacking fill:#fbe3c8,stroke:#a8641a,color:#111,stroke-dasharray:4",
    ])  # fmt: skip


def _lines(node: Node) -> list[str]:
    return [node.title, node.told, *node.makes]


# ---------------------------------------------------------------- SVG

WIDTH, GAP, ROW, LETTER = 200, 44, 22, 6.6
"""Pixels: the least of a box's width, between columns, of a line, of a letter of 12 pixels."""

STYLE = """\
text { font: 12px ui-monospace, monospace; fill: #1b1f24 }
.title { font-weight: bold }
rect { stroke-width: 1.5 }
.hit { fill: #d7f0dc; stroke: #2c7a3f }
.pulled { fill: #d9e8fb; stroke: #2b62a8 }
.lacking { fill: #fbe3c8; stroke: #a8641a; stroke-dasharray: 4 }
path { fill: none; stroke: #6a737d; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } path { stroke: #8b949e }
 .hit { fill: #12351c } .pulled { fill: #12294a } .lacking { fill: #46290b }
}"""


def svg(nodes: Sequence[Node], *, alone: bool = True) -> str:
    """A picture that needs nothing else; light or dark as the reader has it.

    Not `alone`, it is for a page that has the style of it.
    """
    above = forest(nodes)
    tall = {node.entry: ROW * len(_lines(node)) + 10 for node in nodes}
    columns = _columns(above)
    places = _places(above, lambda node: tall[node.entry] + 16)
    lefts = [10.0]
    for wide in columns:
        lefts.append(lefts[-1] + wide + GAP)
    drawn: list[str] = []
    corners: dict[str, tuple[float, float]] = {}
    for node, depth in _walk(above):
        x, middle, wide = lefts[depth], places[node.entry], columns[depth]
        corners[node.entry] = x + wide, middle
        if node.below:
            from_x, from_y = corners[node.below]
            half = (from_x + x) / 2
            drawn.append(
                f'<path d="M{from_x:g} {from_y:g}C{half:g} {from_y:g} {half:g} {middle:g} '
                f'{x:g} {middle:g}"/>'
            )
        drawn += _box(node, x, middle - tall[node.entry] / 2, wide, tall[node.entry])
    height = max((places[node.entry] + tall[node.entry] / 2 for node in nodes), default=0) + 10
    specs = ", ".join(sorted({spec for node in nodes for spec in node.specs}))
    wide = lefts[-1] - GAP + 10 if nodes else 20
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {wide:g} {height:g}" '
        f'width="{wide:g}" height="{height:g}">',
        f"<title>Stages of {escape(_plain(specs))}</title>",
        *([f"<style>{STYLE}</style>"] if alone else []), *drawn, "</svg>",
    ])  # fmt: skip


def _box(node: Node, x: float, y: float, wide: float, tall: float) -> Iterator[str]:
    state = {HIT: "hit", PULLED: "pulled", LACKING: "lacking"}[node.state]
    said = f"{node.title} of {', '.join(node.specs)}: key {node.key}"
    yield f"<g><title>{escape(_plain(said))}</title>"
    yield f'<rect class="{state}" rx="6" x="{x:g}" y="{y:g}" width="{wide:g}" height="{tall:g}"/>'
    for number, line in enumerate(_lines(node)):
        kind = ' class="title"' if number == 0 else ""
        down = y + ROW * (number + 1) - 2
        yield f'<text{kind} x="{x + 10:g}" y="{down:g}">{escape(_plain(line))}</text>'
    yield "</g>"


def _plain(line: str) -> str:
    """A line without what XML has no form for."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _columns(above: Forest) -> list[float]:
    """How wide the boxes of each depth are: as their longest line."""
    found: list[float] = []
    for node, depth in _walk(above):
        if depth == len(found):
            found.append(WIDTH)
        longest = max(map(len, _lines(node)))
        found[depth] = max(found[depth], round(longest * LETTER * 1.1 + 20))
    return found


def _places(above: Forest, needs: Callable[[Node], float]) -> dict[str, float]:
    """The middle of each box, downwards: ends are rows, others are amid what stands on them."""
    found: dict[str, float] = {}
    down = 10.0
    order = [node for node, _depth in _walk(above)]
    for node in order:
        if node.entry not in above:
            found[node.entry] = down + needs(node) / 2
            down += needs(node)
    for node in reversed(order):
        if node.entry in above:
            there = [found[one.entry] for one in above[node.entry]]
            found[node.entry] = (there[0] + there[-1]) / 2
    return found
