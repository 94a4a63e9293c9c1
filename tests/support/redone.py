"""What a build redid, and what `why` said of it before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from support.world import World

HIT = {"base": "hit", "packages": "hit", "app": "hit", "/": "hit", "/boot": "hit"}


def asked(world: World, *words: str, spec: str = "web") -> dict[str, Any]:
    """What `why` says to a program; its exit status says the same."""
    done = world.doit("why", f"spec={spec}", "format=json", *words, check=False)
    assert "Traceback" not in done.text
    told: dict[str, Any] = json.loads(done.out)
    assert done.code == (2 if told["redone"] else 0), done.text
    return told


def stands(stage: str) -> str:
    return f"what it stands on changed ({stage})"


def redone(
    world: World,
    results: Mapping[str, str],
    causes: Mapping[str, str | list[str]],
    *words: str,
    spec: str = "web",
    asks: Sequence[str] = ("lock=latest",),
    published: Sequence[str] = (),
) -> None:
    """A build does just this, and `why` said so before: these causes, and no others.

    Of a stage that is not named in `causes` it is that it stands on the first that is.
    """
    before = world.kept()
    told = asked(world, *words, *asks, spec=spec)
    assert world.kept() == before
    states = {one["name"]: one["state"] for one in told["stages"]}
    found = {one["name"]: [cause["text"] for cause in one["causes"]] for one in told["stages"]
             if one["state"] == "built"}  # fmt: skip
    first = next(iter(causes), "")
    expected = {
        name: causes.get(name, stands(first if first == "base" else f"layer {first}"))
        for name in found
    }
    assert found == {
        name: one if isinstance(one, list) else [one] for name, one in expected.items()
    }
    assert set(causes) <= set(found)
    assert [one["text"] for one in told["published"]] == list(published)
    assert world.build(*words, spec=spec) == results == states
