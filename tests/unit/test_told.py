"""What a build says of itself: the plan, the order of its stages, how far they are."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.a_plan import BASE, IMAGES, LAYERS, PLAN, Run
from tasks.host.log import Log
from tasks.host.sandbox import step
from tasks.rootfs.tarball import CHECKPOINT, _packed
from tasks.session.bar import clock
from tasks.session.told import Forecast, Told, about, guess, spent, wanted
from tasks.stages.status import Installing
from tasks.store import history

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


# ---------------------------------------------------------------- other readers
