"""The report in headless Chromium: no error on the console, keys, phone, dark, print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.browser import Browser, browser
from support.reports import FULL, HOSTILE, hostile
from tasks.report.chapter import Chapter
from tasks.report.page import page, plain

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def shown(
    chromium: Browser, folder: Path, *chapters: Chapter, width: int = 1200, dark: bool = False
) -> None:
    """Open a page; nothing is said of it, nothing but it is asked for, and it is as wide as the window."""
    file = folder / "report.html"
    file.write_text(page(chapters))
    chromium.said.clear()
    chromium.requested.clear()
    chromium.open(file, width=width, dark=dark)
    assert chromium.said == []
    assert set(chromium.requested) == {file.as_uri()}
    assert chromium.value("document.documentElement.scrollWidth") <= width


def many() -> Chapter:
    packages = [replace(FULL.packages[n % 2], name=f"p{n:03}", deb=n) for n in range(120)]
    return replace(FULL, packages=packages)


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_report_is_as_wide_as_its_window_and_as_dark_as_its_reader_wants(
    chromium: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    shown(chromium, tmp_path, many(), replace(FULL, name="n" * 300), Chapter(name="none"),
          width=width, dark=dark)  # fmt: skip
    paper = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    chromium.picture(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert chromium.printed()[:5] == b"%PDF-"
    assert chromium.said == []


def test_keys_sort_filter_and_step_through_a_treemap(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, many())
    rows = "[...document.querySelectorAll('#c1-list tbody tr:not([hidden]) th')].map(e => e.textContent)"
    assert chromium.value(rows)[:2] == ["p000", "p001"]
    # Headings are buttons, which a reader of keys alone comes to.
    chromium.value("document.querySelectorAll('#c1-list thead button')[5].focus()")
    chromium.key("Enter", "\r")
    assert chromium.value(rows)[:2] == ["p119", "p118"]
    assert (
        chromium.value("document.querySelectorAll('#c1-list thead th')[5].ariaSort") == "descending"
    )
    chromium.key("Enter", "\r")
    assert chromium.value(rows)[:2] == ["p000", "p001"]
    chromium.key("/", "/")
    chromium.ask("Input.insertText", text="artistic p11")
    assert chromium.value(rows) == ["p111", "p113", "p115", "p117", "p119"]
    assert chromium.value("document.querySelector('.filter output').textContent") == "5 of 120"
    chromium.key("Escape")
    assert len(chromium.value(rows)) == 120
    chromium.value("document.querySelector('.map').focus()")
    tip = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
    chromium.key("ArrowRight")
    first = chromium.value(tip)
    assert first.startswith("perl: 8.2 kB")
    chromium.key("ArrowRight")
    assert chromium.value(tip) != first
    chromium.key("Escape")
    assert chromium.value(tip) == ""
    assert chromium.said == []


def test_no_value_runs_loads_or_leads_anywhere(chromium: Browser, tmp_path: Path) -> None:
    usual = None
    for value in ("x", *HOSTILE):
        shown(chromium, tmp_path, hostile(value), hostile(value))
        count = chromium.value("document.querySelectorAll('*').length")
        usual = usual or count
        assert count == usual, value
        if plain(value).strip():
            seen = chromium.value("document.querySelector('.v bdi').textContent")
            assert seen == plain(f"2{value}")
        for number in range(2):
            chromium.value(f"document.querySelectorAll('.map')[{number}].focus()")
            chromium.key("ArrowRight")
        assert chromium.said == []
