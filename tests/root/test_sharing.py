"""Shared caches: what is taken and what is not, what is given, and what `why` tells of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.teams import Team
from support.trees import only_root
from support.world import World, says

pytestmark = pytest.mark.root


def test_a_clone_takes_the_images_and_nothing_else(team: Team) -> None:
    other = team.clone("b")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}
    assert other.outputs() == team.first.outputs()
    found = [path.name for path in (other.root / "cache").rglob("*") if path.is_file()
             and path.suffix in (".deb", ".zst", ".gz")]  # fmt: skip
    assert [name.partition("-")[0] for name in found] == ["image"]
    assert other.server.requests == []
    # From here on all is at hand.
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "hit"}
    assert other.doit("why", "spec=web").code == 0


def test_one_package_more_takes_what_is_below_and_makes_the_rest(
    built: World, tmp_path: Path
) -> None:
    world = built
    url = f"file://{tmp_path}/share"
    world.doit("push", "spec=web", f"cache={url}")
    shared = {path.name: path.stat().st_size for path in (tmp_path / "share/cas").iterdir()}
    other = world.clone(tmp_path / "b")
    other.edit("packages: [beta]", "packages: [beta, delta]")
    only_root(other)
    other.doit("build", "spec=web", f"cache={url}", "cache_trust=any")
    assert other.results() == {"base": "pulled", "packages": "pulled", "app": "built",
                               "/": "built"}  # fmt: skip
    debs = {path.stem for path in (other.root / "cache/debs").glob("*.deb")}
    lock = json.loads((other.root / "specs/web.lock").read_text())
    (app,) = [layer for layer in lock["layers"] if layer["name"] == "app"]
    assert debs == {record["sha256"] for record in app["records"]}
    # Those that the first build had needed come from the shared cache, the new one from its repository.
    fetched = [path for _, path, _ in other.server.requests if path.endswith(".deb")]
    assert len(fetched) == 1
    assert "delta" in fetched[0]
    assert len(debs & shared.keys()) == 2


def test_a_mirror_that_has_dropped_a_version_is_not_needed(team: Team) -> None:
    other = team.clone("b")
    for path in team.records():
        path.unlink()
    said = team.build(other, STRATA_MIRROR="http://127.0.0.1:9")
    assert "warning" not in said.text
    assert other.results() == {"base": "built", "/": "built"}
    assert other.outputs() == team.first.outputs()


def test_reproduce_takes_no_stage_from_a_shared_cache(team: Team) -> None:
    other = team.clone("b")
    team.build(other)
    other.doit("reproduce", "spec=web", STRATA_REMOTE=team.url, STRATA_TRUSTED_KEYS=team.line)
    logs = {path.name for path in (other.root / "out/web/log/reproduce").iterdir()}
    assert {"base.log", "image-root.log"} <= logs


def test_a_file_that_is_gone_is_sent_again_and_its_record_stays(team: Team) -> None:
    before = {path: path.read_bytes() for path in team.records()}
    for path in (team.share / "cas").iterdir():
        path.unlink()
    unsigned = team.clone("unsigned")
    unsigned.doit("build", "spec=web", "lock=frozen", f"cache={team.url}", "cache_mode=push")
    assert {path: path.read_bytes() for path in team.records()} == before
    other = team.clone("b")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}


def test_what_could_not_be_sent_goes_with_the_next_build(team: Team) -> None:
    shutil.rmtree(team.share)
    signer: dict[str, Any] = {"STRATA_SIGNING_KEY": str(team.key)}
    team.build(team.first, "cache_mode=both", **signer)
    assert set(team.first.results().values()) == {"hit"}
    assert len(team.records()) == 2
    team.build(team.clone("b"))


def test_a_failed_build_gives_what_it_made(built: World, tmp_path: Path) -> None:
    other = built.clone(tmp_path / "b")
    other.write("scripts/app.sh", "#!/bin/sh\nexit 1\n", 0o755)
    said = other.doit("build", "spec=web", "lock=frozen", f"cache=file://{tmp_path}/share", "cache_mode=push",
                      check=False)  # fmt: skip
    assert said.code == 1
    says(said.text, "app.sh")
    kinds = [
        json.loads(path.read_text()).get("stage") for path in (tmp_path / "share/ac").iterdir()
    ]
    assert sorted(filter(None, kinds)) == ["base", "layer"]


def test_looking_fetches_nothing_and_pull_fetches_all(team: Team) -> None:
    other = team.clone("b")
    env = {"STRATA_REMOTE": team.url, "STRATA_TRUSTED_KEYS": team.line}
    for command in (["list"], ["info", "image:/"], ["keys"], ["why"]):
        # doit's own info exits 1 where something is to be done
        other.doit(*command, "spec=web", check=False, **env)
        assert not list((other.root / "cache").glob("images/image-*"))
    team.build(other)
    said = team.run(other, "pull", "spec=web")
    says(said.text, "base", "pulled", "image", "hit")
    assert list((other.root / "cache/layers").glob("base-*.tar.zst"))


def test_why_tells_what_is_there_and_which_tools_differ(team: Team) -> None:
    other = team.clone("b")
    said = team.run(other, "why", "spec=web")
    assert said.code == 2
    says(said.text, "image", f"would be pulled from {team.url}")
    assert "base" not in said.text
    # Of a host whose tools are others, only that it made the same.
    for path in (team.share / "ac").iterdir():
        record = json.loads(path.read_text())
        if "tools" in record:
            record["tools"] = dict.fromkeys(record["tools"], "0.1-x") | {"bad\n": "1"}
            path.write_text(json.dumps(record))
        else:
            path.unlink()
    said = team.run(other, "why", "spec=web")
    assert said.code == 2
    says(said.text, "would be built", "not in the shared cache: built there with mmdebstrap 0.1-x, here 1.",
         "not in the shared cache: built there with mke2fs 0.1-x, here 1.")  # fmt: skip
    assert "bad" not in said.text
