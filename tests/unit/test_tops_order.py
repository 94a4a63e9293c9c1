"""In which order what stands on the tree is made, by a fleet and by a run, and what a run says of it before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.tops import by_task, case_of, disk, names
from tasks.fleet.schedule import schedule
from tasks.plan.stage import Plan, Stage
from tasks.session.told import Told, wanted


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return case_of(tmp_path, "grub").plan


def waves(plan: Plan, *there: str) -> list[list[str]]:
    """What is to be made by a fleet, of which those that are ready at once stand together."""
    entries = {by_task(plan)[task].entry for task in there}
    todo = schedule({"web": plan}, lambda stages: {one.entry for one in stages} & entries)
    found, ready = [], todo.ready()
    while ready:
        found.append(sorted(node.stage.task for node in ready))
        ready = [one for node in ready for one in todo.done(node.stage.entry)]
    assert todo.over
    return found


KEPT = ["image:/", "file:a.qcow2", "file:a.img.gz", "file:a.img.gz.bmap", "export:web-oci",
        "boot_test:server.uefi", "boot_test:server.bios",
        *(f"blob:{one}.gzip" for one in ("base", "loader", "kernel", "app", "settings"))]  # fmt: skip


def test_a_fleet_writes_a_disk_with_each_file(plan: Plan) -> None:
    found = waves(plan)
    order = [task for wave in found for task in wave]
    assert sorted(order) == sorted(one.task for one in plan.stages if one.kept)
    assert order.index("file:a.qcow2") > order.index("filesystem:/")
    tests = ["boot_test:server.bios", "boot_test:server.uefi"]
    assert found[-1] == [*tests, "file:a.img.gz.bmap"]  # which its raw file's stage has found
    assert found[0] == ["base"]
    # GRUB's parts are ready beside the layers above the loader's.
    assert {"bios:server", "esp:server", "layer:kernel"} <= {*found[2]}


def test_of_a_fleet_what_is_there_takes_all_below_it_away(plan: Plan) -> None:
    assert waves(plan, *KEPT) == []
    assert waves(plan, *KEPT[:-5], *KEPT[-5:], "filesystem:/") == []
    lacks = [one for one in KEPT if one != "file:a.qcow2"]
    parts = ["filesystem:/", "esp:server", "bios:server"]
    assert waves(plan, *lacks, *parts) == [["file:a.qcow2"]]
    assert waves(plan, *(one for one in KEPT if not one.startswith("boot_test"))) == [
        ["boot_test:server.bios", "boot_test:server.uefi"]
    ]


class Cached:
    """A cache that has the entries of these tasks."""

    def __init__(self, plan: Plan, tasks: Iterable[str]) -> None:
        self.entries = {by_task(plan)[task].entry for task in tasks}

    def get(self, stage: Stage) -> object | None:
        return stage if stage.entry in self.entries else None


def forecast(plan: Plan, folder: Path, *there: str, chosen: Sequence[str] = ("build",)) -> set[str]:
    """The tasks that a run would do if those were in the cache."""
    session: Any = SimpleNamespace(plan=plan, ends=plan.ends, cache=Cached(plan, there), shared=None,
                                   state=folder, name="web")  # fmt: skip
    told = Told(session)
    told.chosen = chosen
    return {*names(told.forecast.build)}


def test_a_run_says_before_what_it_will_make(plan: Plan, tmp_path: Path) -> None:
    assert forecast(plan, tmp_path) == {*names(plan.stages)}
    assert forecast(plan, tmp_path, *KEPT) == set()
    parts = ["filesystem:/", "esp:server", "bios:server"]
    lacks = [one for one in KEPT if one != "file:a.qcow2"]
    assert forecast(plan, tmp_path, *lacks, *parts) == {"file:a.qcow2", "disk:server"}
    # Of a tree that is whole only the part that is lacking is made again.
    assert forecast(plan, tmp_path, *lacks, *parts[:2], *names(plan.tree)) == {
        "file:a.qcow2", "disk:server", "bios:server"}  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("esp", {"base", "layer:loader", "esp:server"}),
        ("esp:server", {"base", "layer:loader", "esp:server"}),
        ("image", {"base", "layer:loader", "layer:kernel", "layer:app", "layer:settings",
                   "filesystem:/", "image:/"}),
    ],
)  # fmt: skip
def test_tasks_that_are_asked_for_by_name(plan: Plan, chosen: str, expected: set[str]) -> None:
    assert {*names(wanted(plan, plan.ends, [chosen]))} == expected


def test_boot_tests_are_asked_for_by_their_own_task(plan: Plan) -> None:
    """`test` is Strata's own tests."""
    found = names(wanted(plan, plan.ends, ["boot_test"]))
    assert {"boot_test:server.uefi", "boot_test:server.bios", "file:a.qcow2"} <= {*found}
    assert "file:a.img.gz" not in found
    assert wanted(plan, plan.ends, ["test"]) == ()


def test_a_partition_of_an_mbr_may_have_the_name_of_what_lies_before_it(tmp_path: Path) -> None:
    """GRUB's core lies in no partition there: nothing of the spec's may have its place."""
    parts = [{"name": "bios", "mount": "/", "size": "rest"}]
    plan = case_of(
        tmp_path, "grub",
        disks={"server": disk("grub", table="mbr", firmware=["bios"], partitions=parts)},
    ).plan  # fmt: skip
    keys = {one.key: f"{one.kind}:{one.name}" for one in plan.stages}
    made = next(one for one in plan.stages if one.kind == "disk")
    assert {name: keys[key] for name, key in made.inputs["parts"].items()} == {
        "bios": "filesystem:/", "/core": "bios:server",
    }  # fmt: skip
