"""Fixtures of what is built again and again: one repository of two packages, and a first build of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.debs import make_deb
from support.disk_worlds import PLAIN
from support.file_server import Server
from support.repository import Repository
from support.traces import SMALL
from support.world import World, stocked


@pytest.fixture(scope="session")
def small_site(
    tmp_path_factory: pytest.TempPathFactory, closure: list[Path]
) -> Iterator[tuple[Repository, Server]]:
    """The repository of the small spec: no test changes it, faults of its server are enough."""
    folder = tmp_path_factory.mktemp("small")
    repository = Repository(folder / "repository")
    baseline = make_deb(folder / "debs", "baseline", files={"/usr/share/baseline/version": "1\n"})
    repository.add(baseline, *(deb for deb in closure if deb.name.startswith("shell_")))
    repository.publish()
    with Server(repository.root) as server:
        yield repository, server


@pytest.fixture
def small(
    tmp_path: Path, small_site: tuple[Repository, Server], fast_scratch: dict[str, str]
) -> Iterator[World]:
    """A checkout with the small spec, whose stages take two seconds together; nothing is built."""
    repository, server = small_site
    world = stocked(tmp_path / "checkout", repository, server, tmp_path, fast_scratch, SMALL)
    server.clear()
    yield world
    server.faults.clear()


@pytest.fixture(scope="session")
def plain_kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first user of `plain_disk` made."""
    return tmp_path_factory.mktemp("plain-built")


@pytest.fixture
def plain_disk(small: World, plain_kept: Path) -> World:
    """The spec PLAIN, whose disk nothing boots, built; in files of its own."""
    small.write("web.yaml", PLAIN)
    names = ["cache", "out", ".doit", "specs/web.lock"]
    if (plain_kept / "cache").exists():
        subprocess.run(["cp", "-a", f"{plain_kept}/.", small.root], check=True)
    else:
        small.build()
        subprocess.run(["cp", "-a", "--parents", *names, plain_kept], cwd=small.root, check=True)
    small.server.clear()
    return small


@pytest.fixture(scope="session")
def small_kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first user of `small_built` made."""
    return tmp_path_factory.mktemp("small-built")


@pytest.fixture
def small_built(small: World, small_kept: Path) -> World:
    """The same, built by whichever test was first; in files of its own, which a test may damage."""
    names = ["cache", "out", ".doit", "specs/web.lock"]
    if (small_kept / "cache").exists():
        subprocess.run(["cp", "-a", f"{small_kept}/.", small.root], check=True)
    else:
        assert set(small.build().values()) == {"built"}
        subprocess.run(["cp", "-a", "--parents", *names, small_kept], cwd=small.root, check=True)
    small.server.clear()
    return small
