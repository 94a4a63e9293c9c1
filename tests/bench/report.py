"""docs/performance.md: its tables between two marks, and its figures (SVG) beside it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from measure import median

BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"

DISKS = "<!-- bench disks: begin -->\n", "<!-- bench disks: end -->\n"

GOALS = {
    "cold": "faster than the expert's script", "nothing, lock=keep": "0.30",
    "nothing, lock=latest": "1", "repository moved": "3", "image option": "5",
    "package in a top layer": "8", "file of the top layer": "6", "package in the long list": "35",
    "restored on a clone": "2",
}  # fmt: skip
"""Seconds, by case."""

MKOSI = {
    "cold": "mkosi", "nothing, lock=keep": "mkosi: nothing", "image option": "mkosi: forced",
    "file of the top layer": "mkosi: forced", "package in a top layer": "mkosi: package",
    "package in the long list": "mkosi: package",
}  # fmt: skip
"""What mkosi does in each case; in the others it does what it does in the one next to it."""

COLOURS = ("#2f6f9f", "#c8762e", "#5b8f47", "#8a5aa5", "#a33f3f", "#6b6b6b")


def seconds(runs: Sequence[Mapping[str, Any]] | None) -> float | None:
    """The median of these runs, None if there were none."""
    return median([float(one["seconds"]) for one in runs]) if runs else None


def _told(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _ratio(value: float | None, ours: float | None) -> str:
    return "–" if value is None or not ours else f"{value / ours:.1f}×"


def cases_table(results: Mapping[str, Any]) -> list[str]:
    """Medians of all cases in seconds; the rivals' with the ratio to ours."""
    seed, expert = seconds(results.get("seed")), seconds(results.get("expert"))
    lines = [
        "| case | Strata | goal | seed | expert's script | mkosi |",
        "|---|---|---|---|---|---|",
    ]
    for case, goal in GOALS.items():
        ours = seconds(results.get(f"ours: {case}"))
        mkosi = seconds(results.get(MKOSI.get(case, "")))
        if case == "cold":
            met = ours is not None and expert is not None and ours < expert
        else:
            met = ours is not None and ours <= float(goal)
        unit = goal if case == "cold" else f"≤ {goal} s"
        cells = [f"{_told(value)} ({_ratio(value, ours)})" if value else "–"
                 for value in (seed, expert, mkosi)]  # fmt: skip
        lines.append(f"| {case} | **{_told(ours)}** | {unit}{'' if met else ' (missed)'} | "
                     f"{' | '.join(cells)} |")  # fmt: skip
    return lines


