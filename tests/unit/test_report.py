"""The report's page: whole, loading nothing, the same bytes each time, whatever names say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.reports import FULL, HOSTILE, build, checked, hostile, took
from tasks.commands.diff_builds import cached_packages
from tasks.commands.report import _public, _worth_showing
from tasks.plan.difference import File, Part
from tasks.plan.stage import Stage
from tasks.report import charts
from tasks.report.chapter import Chapter, Failure, Lacking
from tasks.report.page import moment, page, plain
from tasks.session.session import Session


def test_all_is_there_and_the_same_each_time() -> None:
    text = page([FULL])
    found = checked(text)
    for part in ("done", "layer app", "image /", "libc6 1 → 2", "GPL-2+", "refers to", "/usr/lib",
                 "2 of 2", "security", "50 %", "built, 2.0 s", "not there"):  # fmt: skip
        assert part in found.text, part
    assert text == page([FULL])
    assert "http:" not in re.sub(r'xmlns="[^"]*"', "", text)


def test_nothing_there_is_a_page_too() -> None:
    checked(page([]))
    found = checked(
        page([Chapter(name="web", lacking=[Lacking("sizes", "no tree", "strata base")])])
    )
    assert "sizes: no tree – strata base" in found.text
    assert "Packages" not in found.text
    found = checked(page([Chapter(name="web", error="it is bad"), FULL]))
    assert "2 specs" in found.text
    assert "it is bad" in found.text


def test_a_failed_build_is_shown_with_the_end_of_its_log() -> None:
    last = build(9.0, took("base", "hit", 0), took("layer:app", "failed", 1.0), result="failed")
    failed = replace(FULL, builds=[*FULL.builds, last], shown=last,
                     failure=Failure("layer app", "out/web/log/layer-app.log", ["E: <b>no</b>"]))  # fmt: skip
    found = checked(page([failed]))
    assert "The last build failed in layer app" in found.text
    assert "E: <b>no</b>" in found.text


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_no_value_is_taken_for_markup(value: str) -> None:
    """A value in each place where one can stand makes no tag, no attribute, and no other page."""
    text = page([hostile(value), hostile(value)])
    plainly = page([hostile("x"), hostile("x")])
    found, usual = checked(text), checked(plainly)
    assert [tag for tag, _one in found.tags] == [tag for tag, _one in usual.tags]
    assert [sorted(one) for _tag, one in found.tags] == [sorted(one) for _tag, one in usual.tags]
    assert plain(value) in found.text
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text
    )
    text.encode("utf-8")


def test_times_that_no_calendar_has_are_no_error() -> None:
    assert moment(0) == "1970-01-01 00:00:00 UTC"
    assert moment(1e300) == "?"
    odd = build(1e300, took("base", "built", 1e200), took("image:/", "built", 0.0001))
    checked(page([replace(FULL, builds=[odd, odd], shown=odd, before=odd)]))


# ---------------------------------------------------------------- charts


def test_a_treemaps_cells_are_as_large_as_what_they_stand_for() -> None:
    parts = [charts.Part(f"p{n}", (n + 1) * 1000, "l0") for n in range(charts.MOST + 5)]
    cells = charts.treemap([*parts, charts.Part("none", 0, "l1")], 10**6)
    assert len(cells) == charts.MOST + 1
    assert [one.name for one in cells][:2] == [f"p{charts.MOST + 4}", f"p{charts.MOST + 3}"]
    assert "5 smaller ones" in {one.name for one in cells}
    assert sum(one.width * one.height for one in cells) == pytest.approx(100 * 100, rel=1e-3)
    whole = sum(one.bytes for one in parts)
    first = cells[0]
    assert first.width * first.height / 1e4 == pytest.approx(
        (charts.MOST + 5) * 1000 / whole, rel=1e-3
    )
    assert charts.treemap([], 0) == []


def test_folders_lie_in_their_folders() -> None:
    sizes = [("/usr", 900), ("/usr/lib", 500), ("/usr/lib/x/y", 300), ("/etc", 100), ("/tiny", 1)]
    cells = {one.tip.partition(":")[0]: one for one in charts.nested(sizes, 1001)}
    assert {"/usr", "/usr/lib", "/usr/lib/x/y", "/etc", "/usr itself and small folders"} <= set(
        cells
    )
    assert "/tiny" not in cells
    assert cells["/usr/lib/x/y"].name == "x/y"
    for inner, outer in (("/usr/lib", "/usr"), ("/usr/lib/x/y", "/usr/lib")):
        one, other = cells[inner], cells[outer]
        assert other.x <= one.x
        assert one.x + one.width <= other.x + other.width + 0.01
        assert other.y <= one.y
        assert one.y + one.height <= other.y + other.height + 0.01
    assert charts.nested([], 0) == []


def test_a_waterfall_has_each_stage_of_both_builds() -> None:
    now = build(1.0, took("base", "hit", 0), took("layer:app", "built", 3.0, began=1.0))
    before = build(0.0, took("base", "built", 10.0), took("layer:old", "built", 2.0, began=10.0))
    fall = charts.waterfall(now, before)
    assert [row.title for row in fall.rows] == ["base", "layer app", "layer old"]
    base, app, old = fall.rows
    assert base.now is not None
    assert (base.now.width, base.now.said) == (0, "hit")
    assert base.before is not None
    assert base.before.said == "built, 10 s"
    assert app.now is not None
    assert app.before is None
    assert app.now.width == 25.0
    assert old.now is None
    assert fall.ticks[0] == (0.0, "0.0 s")
    assert [row.title for row in charts.waterfall(build(0.0), None).rows] == []


def test_hits_are_counted_of_what_was_needed() -> None:
    one = build(
        0.0, took("base", "hit", 0), took("layer:a", "skipped", 0), took("image:/", "built", 1.0)
    )
    assert charts.hit_rate([one]) == "50 %"
    assert charts.hit_rate([]) == "-"
    assert [piece.kind for piece in charts.stacked(charts.counts(one))] == [
        "hit",
        "built",
        "skipped",
    ]


def test_the_newest_build_that_made_something_is_shown() -> None:
    busy, busier = build(1.0, took("base", "built", 1.0)), build(2.0, took("base", "built", 2.0))
    idle = build(3.0, took("base", "hit", 0))
    assert _worth_showing([]) == (None, None)
    assert _worth_showing([idle]) == (idle, None)
    assert _worth_showing([busy, idle]) == (busy, None)
    assert _worth_showing([busy, idle, busier, idle]) == (busier, busy)


def test_a_past_builds_packages_are_those_of_its_records(tmp_path: Path) -> None:
    session = Session(root=tmp_path, variables={"spec": "web"})
    tree: list[tuple[str, str]] = []
    for kind, name, inputs in (
        ("base", "base", {"arch": "amd64", "records": [["libc6", "1", "amd64", "a"], ["old", "1", "all", "b"]]}),
        ("layer", "app", {"arch": "amd64", "records": [["libz", "2", "i386", "c"]], "removes": ["old"]}),
        ("layer", "settings", {"hostname": "web"}),
    ):  # fmt: skip
        stage = Stage(
            kind=kind, name=name, key=f"{len(tree):032}", inputs=inputs, suffix=".tar.zst"
        )
        with session.cache.put(stage, {"epoch": 1}) as temporary:
            temporary.write_bytes(b"")
        tree.append((kind, stage.key))
    found = cached_packages(session, tree)
    assert found is not None
    assert {name: (one.version, one.layer) for name, one in found.items()} == {
        "libc6": ("1", "base"), "libz:i386": ("2", "app")}  # fmt: skip
    assert cached_packages(session, [*tree, ("layer", "f" * 32)]) is None


def test_what_is_not_for_everybody_is_not_named() -> None:
    file = File(kind="file", mode=0o644, uid=0, gid=0)
    names = ("/root/.ssh", "/root", "/rootless")
    parts = [Part(name=name, before=None, after=file) for name in names]
    assert [one.name for one in _public(parts, {"/root"})] == ["/root", "/rootless"]
