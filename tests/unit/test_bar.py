"""The bar of a run on a terminal, and what other readers get: lines with times, and events."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from support.a_plan import BASE, IMAGES, LAYERS, PLAN, Run
from support.world import PROJECT
from tasks.errors import BuildError, CommandFailed
from tasks.plan.stage import Result
from tasks.session import bar
from tasks.session.bar import Bar, Doing
from tasks.session.chronicle import Chronicle
from tasks.session.screen import Screen
from tasks.session.told import Forecast
from tasks.spec.schema import load_jsonschema


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Bar:
    monkeypatch.setattr(bar, "EVERY", 3600)
    monkeypatch.setenv("TERM", "xterm-256color")
    found = Bar(
        lambda: "1 of 3 done, 0:42, about 40 s left, and more than fits in any row there is"
    )
    for title, text, done, total, unit in (
        ("layer packages", "installing 213 packages", 80, 213, "packages"),
        ("image /", "compressing 165 MB", 40, 100, "percent"),
        ("base", "fetching 99 packages, 99.1 MB", 12_000_000, 99_100_000, "bytes"),
        ("layer " + "long" * 30, "日本語" * 30, 0, 0, ""),
    ):
        found.doing[title] = Doing(title=title, text=text, done=done, total=total, unit=unit)
    return found


@pytest.mark.parametrize("width", [1, 10, 19, 29, 30, 40, 49, 50, 59, 79, 119, 300])
def test_no_row_is_wider_than_the_terminal(drawn: Bar, width: int) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", drawn.text(width)).splitlines()
    assert len(lines) == 5
    assert max(map(cell_len, lines)) <= max(width, 10)
    assert "\x1b" not in "".join(lines)
    drawn.close()


def test_a_row_says_what_and_how_far(drawn: Bar) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn.text(59)).splitlines()
    assert plain[0].startswith("layer packages: installin")
    assert "80/213" in plain[0]
    assert "40 %" in plain[1]
    assert "12/99 MB" in plain[2]
    assert plain[0].rstrip().endswith("0:00")
    drawn.close()


def test_markup_in_a_name_is_text(drawn: Bar) -> None:
    drawn.doing["base"].text = "[red]x[/red] :smile: [/]"
    assert "[red]x[/red] :smile: [/]" in re.sub(r"\x1b\[[0-9;]*m", "", drawn.text(200))
    drawn.close()


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    found = Bar(lambda: "foot")
    found.doing["base"] = Doing(title="base", text="x", done=1, total=2, unit="packages")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", found.text(80))
    found.close()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "progress", "terminal"),
    [
        ("xterm", "auto", True),
        ("dumb", "auto", False),
        ("xterm", "plain", False),
        ("xterm", "json", False),
    ],
)
def test_who_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, term: str, progress: str, terminal: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", Terminal())
    screen = Screen()
    screen.begin("web", progress)
    assert screen.terminal == terminal
    screen.raise_bar(lambda: "")
    assert (screen.bar is not None) == terminal
    screen.close()


def test_a_log_gets_few_lines_with_times(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.began -= 65
    screen.step("layer app", "installing 9 packages")
    for done in range(9):
        screen.count("layer app", done, 9, "packages")
    screen._told["layer app"] -= 31
    screen.count("layer app", 5, 9, "packages")
    screen.quiet = True
    screen.step("layer app", "packing")
    assert capsys.readouterr().out == (
        "   1:05  layer app: installing 9 packages\n   1:05  layer app: installing 9 packages, 5/9\n"
    )


def test_events_are_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    load_jsonschema()
    from jsonschema import Draft202012Validator

    schema = json.loads((PROJECT / "docs/progress.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    run = Run()
    run.screen.begin("web", "json")
    run.result = lambda _one: Result(result="hit", seconds=0.1, bytes=5)  # type: ignore[attr-defined]
    run.told.forecast = Forecast(wanted=PLAN.stages, build=IMAGES, seconds=4.44)
    run.told.plan(["build"])
    run.told.decided(BASE)
    run.told.began(LAYERS[0])
    run.screen.step("layer packages", "fetching \x1b[2J")
    run.screen._told["layer packages"] -= 1
    run.screen.count("layer packages", 5, 10, "bytes")
    run.screen.count("layer packages", 6, 10, "bytes")
    run.screen.warned("warning: no\nlines")
    run.told.failed("layer:packages")
    run.screen.note("for people")
    run.screen.line("for people")
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    for event in events:
        Draft202012Validator(schema).validate(event)
    assert [one["event"] for one in events] == [
        "plan", "stage", "stage", "progress", "progress", "warning", "stage"
    ]  # fmt: skip
    assert events[0]["seconds"] == 4.4
    assert [one["would"] for one in events[0]["stages"]] == [
        "none",
        "none",
        "none",
        "build",
        "build",
    ]
    assert {one["task"] for one in events if one["event"] == "progress"} == {"layer:packages"}
    assert "\x1b" not in out
    assert err == "warning: no\nlines\nfor people\n"


def test_rich_is_imported_for_the_bar_alone() -> None:
    users = {
        path.relative_to(PROJECT / "tasks").as_posix()
        for path in (PROJECT / "tasks").rglob("*.py")
        if re.search(r"^ *(import|from) rich", path.read_text(), re.MULTILINE)
    }
    assert users == {"session/bar.py"}


def test_a_failure_is_an_event_without_secrets_whatever_it_is_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run()
    run.screen.begin("web", "json")
    session = SimpleNamespace(
        screen=run.screen, started=0.0, mask_if_known=lambda text: text.replace("hunter2", "***")
    )
    chronicle = Chronicle(session)  # type: ignore[arg-type]
    error = BuildError("http://me:hunter2@h: refused", "give another\nthan hunter2")
    chronicle.refused(error)  # there is no plan
    chronicle.tell(error, task="lock", log="out/web/log/lock.log")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["task"], one["message"], one["hint"]) for one in events] == [
        (task, "http://me:***@h: refused", "give another\nthan ***") for task in ("", "lock")
    ]
    assert chronicle.result == "failed"


def test_an_error_that_is_retold_is_of_the_same_kind_with_all_that_it_carries() -> None:
    failed = CommandFailed("no", "look", status=3, output="all")
    failed.packages, failed.inside = ("nginx",), True
    told = failed.retold(lambda message: f"web.yaml:3: {message}\x1b")
    assert (type(told), str(told)) == (CommandFailed, "web.yaml:3: no?\n  look")
    assert (told.status, told.output, told.packages, told.inside) == (3, "all", ("nginx",), True)
    assert failed.message == "no"


def test_an_error_in_one_line_and_as_another_program_gets_it_keeps_its_remedy() -> None:
    error = BuildError("no room", "remove something\nor add a disk")
    assert error.in_a_line == "no room; remove something; or add a disk"
    assert BuildError("no room").in_a_line == "no room"
    assert BuildError("tar: said\n  two lines").in_a_line == "tar: said; two lines"
    assert error.fields(lambda text: text.replace("room", "***")) == {
        "message": "no ***", "hint": "remove something\nor add a disk"
    }  # fmt: skip