def memory_table(results: Mapping[str, Any]) -> list[str]:
    """Peak memory and disk of the cold builds."""
    lines = ["| cold build | CPU, s | largest process | all processes | most on disk |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, title in (("ours: cold", "Strata"), ("seed", "seed"), ("expert", "expert's script"),
                        ("mkosi", "mkosi")):  # fmt: skip
        runs = results.get(name)
        if not runs:
            continue
        middle = sorted(runs, key=lambda one: one["seconds"])[len(runs) // 2]
        lines.append(
            f"| {title} | {middle['cpu']:.0f} | {middle['largest'] / 1e6:.0f} MB "
            f"({middle['largest_name']}) | {middle['memory'] / 1e6:.0f} MB "
            f"| {middle['disk'] / 1e6:.0f} MB |"
        )
    return lines


def floors_table(results: Mapping[str, Any]) -> list[str]:
    """What must be done at least for each stage, by the plainest commands: tests/bench/floors.py."""
    lines = ["| stage | must be done | s |", "|---|---|---|"]
    lines += [f"| {one['stage']} | {one['what']} | {one['seconds']:.1f} |"
              for one in results["floors"]]  # fmt: skip
    return lines


def growth_table(kind: str, unit: str, points: Sequence[Mapping[str, Any]]) -> list[str]:
    """One growth curve: each point's time, by stages, its memory and disk."""
    names: list[str] = []
    for point in points:
        for stage in point["stages"]:
            title = _title(stage)
            if title not in names:
                names.append(title)
    scratch = any(point["scratch"] for point in points)
    lines = [f"| {unit} | all, s | {' | '.join(names)} | largest process | most on disk |"
             + (" tree | scratch |" if scratch else ""),
             "|" + "---|" * (len(names) + 4 + 2 * scratch)]  # fmt: skip
    for point in points:
        took = {_title(stage): stage["seconds"] for stage in point["stages"]
                if stage["result"] == "built"}  # fmt: skip
        cells = " | ".join(f"{took[name]:.1f}" if name in took else "–" for name in names)
        lines.append(f"| {point['x']:g} | {point['seconds']:.1f} | {cells} | "
                     f"{point['largest'] / 1e6:.0f} MB ({point['largest_name']}) | "
                     f"{point['disk'] / 1e6:.0f} MB |"
                     + (f" {point['tree'] / 1e6:.0f} MB | {point['scratch'] / 1e6:.0f} MB "
                        f"({point['scratch'] / point['tree']:.1f}×) |" if scratch else ""))  # fmt: skip
    return lines


def _title(stage: Mapping[str, Any]) -> str:
    return "base" if stage["stage"] == "base" else f"{stage['stage']} {stage['name']}"


# ---------------------------------------------------------------- figures


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="12">')  # fmt: skip
    return "\n".join(
        [head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>\n"]
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{colour}"/>')  # fmt: skip


def bar_chart(results: Mapping[str, Any]) -> str:
    """Seconds of each case, ours beside the rivals'; the axis is linear and begins at 0."""
    rows: list[tuple[str, float, str]] = []
    for case in GOALS:
        ways = [("Strata", f"ours: {case}")]
        if case == "cold":
            ways += [("seed", "seed"), ("expert", "expert")]
        if case in MKOSI:
            ways.append(("mkosi", MKOSI[case]))
        for index, (who, name) in enumerate(ways):
            value = seconds(results.get(name))
            if value is not None:
                colour = COLOURS[0] if who == "Strata" else COLOURS[1 + index % 4]
                rows.append((f"{case}: {who}", value, colour))
    longest = max((value for _label, value, _colour in rows), default=1.0)
    left, width, step = 230, 460, 20
    parts = []
    for number, (label, value, colour) in enumerate(rows):
        y = 12 + number * step
        size = width * value / longest
        parts += [_text(left - 8, y + 11, label, "end"), _bar(left, y, size, 14, colour),
                  _text(left + size + 6, y + 11, f"{_told(value)} s")]  # fmt: skip
    return _svg(left + width + 70, 24 + len(rows) * step, parts)


def waterfall_chart(steps: Sequence[Mapping[str, Any]]) -> str:
    """What a cold build does when: stages and their steps, by seconds since its start."""
    end = max((float(one["end"]) for one in steps), default=1.0)
    left, width, step = 300, 460, 18
    parts = []
    for number, one in enumerate(steps):
        y = 12 + number * step
        x = left + width * float(one["begin"]) / end
        size = width * (float(one["end"]) - float(one["begin"])) / end
        kinds = ("lock", "base", "layer", "image", "publish")
        kind = str(one["name"]).split(" ")[0].rstrip(":")
        colour = COLOURS[kinds.index(kind) if kind in kinds else 5]
        label = f"{float(one['end']) - float(one['begin']):.1f} s"
        parts += [
            _text(left - 8, y + 11, str(one["name"])[:48], "end"),
            _bar(x, y, size, 13, colour),
        ]
        inside = x + size + 60 > left + width
        parts.append(
            _text(x - 4 if inside else x + size + 4, y + 11, label, "end" if inside else "start")
        )
    return _svg(left + width + 20, 24 + len(steps) * step, parts)


def growth_chart(points: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Seconds over x, both axes from 0: all of the build, and each stage that was built."""
    lines: dict[str, list[tuple[float, float]]] = {"all": []}
    for point in points:
        lines["all"].append((point["x"], point["seconds"]))
        for stage in point["stages"]:
            if stage["result"] == "built":
                lines.setdefault(_title(stage), []).append((point["x"], stage["seconds"]))
    most_x = max((point["x"] for point in points), default=1) or 1
    most_y = max((point["seconds"] for point in points), default=1) or 1
    left, top, width, height = 60, 20, 420, 260
    parts = [f'<path d="M{left} {top}V{top + height}H{left + width}" stroke="#444" fill="none"/>',
             _text(left + width / 2, top + height + 34, unit, "middle"), _text(8, top - 6, "s")]  # fmt: skip
    for part in (0, 0.5, 1):
        parts += [_text(left - 6, top + height * (1 - part) + 4, f"{most_y * part:.0f}", "end"),
                  _text(left + width * part, top + height + 16, f"{most_x * part:g}", "middle")]  # fmt: skip
    for number, (name, found) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [(left + width * x / most_x, top + height * (1 - y / most_y)) for x, y in found]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        y = top + 14 + number * 18
        parts += [_bar(left + width + 14, y - 9, 10, 10, colour), _text(left + width + 30, y, name)]
    return _svg(left + width + 170, top + height + 46, parts)


# ---------------------------------------------------------------- the page


def machine() -> str:
    """The machine in a line, as anybody may know it."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    release = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    return ", ".join([
        model[1] if model else platform.machine(), f"{len(os.sched_getaffinity(0))} CPUs",
        f"{int(memory[1]) / 1e6:.0f} GB" if memory else "", f"Linux {platform.release()}",
        release[1] if release else "", f"Python {platform.python_version()}",
    ])  # fmt: skip


def page(results: Mapping[str, Any]) -> str:
    """What stands between the marks."""
    rounds = max(
        (len(results[name]) for name in ("ours: cold", "seed") if name in results), default=0
    )
    lines = [
        f"Medians of {rounds} rounds at commit {results['commit']}; {machine()}.",
        "",
    ]
    lines += [*cases_table(results), "", "![Seconds of each case](performance-cases.svg)", ""]
    lines += [*memory_table(results), ""]
    if sizes := results.get("sizes"):
        lines += [f"Strata's `cache/` held {sizes['cache'] / 1e6:.0f} MB then, `out/` "
                  f"{sizes['out'] / 1e6:.0f} MB.", ""]  # fmt: skip
    if results.get("waterfall"):
        lines += ["![What a cold build does when](performance-waterfall.svg)", ""]
    if results.get("floors"):
        lines += ["### Floors", "", *floors_table(results), ""]
    units = {"packages": "packages", "trees": "GB of files", "cpus": "CPUs",
             "specs": "specs, each with a package of its own"}  # fmt: skip
    for kind, points in (results.get("growth") or {}).items():
        lines += [f"### By {units[kind]}", "", *growth_table(kind, units[kind], points), ""]
        lines += [f"![Seconds by {units[kind]}](performance-{kind}.svg)", ""]
    return "\n".join(lines)


def disks_table(results: Mapping[str, Any]) -> list[str]:
    """Medians of whole disks, ours and mkosi's: seconds, the most in memory and on the disk."""
    rounds = len(results["ours: disk"])
    lines = [
        f"Medians of {rounds} round{'s' * (rounds > 1)} at commit {results['commit']}; {machine()}.",
        "",
        "| case | Strata | mkosi 25 | most in memory | mkosi's | most on disk | mkosi's |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in ("", ", nothing", ", a format", ", a package"):
        pair = [results[f"{who}: disk{case}"] for who in ("ours", "mkosi")]
        mine, other = map(seconds, pair)
        # A run that is over before the first look has none.
        cells = [f"{value / 1e6:.0f} MB" if (value := median([float(one[what]) for one in runs])) else "–"
                 for what in ("memory", "disk") for runs in pair]  # fmt: skip
        lines.append(f"| {case.removeprefix(', ') or 'cold'} | **{_told(mine)}** | "
                     f"{_told(other)} ({_ratio(other, mine)}) | {' | '.join(cells)} |")  # fmt: skip
    return lines


def write_disks(results: Mapping[str, Any], docs: Path) -> None:
    """Write the page's part about disks; the rest stays."""
    _put(docs / "performance.md", DISKS, "\n".join(["", *disks_table(results), "", ""]))


def _put(path: Path, marks: tuple[str, str], text: str) -> None:
    before, _, rest = path.read_text().partition(marks[0])
    _, _, after = rest.partition(marks[1])
    path.write_text(f"{before}{marks[0]}{text}{marks[1]}{after}")


def write_report(results: Mapping[str, Any], docs: Path) -> None:
    """Write the page's measured part and its figures; what else the page says stays."""
    _put(docs / "performance.md", (BEGIN, END), page(results))
    (docs / "performance-cases.svg").write_text(bar_chart(results))
    if results.get("waterfall"):
        (docs / "performance-waterfall.svg").write_text(waterfall_chart(results["waterfall"]))
    units = {"packages": "packages", "trees": "GB", "cpus": "CPUs", "specs": "specs"}
    for kind, points in (results.get("growth") or {}).items():
        (docs / f"performance-{kind}.svg").write_text(growth_chart(points, units[kind]))
