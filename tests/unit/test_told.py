"""What a build says of itself: the plan, the order of its stages, how far they are."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from support.world import PROJECT
from tasks.errors import BuildError, CommandFailed
from tasks.host.log import Log
from tasks.host.sandbox import step
from tasks.plan.stage import Plan, Product, Result, Stage
from tasks.rootfs.tarball import CHECKPOINT, _packed
from tasks.session import bar
from tasks.session.bar import Bar, Doing, clock
from tasks.session.chronicle import Chronicle
from tasks.session.screen import Screen
from tasks.session.told import Forecast, Told, about, guess, spent, wanted
from tasks.spec.schema import load_jsonschema
from tasks.stages.status import Installing
from tasks.store import history


def stage(kind: str, name: str) -> Stage:
    return Stage(kind=kind, name=name, key=f"{abs(hash(name)):032x}"[:32], inputs={}, suffix="")


BASE = stage("base", "base")
LAYERS = stage("layer", "packages"), stage("layer", "app")
IMAGES = tuple(
    replace(stage("image", name), on=tuple(one.task for one in (BASE, *LAYERS)))
    for name in ("/", "/boot")
)
PLAN = Plan(
    lock=None,  # type: ignore[arg-type]
    base=BASE,
    layers=LAYERS,
    tops=IMAGES,
    products=tuple(Product(name=one.name, stage=one) for one in IMAGES),
)


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("build", "pull", "seconds", "text"),
    [
        (2, 0, 41.0, "2 of 5 stages to build, about 40 s"),
        (2, 0, None, "2 of 5 stages to build"),
        (1, 3, 4.2, "1 of 5 stages to build, 3 to pull, about 4 s"),
        (0, 2, None, "2 of 5 stages to pull"),
        (0, 0, None, "all 5 stages are in the cache"),
    ],
)
def test_the_plan_is_one_line(build: int, pull: int, seconds: float | None, text: str) -> None:
    forecast = Forecast(wanted=PLAN.stages, build=PLAN.stages[:build],
                        pull=PLAN.stages[build:build + pull], seconds=seconds)  # fmt: skip
    assert forecast.text == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (14.4, "14 s"), (43, "45 s"), (88, "90 s"), (95, "1 min 40 s"), (120, "2 min"),
     (3333, "55 min")],
)  # fmt: skip
def test_a_guess_is_no_more_exact_than_it_is(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_times_that_have_passed() -> None:
    assert [spent(one) for one in (0.25, 59.94, 60, 125)] == [
        "0.2 s",
        "59.9 s",
        "1 min 0 s",
        "2 min 5 s",
    ]
    assert [clock(one) for one in (0, 61.9, 3661)] == ["0:00", "1:01", "1:01:01"]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (["build"], ["base", "packages", "app", "/", "/boot"]),
        (["image"], ["base", "packages", "app", "/", "/boot"]),
        (["image:/boot"], ["base", "packages", "app", "/boot"]),
        (["layer"], ["base", "packages", "app"]),
        (["layer:packages"], ["base", "packages"]),
        (["base"], ["base"]),
        (["lock"], []),
    ],
)
def test_a_run_is_about_what_was_asked_for(chosen: list[str], names: list[str]) -> None:
    assert [one.name for one in wanted(PLAN, PLAN.ends, chosen)] == names


def test_images_are_guessed_side_by_side() -> None:
    assert guess([10, 20], [5, 4], 2) == 35
    assert guess([], [5, 5, 5, 5], 2) == 10
    assert guess([1.5], [], 2) == 1.5


def test_times_come_from_this_spec_or_from_others(tmp_path: Path) -> None:
    def remember(spec: str, task: str, seconds: float, result: str = "built") -> None:
        kind, _colon, name = task.partition(":")
        took = history.Took(stage=kind, name=name or kind, key="0" * 32, result=result, began=0.0,
                            seconds=seconds, bytes=1)  # fmt: skip
        history.remember(tmp_path, spec, history.Build(
            began=1.0, seconds=9.0, result="done", lock="", changes=(), stages=(took,)))  # fmt: skip

    (tmp_path / "builds").mkdir()
    session: Any = SimpleNamespace(state=tmp_path, name="web")
    told = Told(session)
    assert told._seconds([]) is None
    assert told._seconds([BASE]) is None  # nothing is claimed where nothing is known
    remember("other", "base", 30)
    remember("team/deep", "layer:app", 8)
    assert told._seconds([BASE, LAYERS[1]]) == 38
    assert told._seconds([BASE, LAYERS[0]]) == 38  # of another name, as of its kind
    assert told._seconds([BASE, IMAGES[0]]) is None
    remember("web", "base", 20)
    remember("web", "base", 0, "hit")
    assert told._seconds([BASE]) == 20


# ---------------------------------------------------------------- the order


class Run:
    """As much of a session as what is told needs."""

    def __init__(self, chosen: tuple[str, ...] = ("build",)) -> None:
        self.plan = PLAN
        self.ends = PLAN.ends
        self.results: dict[str, Result] = {}
        self.screen = Screen()
        self.lines: list[str] = []
        self.told = Told(self)  # type: ignore[arg-type]
        self.told.chosen = chosen

    def say(self, one: Stage) -> None:
        self.lines.append(one.name)


def test_stages_are_told_in_the_plans_order() -> None:
    run = Run()
    told, seen = run.told, []
    for one in (IMAGES[0], BASE, LAYERS[0], IMAGES[1], LAYERS[1], BASE):
        told.decided(one)
        seen.append(len(run.lines))
    assert run.lines == ["base", "packages", "app", "/", "/boot"]
    assert seen == [0, 1, 2, 2, 5, 5]


def test_what_is_held_up_is_told_before_a_failure_and_at_the_end() -> None:
    run = Run()
    run.told.decided(BASE)
    run.told.decided(IMAGES[1])
    run.told.failed("layer:packages")
    assert run.lines == ["base", "/boot"]
    run.told.rest(all=True)
    assert run.lines == ["base", "/boot", "packages", "app", "/"]


def test_a_single_stage_waits_for_no_other() -> None:
    run = Run(("image:/boot",))
    for one in (BASE, *LAYERS, IMAGES[1]):
        run.told.decided(one)
    assert run.lines[-1] == "/boot"


# ---------------------------------------------------------------- how far


def test_packages_are_counted_by_apts_status_and_by_words() -> None:
    far: list[tuple[int, int, str]] = []
    log = Log(None, counting=lambda *one: far.append(one))
    installing = Installing(log, 2)
    hidden = [
        "dlstatus:1:20.0:Retrieving file 1 of 2",
        "pmstatus:dpkg-exec:0.0:Running dpkg",
        "pmstatus:alpha:10.0:Unpacking alpha (amd64)",
        "pmstatus:libc6:amd64:20.0:Unpacking libc6:amd64 (amd64)",
        "pmstatus:alpha:60.0:Configuring alpha (amd64)",
        "pmstatus:alpha:61.0:Configuring alpha (amd64)",
        "pmstatus:alpha:70.5:Installed alpha (amd64)",
        "pmerror:alpha:70.5:subprocess returned error exit status 1",
        "pmerror:/dev/.strata/in/repo/pool/beta_1.deb:70.5:trying to overwrite",
    ]
    assert all(map(installing, hidden))
    assert far == [(0, 2, "packages"), (1, 2, "packages"), (1, 2, "packages"), (1, 2, "packages")]
    assert installing.failed == ["alpha", "beta_1.deb"[:4]]
    for line in ("Unpacking libc6:amd64 (2.36) ...", "I: Configuring libc6...", "pmstatus:x", "",
                 "pmstatus: says a script", "Unpacking \x1b[2J"):  # fmt: skip
        assert not installing(line), line
    assert far[-1] == (2, 2, "packages")


def test_tars_checkpoints_are_percent_and_no_line_of_the_log() -> None:
    far: list[tuple[int, int, str]] = []
    log = Log(None, counting=lambda *one: far.append(one))
    assert _packed(log, 10240 * 400, f"tar: {CHECKPOINT}200")
    assert _packed(log, 10240 * 400, f"tar: {CHECKPOINT}4000")
    assert not _packed(log, 1, "tar: ./proc: file changed as we read it")
    assert not _packed(log, 1, f"tar: {CHECKPOINT}9999999999999999999")
    assert far == [(50, 100, "percent"), (99, 100, "percent")]


def test_a_step_that_does_not_tell_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.host.log.WATCH", 0.001)
    far: list[tuple[int, int, str]] = []

    def gone() -> int:
        raise FileNotFoundError

    log = Log(None, counting=lambda *one: far.append(one))
    with (
        log.watched(50, "percent", lambda: 70),
        log.watched(50, "bytes", lambda: 70),
        log.watched(5, "bytes", gone),
    ):
        deadline = time.monotonic() + 5
        while len(set(far)) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert set(far) == {(99, 100, "percent"), (50, 50, "bytes")}
    with Log(None).watched(50, "bytes", gone):
        pass  # nobody asks: nothing is looked at


def test_a_log_marks_its_steps_and_hides_what_is_ours() -> None:
    log = Log(None, started=time.monotonic() - 65)
    step("apt-get", "update", title="x", shown="").tell(log)
    step("env", "A=1", "apt-get", "update", shown="apt-get update").tell(log)
    step("tar", "-x").tell(log)
    log.step("packing")
    log.line("\x01filling")
    assert list(log.tail) == [
        "+ apt-get update",
        "+ tar -x",
        "",
        "# 1:05 packing",
        "",
        "# 1:05 filling",
    ]
    every: list[str] = []
    step("sh", "x", shown="").tell(Log(None, echo=every.append))
    assert every == ["+ sh x"]


# ---------------------------------------------------------------- the bar


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


# ---------------------------------------------------------------- other readers


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
