"""A fleet makes each stage of all specs once, whichever worker does, and whatever becomes of workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fleets import SMALL, SMALL_BASES, cluster, killing, many, told
from support.world import World, says

pytestmark = pytest.mark.root


def built_alone(world: World, to: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """The digests of all images as one machine makes them, in a checkout of its own."""
    alone = world.clone(to)
    alone.doit("build", f"spec={','.join(names)}", "lock=frozen")
    return {name: alone.outputs(name) for name in names}


def test_each_stage_is_made_once_though_a_worker_is_killed(tiny: World, tmp_path: Path) -> None:
    names = many(tiny, 6, SMALL, SMALL_BASES)
    with killing(Path(tiny.env.get("STRATA_SCRATCH", tiny.root / ".doit/scratch"))) as killed:
        said = tiny.doit("fleet", "spec=all", "workers=3")
    print(said.text)
    assert len(killed) == 1
    stages = told(tiny)
    assert [one["result"] for one in stages] == ["built"] * (3 + 6 + 3)
    assert len({one["worker"] for one in stages}) > 1
    assert "is gone" in said.out
    assert {name: tiny.outputs(name) for name in names} == built_alone(
        tiny, tmp_path / "alone", names
    )
    assert tiny.leftovers() == []


def test_workers_elsewhere_share_a_cache_and_nothing_else(tiny: World, tmp_path: Path) -> None:
    """Over TLS; one worker is killed, one has no key, so that nobody would believe what it makes."""
    names = many(tiny, 4, SMALL, SMALL_BASES[:2])
    keys = {name: tmp_path / f"{name}.key" for name in ("one", "two")}
    lines = []
    for name, path in keys.items():
        lines.append(tiny.doit("keygen", f"name={name}").out.strip())
        (tiny.root / path.name).rename(path)
    trusted = {"STRATA_TRUSTED_KEYS": " ".join(lines)}
    words = [f"cache=file://{tmp_path}/shared", "spec=all"]
    with cluster(tmp_path / "far", tiny.environment(**trusted)) as far:
        far.worker("none")
        for name, path in keys.items():
            far.worker(name, STRATA_SIGNING_KEY=str(path))
        with killing(far.folder) as killed:
            said = tiny.doit("fleet", f"scheduler={far.address}", *words, **trusted, **far.tls)
        print(said.text)
        assert len(killed) == 1
        says(said.text, "worker none: it has no STRATA_SIGNING_KEY", "another one is asked")
        stages = told(tiny)
        assert [one["result"] for one in stages] == ["built"] * (2 + 4 + 2)
        assert {one["worker"] for one in stages} <= {"one", "two"}
        assert len([*(tmp_path / "shared/ac").iterdir()]) == 2 + 4 + 2
        # Who comes later, with an empty cache: nothing is made.
        again = tiny.clone(tmp_path / "again")
        says(again.doit("fleet", f"scheduler={far.address}", *words, **trusted, **far.tls).text,
             "4 specs, 8 stages: 0 to be made")  # fmt: skip
        assert {name: again.outputs(name) for name in names} == {
            name: tiny.outputs(name) for name in names
        }
    assert {name: tiny.outputs(name) for name in names} == built_alone(
        tiny, tmp_path / "alone", names
    )
