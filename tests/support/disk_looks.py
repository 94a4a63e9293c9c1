"""What a disk is seen to hold, by the tools of others and by build.json."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.world import World

MIB = 1 << 20


def run(*words: str | Path, status: int = 0) -> str:
    """What a program of others says; it must end with this status."""
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kinds(stages: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["stage"], one["name"], one["result"]) for one in stages]


def partitions(raw: Path) -> dict[str, dict[str, Any]]:
    """What sfdisk(8) reads of a table, by name, or number where there is none."""
    table: dict[str, Any] = json.loads(run("sfdisk", "--json", raw))["partitiontable"]
    return {one.get("name", str(number)): one for number, one in enumerate(table["partitions"], 1)}


def cut(raw: Path, one: dict[str, Any], to: Path, sector: int = 512) -> Path:
    """A partition's bytes as a file of its own."""
    with raw.open("rb") as file, to.open("wb") as target:
        file.seek(one["start"] * sector)
        left = one["size"] * sector
        while left and (block := file.read(min(left, MIB))):
            target.write(block) if block.strip(b"\0") else target.seek(len(block), 1)
            left -= len(block)
        target.truncate(one["size"] * sector)
    return to


def asked(world: World) -> dict[str, list[str]]:
    """The causes of each stage that `why` says would be made, by its task."""
    done = world.doit("why", "spec=web", "format=json", "lock=latest", check=False)
    assert "ERROR" not in done.text, done.text
    told: dict[str, Any] = json.loads(done.out)
    assert done.code == (2 if told["redone"] else 0), done.text
    return {f"{one['stage']} {one['name']}": [cause["text"] for cause in one["causes"]]
            for one in told["stages"] if one["state"] == "built"}  # fmt: skip


def redone(world: World) -> dict[str, list[str]]:
    """The stages that a build made, with the causes that `why` gave before; both are the same."""
    told = asked(world)
    world.build()
    made = [f"{stage} {name}" for stage, name, result in kinds(world.json()["stages"])
            if result == "built"]  # fmt: skip
    assert sorted(made) == sorted(told), told
    return told


def causes_of(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Those that are not only that what it stands on changed."""
    own = {task: [one for one in causes if not one.startswith("what it stands on")]
           for task, causes in found.items()}  # fmt: skip
    return {task: causes for task, causes in own.items() if causes}
