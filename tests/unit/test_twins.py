"""Stages of one spec with one key: each is made once; and what is made beside others of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.samples import IMAGE
from support.tops import by_task, case_of, disk
from tasks import graph
from tasks.commands.keys import stages_of
from tasks.errors import BuildError
from tasks.plan.stage import Plan, Stage
from tasks.session import making
from tasks.session.reporter import Reporter
from tasks.session.told import Told
from tasks.stages.limit import check_sizes

FILES = {
    "b.img": {"format": "raw", "bmap": True},
    "b.img.gz": {"format": "raw", "container": "gzip", "bmap": True},
    "c.img.gz": {"format": "raw", "container": "gzip", "bmap": True},
}

TWINS = {"esp:server", "bios:server", "file:c.img.gz", "file:c.img.gz.bmap", "export:two"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of two disks with the same loader, files of the same format, and exports alike."""
    disks = {"server": disk("grub"), "other": disk("grub", size="5G", files=FILES)}
    tar = {"format": "tar", "container": "gzip"}
    return case_of(tmp_path, "grub", disks=disks, exports={"one": tar, "two": tar}).plan


class Cached:
    """A cache that has nothing, of which the paths are asked."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, _stage: Stage) -> None:
        return None

    intact = get

    def file(self, stage: Stage) -> Path:
        return self.root / stage.entry

    record = file


@pytest.fixture
def session(plan: Plan, tmp_path: Path) -> Any:
    return SimpleNamespace(plan=plan, ends=plan.ends, cache=Cached(tmp_path), shared=None, results={},
                           state=tmp_path, name="web", root=tmp_path, trees=True)  # fmt: skip


def test_a_run_says_that_it_makes_each_once(plan: Plan, session: Any) -> None:
    build = {one.task for one in Told(session).forecast.build}
    assert {one.task for one in plan.stages} - build == TWINS


def test_a_pipeline_keeps_each_once(session: Any) -> None:
    found = [one.key for one in stages_of(session).images]
    assert len(found) == len({*found})


def test_no_file_is_two_tasks(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """doit refuses that: "Two different tasks can't have a common target"."""
    monkeypatch.setattr(Reporter, "session", session, raising=False)
    tasks = [one for group in graph.GROUPS for one in graph._stages(group) if one.get("actions")]
    targets = [path for one in tasks for path in one.get("targets", ())]
    assert len(targets) == len({*targets})


def _recording(made: list[str]) -> Callable[..., None]:
    return lambda _session, stage, _build: made.append(stage.task)


def test_of_what_is_made_beside_another_each_is_made_once(
    plan: Plan, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(making, "make", _recording(made))
    found = by_task(plan)
    making.make_beside(session, found["file:c.img.gz"], lambda _job, _builder: None)
    assert sorted(made) == ["file:b.img", "file:c.img.gz"]
    made.clear()
    making.make_beside(session, found["esp:server"], lambda _job, _builder: None)
    assert made == ["esp:server"]


@pytest.mark.parametrize("every", [True, False])
def test_boot_tests_are_made_one_after_the_other(
    plan: Plan, session: Any, monkeypatch: pytest.MonkeyPatch, every: bool
) -> None:
    """Each machine has its memory, and its seconds count from its start."""
    how: dict[str, set[str]] = {"alone": set(), "beside": set()}
    monkeypatch.setattr(graph, "_make", lambda stage: how["alone"].add(stage.kind))
    monkeypatch.setattr(graph, "_make_beside", lambda stage: how["beside"].add(stage.kind))
    monkeypatch.setattr(Reporter, "session", session, raising=False)
    monkeypatch.setattr(Reporter, "running", True, raising=False)
    monkeypatch.setattr(Reporter, "selected", staticmethod(lambda _name: every))
    for task in graph._stages("base"):
        for work in task.get("actions", ()):
            work()
    above = {"filesystem", "image", "esp", "bios", "file", "export"}
    assert how["beside"] == (above if every else set())
    assert how["alone"] == {"base", "layer", "disk", "test"} | (set() if every else above)
    beside = {one.kind for one in plan.stages if one.beside}
    assert beside == above, "what is foretold is what is done"


def test_an_image_that_is_only_packed_may_be_too_large(tmp_path: Path) -> None:
    image = {**IMAGE, "file": "root.img.gz", "max_size": "1M"}
    case = case_of(tmp_path, "grub", images={"/": image})
    plan = case.plan
    assert "below" not in plan.images[0].inputs
    entry: Any = SimpleNamespace(facts={"raw": {"size": 2 << 20}})
    cache: Any = Cached(tmp_path)
    with pytest.raises(BuildError, match=r"images\./\.max_size: the filesystem has 2\.0 MiB"):
        check_sizes(case.spec, plan, [entry], cache)
