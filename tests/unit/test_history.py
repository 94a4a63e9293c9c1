"""The builds that a checkout remembers: what is read back is what was, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tasks.store.history import KEPT, Build, Took, builds, remember, took


def stage(seconds: float, result: str = "built") -> Took:
    return Took(
        stage="layer", name="app", key="k", result=result, began=1.5, seconds=seconds, bytes=7
    )


BUILD = Build(
    began=1.0, seconds=9.5, result="done", lock="ab", changes=("a 1 → 2",), stages=(stage(8.0),)
)


def test_builds_come_back_as_they_were_and_the_oldest_go(tmp_path: Path) -> None:
    assert builds(tmp_path, "web") == []
    for number in range(KEPT + 2):
        remember(tmp_path, "web", dataclasses.replace(BUILD, began=float(number)))
    found = builds(tmp_path, "web")
    assert [build.began for build in found] == [float(number) for number in range(2, KEPT + 2)]
    assert found[-1] == dataclasses.replace(BUILD, began=float(KEPT + 1))
    assert builds(tmp_path, "other") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("done", "great"), ("built", "eaten"), ("8.0", "-1"), ("8.0", '"8"'), ("}", ""), ('"ab"', "1"), ('["a 1', '[1,"')],
)  # fmt: skip
def test_what_is_no_build_is_passed_over(tmp_path: Path, old: str, new: str) -> None:
    for _ in range(2):
        remember(tmp_path, "web", BUILD)
    path = tmp_path / "builds/web.jsonl"
    first, second = path.read_text().splitlines()
    assert old in first
    path.write_text(f"{first.replace(old, new, 1)}\n{second}\n")
    assert builds(tmp_path, "web") == [BUILD]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "builds").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "builds/web.jsonl").symlink_to(tmp_path / "elsewhere")
    remember(tmp_path, "web", BUILD)
    assert (tmp_path / "elsewhere").read_text() == ""
    assert builds(tmp_path, "web") == [BUILD]


def test_how_long_a_stage_takes_is_the_middle_of_its_last_three_builds() -> None:
    known = [dataclasses.replace(BUILD, stages=(stage(one),)) for one in (90.0, 1.0, 5.0, 3.0)]
    known.append(dataclasses.replace(BUILD, stages=(stage(0.0, "hit"),)))
    assert took(known, "layer:app") == 3.0
    assert took(known, "base") is None
