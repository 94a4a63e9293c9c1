"""A Release may not go back behind the one that the lock names, unless the spec says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.debs import make_deb
from support.samples import load
from support.world import World
from tasks.errors import BuildError
from tasks.plan.lockfile import LockedRepo
from tasks.repos import rollback

OLD, NEW = "Sat, 03 Jan 2026 10:00:00 UTC", "Sat, 10 Jan 2026 09:00:00 UTC"


DEBIAN = {"Origin": "Debian", "Label": "Debian", "Suite": "stable", "Codename": "bookworm"}


BEFORE = {**DEBIAN, "Suite": "oldstable", "Codename": "bullseye"}


SECURITY = {**DEBIAN, "Label": "Debian-Security", "Codename": "bookworm-security"}


OLDER, PLACE = "is older than the lock's of", "the Release in the place of"


@pytest.mark.parametrize(
    ("suite", "was", "now", "told"),
    [
        pytest.param("bookworm", (DEBIAN, NEW), (DEBIAN, NEW), "", id="the same"),
        pytest.param("bookworm", (DEBIAN, OLD), (DEBIAN, NEW), "", id="newer"),
        pytest.param("bookworm", (DEBIAN, NEW), (DEBIAN, OLD), OLDER, id="older"),
        pytest.param("bookworm", (DEBIAN, NEW), (DEBIAN, "Sat, 10 Jan 2026 09:59:59 +0100"), OLDER,
                     id="older by a second, in another zone"),
        pytest.param("bookworm", ({**DEBIAN, "Suite": "oldstable"}, NEW), (DEBIAN, OLD), OLDER,
                     id="older, from before the suite's name changed"),
        pytest.param("stable", ({**DEBIAN, "Codename": "trixie"}, NEW), (DEBIAN, OLD), OLDER,
                     id="older, of the release before"),
        pytest.param("stable", (DEBIAN, OLD), ({**DEBIAN, "Codename": "trixie"}, NEW), "",
                     id="the next release"),
        pytest.param("bookworm", (DEBIAN, OLD), (BEFORE, NEW), PLACE, id="another suite's, newer"),
        pytest.param("bookworm", (DEBIAN, NEW), (BEFORE, OLD), PLACE, id="another suite's, older"),
        pytest.param("bullseye", (DEBIAN, NEW), (BEFORE, OLD), "", id="the spec's suite changed"),
        pytest.param("bookworm", (DEBIAN, NEW), ({**DEBIAN, "Origin": "Ours"}, OLD), "",
                     id="another archive"),
        pytest.param("bookworm", (DEBIAN, NEW), (SECURITY, OLD), "", id="another label"),
        pytest.param("stable/updates", (DEBIAN, NEW), (DEBIAN, OLD), OLDER, id="suite with a path"),
        pytest.param("./", ({"Origin": "x"}, NEW), ({"Origin": "x"}, OLD), OLDER, id="flat"),
        pytest.param("./", ({}, NEW), ({}, OLD), OLDER, id="no field at all"),
        pytest.param("vendor", (DEBIAN, NEW), (DEBIAN, OLD), OLDER, id="a suite of another name"),
        pytest.param("vendor", (DEBIAN, NEW), (BEFORE, OLD), "", id="another of another name"),
        pytest.param("bookworm", (DEBIAN, ""), (DEBIAN, OLD), "", id="a lock without a date"),
        pytest.param("bookworm", (DEBIAN, NEW), (DEBIAN, ""), "", id="a Release without a date"),
        pytest.param("bookworm", (DEBIAN, "yesterday"), (DEBIAN, OLD), "", id="no date"),
        pytest.param("bookworm", (DEBIAN, "1" * 400), (DEBIAN, "9 Jan 99999 99:99"), "", id="numbers"),
    ],
)  # fmt: skip
def test_what_goes_back(
    tmp_path: Path, suite: str, was: tuple[dict[str, str], str], now: tuple[dict[str, str], str],
    told: str,
) -> None:  # fmt: skip
    section = "" if suite == "./" else "main"
    repo: dict[str, Any] = {"name": "r", "uri": "http://h", "suite": suite, "section": section}
    locked = LockedRepo(name="r", release="a" * 64, date=was[1], fields=was[0])
    fields = {**now[0], **({"Date": now[1]} if now[1] else {})}
    for allowed in (False, True):
        spec = load(tmp_path, repos=[{**repo, "check_rollback": not allowed}],
                    images={"/": {"file": "a.img", "format": "ext4"}})  # fmt: skip
        if told and not allowed:
            with pytest.raises(BuildError, match=told) as error:
                rollback.check(spec.repos[0], locked, fields, "s.yaml: repos.r")
            assert "repos.r.check_rollback: false" in error.value.hint
        else:
            rollback.check(spec.repos[0], locked, fields, "s.yaml: repos.r")


def test_a_new_name_is_no_way_around(tmp_path: Path) -> None:
    def before(*names: str, suite: str = "bookworm") -> dict[str, str]:
        repos = [{"name": name, "uri": "http://h", "suite": suite, "section": "main"}
                 for name in names]  # fmt: skip
        spec = load(tmp_path, repos=repos, images={"/": {"file": "a.img", "format": "ext4"}})
        return {name: one.name for name, one in rollback.before(spec.repos, locked).items()}

    locked = [LockedRepo(name=name, release="a" * 64, date=NEW, fields=fields)
              for name, fields in (("main", DEBIAN), ("security", SECURITY), ("ours", {}))]  # fmt: skip
    same = {"main": "main", "security": "security", "ours": "ours"}
    assert before("main", "security") == same
    assert before("debian", "security") == {**same, "debian": "main"}
    assert before("main", "debian") == same, "main is still there: this is another"
    assert before("x", suite="bookworm-security") == {**same, "x": "security"}
    assert before("x", suite="trixie") == same


@pytest.mark.parametrize("signed", ["InRelease", "Release.gpg", "unsigned"])
def test_mirror_that_goes_back(tiny: World, tmp_path: Path, signed: str) -> None:
    tiny.repository.inrelease = signed == "InRelease"
    if signed == "unsigned":
        tiny.repository.key = None
        tiny.edit("keyring: keys/test.gpg", "trusted: true")
    tiny.repository.publish()
    shutil.copytree(tiny.repository.dist, tmp_path / "older")
    lock = tiny.root / "specs/web.lock"
    older = lock_of(tiny)
    tiny.repository.add(make_deb(tiny.debs, "beta", "2"))
    tiny.repository.publish()
    newer = lock_of(tiny)
    text = lock.read_text()
    assert newer["repos"][0]["date"] != older["repos"][0]["date"]
    # apt itself keeps what it has, which is newer.
    shutil.rmtree(tiny.repository.dist)
    shutil.copytree(tmp_path / "older", tiny.repository.dist)
    assert lock_of(tiny) == newer
    # Nothing but the lock knows that it has gone back.
    shutil.rmtree(tiny.root / "cache/index")
    tiny.refused(
        f"specs/web.yaml: repos.main ({tiny.server.url}): its Release of ",
        older["repos"][0]["date"], OLDER, newer["repos"][0]["date"], "use another mirror",
        "lock=keep", "repos.main.check_rollback: false",
    )  # fmt: skip
    # A changed spec is no way around it, and what the lock names is built without asking.
    tiny.edit("name: main", "name: debian")
    tiny.refused("repos.debian", OLDER)
    tiny.edit("name: debian", "name: main")
    tiny.edit("include: [baseline, beta]", "include: [beta, baseline]")
    tiny.doit("lock", "spec=web", "lock=keep")
    assert lock.read_text() == text
    tiny.edit("include: [beta, baseline]", "include: [beta]")
    tiny.refused(OLDER)
    tiny.edit("suite: stable,", "suite: stable, check_rollback: false,")
    tiny.edit("include: [beta]", "include: [baseline, beta]")
    assert lock_of(tiny) == older


def test_going_back_on_purpose_with_newer_lists_at_hand(tiny: World, tmp_path: Path) -> None:
    """apt would keep what it has."""
    shutil.copytree(tiny.repository.dist, tmp_path / "older")
    older = lock_of(tiny)
    tiny.repository.add(make_deb(tiny.debs, "beta", "2"))
    tiny.repository.publish()
    assert lock_of(tiny) != older
    shutil.rmtree(tiny.repository.dist)
    shutil.copytree(tmp_path / "older", tiny.repository.dist)
    tiny.edit("suite: stable,", "suite: stable, check_rollback: false,")
    assert lock_of(tiny) == older
    tiny.edit("suite: stable,", "suite: stabel,")
    assert "damaged" not in tiny.refused("repos.main")


def test_kept_snapshots_of_a_lock_that_is_older_than_the_mirror(tiny: World) -> None:
    tiny.doit("lock", "spec=web")
    before = (tiny.root / "specs/web.lock").read_text()
    tiny.repository.add(make_deb(tiny.debs, "beta", "2"))
    tiny.repository.publish()
    tiny.doit("lock", "spec=web")
    tiny.write("web.lock", before)
    tiny.edit("include: [baseline, beta]", "include: [beta]")
    lock = lock_of(tiny, "lock=keep")
    assert [record["version"] for record in lock["base"]] == ["1"]
    assert lock["repos"] == json.loads(before)["repos"]


def lock_of(world: World, *words: str) -> dict[str, Any]:
    world.doit("lock", "spec=web", *words)
    found: dict[str, Any] = json.loads((world.root / "specs/web.lock").read_text())
    return found
