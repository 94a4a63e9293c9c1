"""What was damaged, deleted or is not believed is made again, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.redone import HIT, asked, redone
from support.world import World

pytestmark = pytest.mark.root


HARMED = {
    "truncated": "it is damaged in the cache",
    "missing": "its file in the cache is missing",
    "flipped": "it is damaged in the cache",
    "no record": "its record in the cache is missing",
}


HARMS = tuple(HARMED)


def harmed(*pairs: tuple[str, str], kinds: Sequence[str]) -> list[Any]:
    """Each harm to an entry of each kind: those of `pairs` in every run, the others at night."""
    return [
        pytest.param(kind, harm, marks=() if (kind, harm) in pairs else pytest.mark.nightly)
        for kind in kinds for harm in HARMS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "harm"),
    harmed(("base", "truncated"), ("layer", "no record"), ("image", "flipped"),
           kinds=["base", "layer", "image"]),
)  # fmt: skip
def test_damaged_entry_that_nothing_needs(built: World, kind: str, harm: str) -> None:
    _harm(built, kind, harm)
    told = asked(built)
    assert told["redone"] == (kind == "image")
    if kind == "image":
        (image,) = (one for one in told["stages"] if one["state"] == "built")
        assert (image["name"], [one["text"] for one in image["causes"]]) == ("/", [HARMED[harm]])
    results = built.build("lock=keep")
    if kind == "image":
        # The image of / is asked for by publish, so it is made again, from the layers.
        assert results["/"] == "built"
        assert {results["base"], results["packages"], results["app"]} == {"hit"}
    else:
        assert (results["/"], results["/boot"]) == ("hit", "hit")


@pytest.mark.parametrize(
    ("kind", "harm"),
    harmed(("base", "flipped"), ("layer", "truncated"), ("layer", "no record"),
           kinds=["base", "layer"]),
)  # fmt: skip
def test_damaged_entry_that_is_needed(built: World, kind: str, harm: str) -> None:
    _harm(built, kind, harm)
    _harm(built, "image", "missing")
    name = {"base": "base", "layer": "app"}[kind]
    redone(built, {**HIT, "/": "built", name: "built"},
           {name: HARMED[harm], "/": HARMED["missing"]}, "lock=keep", asks=())  # fmt: skip


def _harm(world: World, kind: str, harm: str) -> None:
    """Damage the base, the top layer, or the image of /, behind a hard link of its own."""
    from tasks.session.session import Session

    session = Session(root=world.root, variables={"spec": "web"})
    os.environ["STRATA_MIRROR"] = world.server.url
    here = Path.cwd()
    os.chdir(world.root)
    try:
        plan = session.plan
    finally:
        os.chdir(here)
        del os.environ["STRATA_MIRROR"]
    stage = {"base": plan.base, "layer": plan.layers[-1], "image": plan.images[0]}[kind]
    path = session.cache.file(stage)
    content = bytearray(path.read_bytes())
    path.unlink()
    if harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "no record":
        path.write_bytes(content)
        session.cache.record(stage).unlink()


@pytest.mark.parametrize("harm", [
    "deleted", pytest.param("truncated", marks=pytest.mark.nightly), "flipped", "folder deleted",
])  # fmt: skip
def test_output_deleted_or_damaged(built: World, harm: str) -> None:
    before = built.outputs()
    path = built.root / "out/web/web.img.gz"
    content = bytearray(path.read_bytes())
    if harm == "deleted":
        path.unlink()
    elif harm == "folder deleted":
        shutil.rmtree(path.parent)
    elif harm == "truncated":
        path.write_bytes(content[:1000])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    state = {"deleted": "/web.img.gz is gone", "folder deleted": "/ is gone"}.get(
        harm, "/web.img.gz changed since it was published"
    )
    redone(built, HIT, {}, "lock=keep", asks=(), published=[f"out/web{state}"])
    assert built.json()["published"] is True
    assert built.outputs() == before


def test_what_apt_solved_before_is_not_solved_again(built: World) -> None:
    """Of the very same repositories: a layer more, or another spec with the same base."""
    log = built.root / "out/web/log/lock.log"
    built.doit("lock", "spec=web")
    kept = (built.root / "specs/web.lock").read_bytes()
    built.edit("packages: [beta]", "packages: [beta, delta]")
    built.doit("lock", "spec=web")
    said = log.read_text()
    assert said.count("# resolved specs/web.yaml: ") == 2
    assert said.count("# resolving specs/web.yaml: ") == 1
    built.edit("packages: [beta, delta]", "packages: [beta]")
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept
    shutil.rmtree(built.root / ".doit/resolved")
    (built.root / "specs/web.lock").unlink()
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept


def test_answer_that_rotted_or_is_of_another_repository_is_not_believed(built: World) -> None:
    built.doit("lock", "spec=web")
    kept = (built.root / "specs/web.lock").read_bytes()
    for path in (built.root / ".doit/resolved").glob("*.json"):
        path.write_text(path.read_text().replace("alpha", "alphb", 1))
    (built.root / "specs/web.lock").unlink()
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept
    built.add(built.deb("alpha", "2"))
    built.doit("lock", "spec=web")
    assert '"version": "2"' in (built.root / "specs/web.lock").read_text()
