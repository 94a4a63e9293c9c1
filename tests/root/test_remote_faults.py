"""Whatever a shared cache does, a build is right: the fault costs one warning, and no more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.faulty import FILES, Fault, Proxy, proxied
from support.remotes import KINDS, SERVED, Place, Team, shared_servers
from support.tally import TALLY
from support.world import Build, tiny_world
from tasks.remote.backend import RemoteFault

pytestmark = pytest.mark.root

CALM = {"STRATA_RETRIES": "1", "STRATA_TIMEOUT": "20"}
"""Where all is to go well, also on a busy machine."""

BUILT, PULLED = {"built"}, {"pulled", "skipped"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]) -> Iterator[Team]:
    """A checkout that has built: one for all tests here."""
    with tiny_world(tmp_path_factory.mktemp("team"), fast_scratch) as world:
        world.build()
        yield Team(world)


def warnings(done: Build) -> list[str]:
    """What a build warns of; of none has it more than it is to have."""
    assert "right-0" not in done.text
    return re.findall(r"^.*warning: .*$", done.text, re.MULTILINE)


FILE, RECORD = f"GET .*({FILES})", r"GET .*(/ac/|/manifests/)"

TAKING: list[tuple[Fault, set[str], int]] = [
    (Fault("down"), BUILT, 1),
    (Fault("silent"), BUILT, 1),
    (Fault("404"), BUILT, 0),
    (Fault("slow", on=FILE), BUILT, 1),
    (Fault("cut", on=FILE, after=1500), PULLED, 0),
    (Fault("wrong", on=FILE), BUILT, 1),
    (Fault("wrong", on=RECORD), BUILT, 1),
]

TAKING_TOO: list[tuple[Fault, set[str], int]] = [
    (Fault("cut", on=FILE), BUILT, 1),
    (Fault("403"), BUILT, 1),
    (Fault("slow"), BUILT, 1),
    (Fault("500"), BUILT, 1),
    (Fault("down", on=FILES), BUILT, 1),
    (Fault("down", times=1), PULLED, 0),
    (Fault("404", on=FILE), BUILT, 1),
    (Fault("longer", on=FILE), BUILT, 1),
    (Fault("lying", on=FILE), PULLED, 0),
    (Fault("longer", on=RECORD), BUILT, 1),
]
"""Again at length, and on each kind: what is above stands for them."""

GIVING = ["507"]

GIVING_TOO = ["403", "down", "silent", "500", "cut"]


def filled(kind: str, team: Team) -> tuple[Place, Proxy]:
    """A cache of this kind with what the team built, and its proxy."""
    place = shared_servers().place(kind)
    assert place.proxy is not None
    team.fill(place)
    return place, place.proxy


def taken(kind: str, team: Team, faults: Sequence[tuple[Fault, set[str], int]]) -> None:
    """Build with each of these faults, and once without."""
    place, proxy = filled(kind, team)
    for fault, results, told in [*faults, (None, PULLED, 0)]:
        proxy.clear()
        # Each is used up as it is met, and comes once more.
        proxy.fault = replace(fault) if fault else None
        TALLY["network faults"] += fault is not None
        env = CALM if results == PULLED else {}
        world, done = team.build(replace(place, env={**place.env, **env}))
        assert set(world.results().values()) == results, (fault, done.text)
        assert len(warnings(done)) == told, (fault, done.text)
        if fault and fault.after:
            ranges = [one.headers.get("range", "") for one in proxy.seen]
            assert any(re.match(r"bytes=[1-9]", one) for one in ranges)


def test_a_cache_that_gives_nothing_good_costs_one_warning(team: Team) -> None:
    taken("http", team, TAKING)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", SERVED)
def test_each_kind_of_cache_may_fail_in_each_way(kind: str, team: Team) -> None:
    faults = [*(TAKING if kind != "http" else ()), *TAKING_TOO]
    # A registry's records are blobs as its files are: one that is cut off is none.
    taken(kind, team, [one for one in faults if kind != "oci" or one[0].kind != "lying"])
    given(kind, team, [*GIVING, *GIVING_TOO])


def given(kind: str, team: Team, faults: Sequence[str]) -> None:
    """Build, while what is sent meets these faults; then take what came of it."""
    for fault in faults:
        place = shared_servers().place(kind)
        proxy = place.proxy
        assert proxy is not None
        proxy.fault = Fault(fault, on="^(PUT|POST)", after=100)
        TALLY["network faults"] += 1
        world, done = team.build(place, "cache_mode=both")
        assert set(world.results().values()) == BUILT, (fault, done.text)
        (warning,) = warnings(done)
        assert "nothing more is sent to it in this run" in warning
    shared_servers().proxy(kind).clear()
    world, done = team.build(place)
    assert set(world.results().values()) == BUILT
    assert warnings(done) == []  # for there is no record without its file


def test_a_cache_that_takes_nothing_costs_one_warning(team: Team) -> None:
    given("http", team, GIVING)


def test_what_comes_from_another_host_is_as_good_and_learns_no_secret(team: Team) -> None:
    place, proxy = filled("http", team)
    secret = place.address.replace("://", "://ci:right-0-secret@")
    with proxied(proxy.upstream) as other:
        proxy.seen.clear()
        proxy.fault = Fault("redirect", on="GET", to=other.url.replace("127.0.0.1", "localhost"))
        world, done = team.build(replace(place, address=secret, env=CALM))
        assert set(world.results().values()) == PULLED
        assert warnings(done) == []
        assert proxy.seen[0].headers["authorization"].startswith("Basic ")
        assert {one.headers.get("authorization") for one in other.seen} == {None}
    for path in (world.root / "out").rglob("*"):
        assert path.is_dir() or b"right-0" not in path.read_bytes(), path


STALLS: list[tuple[str, str]] = [
    (RECORD, "cache_mode=pull"),
    (FILE, "cache_mode=pull"),
    ("PUT", "cache_mode=push"),
]


def test_a_signal_ends_what_waits_for_a_server(team: Team) -> None:
    place, proxy = filled("http", team)
    for on, mode in STALLS:
        proxy.clear()
        TALLY["network faults"] += 1
        proxy.fault = Fault("silent", on=on)
        world = team.clone()
        address = place.address if mode == "cache_mode=pull" else f"{place.address}-2"
        env = {"STRATA_TRUSTED_KEYS": team.key[1], "STRATA_TIMEOUT": "30", "STRATA_RETRIES": "3"}
        process = subprocess.Popen(
            [sys.executable, "-m", "doit", "build", "spec=web", "lock=frozen", f"cache={address}", mode],
            cwd=world.root, env=world.environment(**env), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + 20
            while not proxy.asked(on):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until
                time.sleep(0.05)
            time.sleep(0.3)
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            out, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
        assert time.monotonic() - began < 3, out
        assert process.returncode == 130, out
        assert out.splitlines()[-1] == "interrupted by SIGINT; what was whole is kept", out
        assert world.leftovers() == []
        proxy.ended.set()  # those that still wait there
        proxy.ended.clear()


def _wrong(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _garbage(path: Path) -> None:
    path.write_bytes(b"\x00[" * 1000)


SPOILT: list[tuple[str, Callable[[Path], None], int]] = [
    ("cas/*", _wrong, 1),
    ("ac/*", _garbage, 1),
    ("ac/*", _link, 0),
]

SPOILT_TOO: list[tuple[str, Callable[[Path], None], int]] = [
    ("cas/*", _shorter, 1),
    ("cas/*", _folder, 1),
    ("cas/*", _link, 1),
    ("ac/*", _folder, 0),
]


def test_a_folder_where_others_spoil_things_costs_one_warning(team: Team) -> None:
    spoilt(team, SPOILT)


@pytest.mark.nightly
def test_a_folder_may_be_spoilt_in_each_way(team: Team) -> None:
    spoilt(team, SPOILT_TOO)


def spoilt(team: Team, ways: Sequence[tuple[str, Callable[[Path], None], int]]) -> None:
    """Build with a folder where records or files were spoilt in each of these ways."""
    for pattern, spoil, told in ways:
        place = shared_servers().place("folder")
        assert place.folder is not None
        team.fill(place)
        for path in list(place.folder.glob(pattern)):
            spoil(path)
        TALLY["rot"] += 1
        world, done = team.build(place)
        assert set(world.results().values()) == BUILT, (spoil, done.text)
        assert len(warnings(done)) == told, (spoil, done.text)


def test_a_folder_that_is_full_or_none_costs_one_warning(team: Team, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full], check=True)
    try:
        (full / "filler").write_bytes(bytes(60 << 10))
        place = Place("folder", f"file://{full}")
        TALLY["full disks"] += 1
        world, done = team.build(place, "cache_mode=both")
        (warning,) = warnings(done)
        assert "No space left on device" in warning
        assert set(world.results().values()) == BUILT
        subprocess.run(["mount", "-o", "remount,ro", full], check=True)
        with pytest.raises(RemoteFault, match="Read-only file system"):
            place.opened().put_record("base-5", b"{}", [])
    finally:
        subprocess.run(["umount", full], check=True)
    none = Place("folder", f"file://{tmp_path}/none").opened(writing=False)
    with pytest.raises(RemoteFault, match="there is no such folder"):
        none.record("base-5")


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_checkout_built_another_one_takes(kind: str, team: Team) -> None:
    """From each kind of cache: the images, and nothing else; what is there is sent no second time."""
    place = shared_servers().place(kind)
    team.fill(place)
    if place.proxy:
        place.proxy.seen.clear()
    team.fill(place)
    if place.proxy:
        assert place.proxy.asked("^(PUT|POST)") == []
        place.proxy.seen.clear()
    world, done = team.build(replace(place, env={**place.env, **CALM}))
    assert world.results() == {"base": "skipped", "/": "pulled"}
    assert warnings(done) == []
    if place.proxy:
        assert len(place.proxy.seen) <= 4, place.proxy.asked("")
