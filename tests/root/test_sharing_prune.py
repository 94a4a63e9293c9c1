"""What `prune` leaves of caches: within limits, what locks need, and in a shared folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.teams import Team
from support.world import says

pytestmark = pytest.mark.root


def aged(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_prune_keeps_to_limits(team: Team) -> None:
    world = team.first
    files = [*(world.root / "cache").glob("*/*-*.*"), *(world.root / "cache/debs").glob("*.deb")]
    assert len(files) >= 6
    (world.root / "specs/web.lock").unlink()
    for path in files:
        aged(path, 10)
    recent = [path for path in files if path.name.startswith("image-")]
    for path in recent:
        aged(path, 1)
    said = world.doit("prune", "days=5", "dry=1").out
    says(said, "would prune")
    assert all(path.exists() for path in files)
    assert "image-" not in said
    world.doit("prune", "days=20")
    world.doit("prune", "keep=1G")
    assert all(path.exists() for path in files)
    world.doit("prune", "days=5")
    assert [path for path in files if path.exists()] == recent
    world.doit("prune", "keep=0")
    assert not any(path.exists() for path in files)
    for word in ("keep=10Q", "keep=-1", "days=x", "days=1.5", "dry=0", "dry=yes", "dry="):
        bad = world.doit("prune", word, check=False)
        assert bad.code in (1, 3)
        says(bad.text, "expected 1" if "dry" in word else "expected a")


def test_prune_keeps_what_locks_need_and_says_so(team: Team) -> None:
    said = team.first.doit("prune", "keep=0", "days=0").out
    says(said, "pruned 0 entries", "the locks in specs/ need them")
    team.first.build("lock=keep")
    assert set(team.first.results().values()) == {"hit"}


def test_prune_of_a_shared_folder(team: Team) -> None:
    world, share = team.first, team.share
    said = world.doit("prune", f"cache={team.url}", check=False)
    assert said.code == 1
    says(said.text, "a limit must be named")
    everything = [path for path in share.rglob("*") if path.is_file()]
    for path in everything:
        aged(path, 10)
    foreign = share / "cas/notes.txt"
    foreign.write_text("mine\n")
    aged(foreign, 99)
    image = next(
        path for path in team.records() if json.loads(path.read_text())["stage"] == "image"
    )
    team.build(team.clone("b"))  # used again: its record, and with it its file
    said = world.doit("prune", f"cache={team.url}", "days=5")
    says(said.out, "notes.txt: it is not Strata's", "pruned")
    left = {path for path in share.rglob("*") if path.is_file()}
    file = share / "cas" / json.loads(image.read_text())["file"]["sha256"]
    assert left == {image, file, foreign, share / "CACHEDIR.TAG"}
    other = team.clone("c")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}
    said = world.doit("prune", "cache=http://127.0.0.1:9/", "days=1", check=False)
    assert said.code == 1
    says(said.text, "only a folder can be pruned")
