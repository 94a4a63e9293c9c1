"""Fixtures of what needs no repository of its own, and of those who ask a shared cache themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.remotes import KINDS, Place, shared_servers
from support.repository import Repository, Server, make_deb
from support.world import SPEC, World, checkout, populate


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
    checkout(tmp_path / "checkout", None)
    world = World(tmp_path / "checkout", repository, server, tmp_path, dict(fast_scratch))
    world.write("web.yaml", SPEC)
    world.write("files/motd", "hello\n")
    world.write("scripts/app.sh", "#!/bin/sh\nset -eu\nmkdir -p /boot\n", 0o755)
    world.write("keys/test.gpg", "").write_bytes(repository.keyring.read_bytes())
    yield world
    server.faults.clear()


@pytest.fixture(scope="session")
def site_lock(site: tuple[Repository, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lock of the unchanged spec."""
    root = tmp_path_factory.mktemp("site-lock") / "checkout"
    checkout(root, None)
    world = World(root, *site, root)
    world.write("web.yaml", SPEC)
    world.write("keys/test.gpg", "").write_bytes(site[0].keyring.read_bytes())
    world.doit("lock", "spec=web")
    return (root / "specs/web.lock").read_text()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks a shared cache gives up soon, and knows nobody's credentials."""
    monkeypatch.setenv("STRATA_TIMEOUT", "1")
    monkeypatch.setenv("STRATA_RETRIES", "0")
    monkeypatch.delenv("STRATA_REMOTE_TOKEN", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    """An empty cache of each kind."""
    return shared_servers().place(request.param)
