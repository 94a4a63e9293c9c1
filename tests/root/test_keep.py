"""lock=keep: a changed spec is resolved again, and what the lock has stays as long as it is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.debs import make_deb
from support.world import World


def publish(world: World, version: str) -> None:
    world.repository.add(make_deb(world.debs, "alpha", version, depends="dep"),
                         make_deb(world.debs, "dep", version))  # fmt: skip
    world.repository.publish()


def versions(world: World, *words: str) -> dict[str, str]:
    """What a new lock has, of alpha and of what it needs."""
    world.doit("lock", "spec=web", *words)
    lock = json.loads((world.root / "specs/web.lock").read_text())
    records = [*lock["base"], *(record for layer in lock["layers"] for record in layer["records"])]
    return {record["package"]: record["version"] for record in records}


def moved_on(world: World, request: str, repo: str) -> None:
    """The lock has versions 1; the repository has 1 and 2, the spec another package."""
    publish(world, "1")
    world.repository.add(make_deb(world.debs, "more", "1"))
    world.repository.publish()
    world.edit("images:", f"packages: [{request}]\nimages:")
    world.edit("suite: stable,", f"suite: stable, {repo}")
    assert versions(world)["alpha"] == "1"
    publish(world, "2")
    shutil.rmtree(world.root / "cache/index")  # so that today's repository is asked
    world.edit("packages: [", "packages: [more, ")


@pytest.mark.parametrize(
    ("request_", "repo"),
    [
        ("alpha", ""),
        pytest.param("alpha/stable", "", marks=pytest.mark.nightly),
        ('"alpha:amd64/stable"', ""),
        ("alpha", "pins: [{packages: alpha, priority: 1500}],"),
        pytest.param(
            "alpha", 'pins: [{packages: "alp*", priority: 32767}],', marks=pytest.mark.nightly
        ),
        ("alpha/stable", "priority: 1200,"),
    ],
)
def test_what_is_locked_stays_whatever_the_spec_prefers(
    tiny: World, request_: str, repo: str
) -> None:
    moved_on(tiny, request_, repo)
    found = versions(tiny, "lock=keep")
    assert (found["alpha"], found["dep"], found["more"]) == ("1", "1", "1")
    # The next lock=latest follows the repository, though that has not changed since.
    assert versions(tiny, "lock=latest")["alpha"] == "2"
    text = (tiny.root / "specs/web.lock").read_text()
    assert versions(tiny, "lock=keep")["alpha"] == versions(tiny)["alpha"] == "2"
    assert (tiny.root / "specs/web.lock").read_text() == text


def test_what_is_gone_is_taken_from_its_suite(tiny: World) -> None:
    moved_on(tiny, "alpha/stable", "")
    tiny.repository.remove("alpha", "1")
    tiny.repository.publish()
    found = versions(tiny, "lock=keep")
    assert (found["alpha"], found["dep"]) == ("2", "1")


def test_a_version_that_is_asked_for_is_none_to_keep(tiny: World) -> None:
    moved_on(tiny, "alpha", "")
    tiny.edit("[more, alpha]", "[more, alpha=2]")
    assert versions(tiny, "lock=keep")["alpha"] == "2"


def test_a_mirror_that_went_back_has_no_advice_to_keep_the_lock(
    tiny: World, tmp_path: Path
) -> None:
    shutil.copytree(tiny.repository.dist, tmp_path / "older")
    moved_on(tiny, "alpha", "")
    shutil.rmtree(tiny.repository.dist)
    shutil.copytree(tmp_path / "older", tiny.repository.dist)
    build = tiny.doit("lock", "spec=web", "lock=keep", check=False)
    assert "is older than the lock's of" in build.err
    assert "use another mirror, or undo what the spec changed; to go back on purpose" in build.err
