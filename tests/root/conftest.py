"""Fixtures of what needs no repository of its own, and of those who share caches or ask one themselves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.debs import make_deb
from support.file_server import Server
from support.hosts import Host, watched
from support.remotes import KINDS, Place, shared_servers
from support.repository import Repository
from support.teams import Team, make_key
from support.world import World, populate, stocked, tiny_world


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, closure: list[Path]
) -> Iterator[tuple[Repository, Server]]:
    """One repository for all tests that need not change it: faults of its server are enough."""
    folder = tmp_path_factory.mktemp("site")
    repository = Repository(folder / "repository")
    debs = folder / "debs"
    repository.add(
        make_deb(debs, "cats", conflicts="dogs"),
        make_deb(debs, "dogs"),
        make_deb(debs, "hungry", depends="food (>= 2), alpha"),
        make_deb(debs, "jealous", conflicts="alpha"),
    )
    populate(repository, debs, closure)
    with Server(repository.root) as server:
        yield repository, server


@pytest.fixture
def fresh(
    tmp_path: Path, site: tuple[Repository, Server], fast_scratch: dict[str, str]
) -> Iterator[World]:
    """A checkout with the spec `web`, nothing built, and no repository of its own."""
    repository, server = site
    server.faults.clear()
    server.clear()
    yield stocked(tmp_path / "checkout", repository, server, tmp_path, fast_scratch)
    server.faults.clear()


@pytest.fixture(scope="session")
def site_lock(site: tuple[Repository, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lock of the unchanged spec."""
    root = tmp_path_factory.mktemp("site-lock") / "checkout"
    world = stocked(root, *site, root, {})
    world.doit("lock", "spec=web")
    return (root / "specs/web.lock").read_text()


@pytest.fixture(scope="module")
def unbuilt(
    tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]
) -> Iterator[World]:
    """The small spec, in one checkout for all that is refused before anything is done."""
    with tiny_world(tmp_path_factory.mktemp("unbuilt"), fast_scratch) as world:
        yield world


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A process, a key, shared memory, sockets and files of the host."""
    with watched(tmp_path) as found:
        yield found


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks a shared cache gives up soon, and knows nobody's credentials."""
    monkeypatch.setenv("STRATA_TIMEOUT", "1")
    monkeypatch.setenv("STRATA_RETRIES", "0")
    for name in ("STRATA_REMOTE_TOKEN", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    """An empty cache of each kind."""
    return shared_servers().place(request.param)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user reaches, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="strata-planted-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]) -> Iterator[Team]:
    """What one built, two packages that are only unpacked, is shared and signed by `ci`."""
    folder = tmp_path_factory.mktemp("team")
    with tiny_world(folder, fast_scratch) as world:
        key, line = make_key(world, "ci", folder)
        team = Team(first=world, share=folder / "share", key=key, line=line, folder=folder)
        first = world.doit("build", "spec=web", f"cache={team.url}", "cache_mode=both",
                           STRATA_SIGNING_KEY=str(key))  # fmt: skip
        assert set(world.results().values()) == {"built"}
        assert "warning" not in first.text
        yield team


@pytest.fixture
def team(made: Team, tmp_path: Path) -> Team:
    """The same, in copies of its own: the first checkout with all that it built, and the share."""
    shutil.copytree(made.share, tmp_path / "share")
    first = made.first.clone(tmp_path / "first", cache="??[yab]*/*")
    first.server.clear()
    for name in (".doit/built", "out"):
        shutil.copytree(made.first.root / name, first.root / name)
    return Team(
        first=first, share=tmp_path / "share", key=made.key, line=made.line, folder=tmp_path
    )
