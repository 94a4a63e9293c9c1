"""Fixtures: a checkout of its own for each test, real packages, a signed repository that serves."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from support import forks, remotes
from support.file_server import Server
from support.repository import Repository
from support.signing import session_key
from support.stock import base_debs
from support.tally import TALLY, told
from support.world import World, populate, stocked, tiny_world
from tasks.host.files import remove
from tasks.host.process import SIGNALS

ORDER = ("slow", "root", "unit")
"""The long ones first: at the end of a run, no process waits for another one's last test."""

TOGETHER = ("tests/unit/", "test_shipped.py", "test_same_bytes.py",
            "test_same_times.py", "test_same_reproduced.py", "test_disk_full.py",
            "test_sandbox.py", "test_sandbox_filter.py", "test_sandbox_steps.py",
            "test_remote_faults.py", "test_page.py", "test_exported.py",
            "test_pushing.py", "test_disks.py", "test_plain_disks.py")  # fmt: skip
"""Files of which one process does all tests: they share what they build, or count what the host has."""

WATCHED = ("test_hostile.py", "test_hostile_links.py", "test_hostile_archives.py")
"""Files that are done by one process, one after the other: each looks whether the host is as it was."""

BOOTED = ("test_booted.py", "test_kernels.py", "test_netboot.py")
"""Files that are done by one process, too: what boots in an emulated machine waits 90 s for its disks
and no longer (systemd), which is not enough where several of them share a CPU."""


gc.set_threshold(100_000)
"""What is rewritten and collected is much, and none of it garbage."""


def pytest_configure(config: pytest.Config) -> None:
    """Who runs tests keeps pytest's own bytecode of them for the next run; what they start, none.

    Not where xdist's other processes begin: they would not, either.
    """
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root, tests that need it are an error of the one who runs them, not a silent skip.

    What is in unit/, needs no root and is not marked `starts` is a unit test. What is marked `nightly` holds a promise again
    that other tests hold: `./doit test` leaves it to all=1.
    """
    if os.environ.get("STRATA_TEST_NIGHTLY", "1") != "1":
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]
    for item in items:
        whole = any(item.get_closest_marker(name) for name in ("root", "starts"))
        if item.path.parent.name == "unit" and not whole:
            item.add_marker(pytest.mark.unit)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (item.get_closest_marker("unit") is not None,
                                     ORDER.index(item.path.parent.name)))  # fmt: skip
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.usefixtures("needs_root"))


def pytest_collection_finish() -> None:
    """What is there by now stays: the collector of garbage need not look at it after each thousand."""
    gc.collect()
    gc.freeze()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Which of several processes does a test: whichever is free, but for those of TOGETHER."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if any(name in file for name in WATCHED):
            return "the host"
        if any(name in file for name in BOOTED):
            return "the machines"
        return file if any(name in file for name in TOGETHER) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Ours, whatever --dist says."""
    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What one of several processes did is added up where the summary is printed."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tally"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of the processes has ended."""
    TALLY.update(getattr(node, "workeroutput", {}).get("tally", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Last of all: how often this run's promises were put to the test."""
    if line := told(TALLY):
        terminalreporter.write_line(line)


@pytest.fixture
def needs_root() -> None:
    """Fails: run `pytest -m "not root"`, or be root."""
    pytest.fail('this test builds real images: run as root, or pytest -m "not root"')


@pytest.fixture(scope="session", autouse=True)
def _helpers() -> Iterator[None]:
    yield
    forks.close()
    remotes.close()
    session_key().close()


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """A shell's background job ignores SIGINT, nohup(1) SIGHUP: so would all that the tests end."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            # What is ignored stays so in programs that are started, a handler does not.
            signal.signal(number, signal.default_int_handler)


@pytest.fixture(scope="session")
def closure() -> list[Path]:
    """Real .debs of what the base variant `apt` selects, of the host's mirror, made light."""
    return base_debs()


@pytest.fixture(scope="session")
def fast_scratch() -> Iterator[dict[str, str]]:
    """Scratch on a tmpfs where there is room: ext4 is slow to reuse what was deleted just now."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < 4 << 30:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="strata-test-", dir=shared) as folder:
        yield {"STRATA_SCRATCH": folder}


@pytest.fixture
def world(
    tmp_path: Path, closure: list[Path], fast_scratch: dict[str, str], kept: Kept
) -> Iterator[World]:
    """A checkout with the spec `web` and nothing built."""
    debs = tmp_path / "debs"
    debs.mkdir()
    repository = Repository(tmp_path / "repository")
    populate(repository, debs, closure)
    with Server(repository.root, port=kept.port) as server:
        yield stocked(tmp_path / "checkout", repository, server, debs, fast_scratch)


@dataclass
class Kept:
    """A first build, as its checkout had it then, and the port that its repository was served from."""

    folder: Path
    port: int = 0

    def keep(self, world: World) -> None:
        """Copy what a build has made, and the indexes of its repository."""
        self.port = world.server.port
        for name in ("cache", "out", ".doit"):
            copied(world.root / name, self.folder / name)
        copied(world.repository.root / "dists", self.folder / "dists")
        shutil.copy2(world.root / "specs/web.lock", self.folder)

    def give(self, world: World) -> None:
        """The same, in another checkout, from whose repository nothing was asked so far."""
        for name in ("out", ".doit"):
            remove(world.root / name)
            copied(self.folder / name, world.root / name)
        (world.root / "cache").mkdir()
        for path in (self.folder / "cache").iterdir():
            # Entries are never written to; apt does what it likes in its lists.
            copied(path, world.root / "cache" / path.name, linked=path.name != "index")
        remove(world.repository.root / "dists")
        copied(self.folder / "dists", world.repository.root / "dists")
        shutil.copy2(self.folder / "web.lock", world.root / "specs/web.lock")


def copied(source: Path, target: Path, *, linked: bool = False) -> None:
    """A copy with all that a file has; of a checkout, without its scratch."""
    subprocess.run(["cp", "-al" if linked else "-a", source, target], check=True)
    if target.is_dir():
        remove(target / "scratch")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """What the first user of `built` made."""
    return Kept(tmp_path_factory.mktemp("built"))


@pytest.fixture
def built(world: World, kept: Kept) -> World:
    """The same after a first build and one with nothing to do, by whichever test was first."""
    if kept.port == world.server.port:
        kept.give(world)
    else:
        assert set(world.build().values()) == {"built"}
        assert set(world.build().values()) == {"hit"}
        if not kept.port:
            kept.keep(world)
    world.server.clear()
    return world


@pytest.fixture
def tiny(tmp_path: Path, fast_scratch: dict[str, str]) -> Iterator[World]:
    """A checkout with the spec TINY, and nothing built."""
    with tiny_world(tmp_path, fast_scratch) as world:
        yield world
