"""Builds at once, of one spec and of several, beside prune and verify, by two users."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from support import forks
from support.digests import digests
from support.tally import TALLY
from support.traces import SMALL, distrusted, leftovers, make_small, scratch
from support.world import Build, World

pytestmark = pytest.mark.root


# A stage's line: title, key, result.
LINE = re.compile(r"^(base|layer \S+|image \S+) +([0-9a-f]{8})  (\w+) ", re.MULTILINE)


@pytest.fixture
def small(world: World) -> World:
    return make_small(world)


class Running:
    """doit, running; its output is read when it ends."""

    def __init__(self, world: World, *words: str) -> None:
        self.words = words
        assert forks.fits(world.root, world.env)
        self.run = forks.Forked(words, world.root, world.environment())

    def wait_for(self, text: str) -> None:
        while text not in self.run.out:
            assert not self.run.ended(), f"{self.words} ended without {text!r}"
            time.sleep(0.002)

    def kill(self) -> None:
        os.kill(self.run.pid, signal.SIGKILL)

    def end(self, *, check: bool = True) -> Build:
        build = Build(*self.run.end(120))
        assert "Traceback" not in build.text, build.text
        assert build.code == 0 or not check, build.text
        return build


def sharing(world: World, number: int) -> World:
    """Another checkout of the same specs with the same cache."""
    other = world.clone(world.root.parent / f"checkout{number}")
    other.env["STRATA_CACHE"] = world.env["STRATA_CACHE"] = str(world.root / "cache")
    return other


def lone(world: World, *specs: str) -> dict[str, str]:
    """The digests of what builds make of these specs with nobody beside them, in a cache of their own."""
    other = world.clone(world.root.parent / "lone")
    other.env = {name: value for name, value in world.env.items() if name != "STRATA_CACHE"}
    for spec in specs:
        other.build(spec=spec)
    return digests(other.root)


def same(worlds: Sequence[World], alone: Mapping[str, str]) -> None:
    """Layers, images and what was published are to the byte what builds alone make."""
    found: dict[str, str] = {}
    for world in worlds:
        for name, sha256 in digests(world.root).items():
            assert found.setdefault(name, sha256) == sha256, f"{name} of {world.root}"
    assert found == alone
    TALLY["images"] += sum("/images/" in name for name in found)


def once(said: Sequence[str]) -> None:
    """Each stage was built exactly once in all these runs together."""
    built = Counter(match[2] for text in said for match in LINE.finditer(text)
                    if match[3] == "built")  # fmt: skip
    every = {match[2] for text in said for match in LINE.finditer(text)}
    assert built == dict.fromkeys(every, 1)


def right(world: World) -> None:
    """The cache is whole, and nothing but it is left."""
    assert ", 0 bad" in world.doit("verify").out
    assert distrusted(world) == []
    assert leftovers(world) == []
    assert list(scratch(world).glob("build-*")) == []


def test_four_builds_of_one_spec_in_one_checkout(small: World) -> None:
    alone = lone(small, "web")
    runs = [Running(small, "build", "spec=web") for _ in range(4)]
    once([run.end().out for run in runs])
    same([small], alone)
    right(small)
    assert set(small.build().values()) == {"hit"}


@pytest.mark.nightly
def test_four_checkouts_with_one_cache_build_specs_that_share_layers(small: World) -> None:
    small.write("other.yaml", SMALL.replace("format: ext4", "format: ext4, label: other"))
    small.write("more.yaml", SMALL.replace("images:", "  - {name: more, files: {/etc/more: "
                "files/motd}}\nimages:"))  # fmt: skip
    alone = lone(small, "web", "other", "more")
    worlds = [small, *(sharing(small, number) for number in (1, 2, 3))]
    specs = ["web", "web", "other", "more"]
    runs = [Running(world, "build", f"spec={spec}")
            for world, spec in zip(worlds, specs, strict=True)]  # fmt: skip
    for run in runs:
        run.end()
    built: Counter[str] = Counter()
    keys = set()
    for world, spec in zip(worlds, specs, strict=True):
        for stage in world.json(spec)["stages"]:
            keys.add(stage["key"])
            built[stage["key"]] += stage["result"] == "built"
    assert built == dict.fromkeys(keys, 1)
    assert len(keys) == 8  # base, app, more; two images of web and of more; one more of other
    assert worlds[0].outputs() == worlds[1].outputs()
    assert worlds[0].outputs() != worlds[2].outputs("other")
    same(worlds, alone)
    right(small)


def test_prune_and_verify_beside_builds_take_nothing_that_is_needed(small: World) -> None:
    small.write("other.yaml", SMALL.replace("script: scripts/app.sh", "hostname: x").replace(
        "{name: app, files: {/etc/motd: files/motd}, hostname: x}",
        "{name: other, files: {/etc/motd: files/motd, /boot/x: files/motd}}"))  # fmt: skip
    stop = threading.Event()
    said: list[Build] = []

    def beside(command: str) -> None:
        while not stop.is_set():
            said.append(small.doit(command, check=False))
            stop.wait(0.1)

    threads = [threading.Thread(target=beside, args=[name]) for name in ("prune", "verify")]
    for thread in threads:
        thread.start()
    try:
        runs = [Running(small, "build", f"spec={spec}") for spec in ("web", "other")]
        for run in runs:
            run.end()
        small.write("files/motd", "another\n")
        runs = [Running(small, "build", f"spec={spec}") for spec in ("web", "other")]
        for run in runs:
            run.end()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [build.text for build in said if build.code] == []
    assert any("verified" in build.out for build in said)
    assert any("pruned" in build.out for build in said)
    for spec in ("web", "other"):
        found = json.loads(small.doit("keys", f"spec={spec}", "format=json").out)["stages"]
        assert all((small.root / name).exists() for stage in found for name in stage["files"])
        assert set(small.build(spec=spec).values()) == {"hit"}
    right(small)


def test_prune_in_a_checkout_that_needs_nothing_waits_for_a_build_in_another(small: World) -> None:
    """It has no lock, so it would take all: only that it waits keeps the build's entries there."""
    small.write("scripts/app.sh", "#!/bin/sh\nset -eu\nsleep 1.5\nmkdir -p /boot\necho k > /boot/kernel\n",
                0o755)  # fmt: skip
    alone = lone(small, "web")
    idle = sharing(small, 1)
    assert list(idle.root.glob("specs/*.lock")) == []
    stop = threading.Event()
    said: list[str] = []

    def beside() -> None:
        while not stop.is_set():
            said.append(idle.doit("prune").out)
            stop.wait(0.1)

    thread = threading.Thread(target=beside)
    thread.start()  # before the build: it meets each of its stages, and the moments between them
    try:
        build = Running(small, "build", "spec=web").end()
        once([build.out])
    finally:
        stop.set()
        thread.join()
    assert any("waiting for another build" in text for text in said), said
    said.append(idle.doit("prune").out)
    # What the build left was taken once, after it: taken earlier, it would have been made again.
    taken = sum(int(count) for text in said for count in re.findall(r"^pruned (\d+)", text, re.M))
    locked = json.loads((small.root / "specs/web.lock").read_text())
    assert taken == len(locked["base"]) + len(small.results())
    assert [
        path
        for path in small.root.glob("cache/*/*")
        if path.suffix in (".deb", ".zst", ".gz", ".json")
    ] == []
    published = {name: sha256 for name, sha256 in alone.items() if name.startswith("out/")}
    assert len(published) >= 4
    assert digests(small.root) == published
    TALLY["images"] += sum(".img" in name for name in published)
    assert leftovers(small) == []


def test_prune_removes_what_nobody_needs_any_more(small: World) -> None:
    small.build()
    cache = small.root / "cache"
    live = next((cache / "index").glob("live-*"))
    small.write("files/motd", "another\n")
    for name in ("index/.new-0123456789abcdef/x", "index/live-0123456789abcdef/x",
                 "images/.strata-0123456789abcdef.tmp"):  # fmt: skip
        (cache / name).parent.mkdir(exist_ok=True)
        (cache / name).touch()
    locks = {path.name for path in (cache / "locks").iterdir()}
    small.build("lock=keep")
    assert not (cache / "index/.new-0123456789abcdef").exists()
    assert not (cache / "images/.strata-0123456789abcdef.tmp").exists()
    small.doit("prune")
    assert live.exists()
    assert leftovers(small) == []
    assert not (cache / "index/live-0123456789abcdef").exists()
    now = {path.name for path in (cache / "locks").iterdir()}
    assert len(locks) == len(now)  # those of the changed layer and its images for the first ones
    assert len(locks - now) == 3
    assert set(small.build("lock=keep").values()) == {"hit"}


def test_who_waits_takes_over_from_who_is_killed(small: World) -> None:
    small.write(
        "scripts/app.sh", "#!/bin/sh\nmkdir -p /boot; sleep 3; echo k > /boot/kernel\n", 0o755
    )
    other = sharing(small, 1)
    first = Running(small, "build", "spec=web")
    first.wait_for("running app.sh")
    second = Running(other, "build", "spec=web")
    second.wait_for("waiting for another build")
    first.kill()
    assert first.end(check=False).code == -signal.SIGKILL
    second.end()
    assert other.results() == {"base": "hit", "app": "built", "/": "built", "/boot": "built"}
    assert set(small.build().values()) == {"hit"}
    right(small)


def test_two_locks_at_once(small: World) -> None:
    runs = [Running(small, "lock", "spec=web") for _ in range(3)]
    for run in runs:
        run.end()
    first = (small.root / "specs/web.lock").read_bytes()
    small.doit("lock", "spec=web")
    assert (small.root / "specs/web.lock").read_bytes() == first
    assert leftovers(small) == []


def test_damage_that_two_builds_find_at_once(small: World) -> None:
    worlds = [small, sharing(small, 1)]
    for world in worlds:
        world.build()
    before = small.outputs()
    path = next((small.root / "cache/layers").glob("base-*.tar.zst"))
    content = bytearray(path.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for image in (small.root / "cache/images").iterdir():
        image.unlink()
    # As if the disk had lost the bit: stat(2) says what it said when the file was whole.
    info = path.stat()
    for world in worlds:
        memory = world.root / ".doit/seen.json"
        known = json.loads(memory.read_text())
        mark = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]
        known[str(path)] = [mark, digest]
        memory.write_text(json.dumps(known))
    said = [run.end(check=False) for run in [Running(world, "build", "spec=web")
                                             for world in worlds]]  # fmt: skip
    for build in said:
        assert build.code == 0 or "run the" in build.err, build.text
    assert [build.code for build in said] != [0, 0]
    said += [run.end() for run in [Running(world, "build", "spec=web") for world in worlds]]
    assert Counter(match[1] for build in said for match in LINE.finditer(build.out)
                   if match[3] == "built")["base"] == 1  # fmt: skip
    assert worlds[0].outputs() == worlds[1].outputs() == before
    right(small)


# ---------------------------------------------------------------- two users


@pytest.mark.parametrize("name", ["unknown", "a/b", "x" * 300, ""])
def test_an_unknown_spec_leaves_no_file(world: World, name: str) -> None:
    world.doit("build", f"spec={name}", check=False)
    world.doit("list", f"spec={name}", check=False)
    assert list((world.root / ".doit").glob("**/*.sqlite3")) == []


def test_one_build_at_a_time_publishes(small: World) -> None:
    """Two of one spec with other locks would leave a mixture in out/."""
    small.build()
    small.edit("file: web.img.gz", "file: other.img.gz")
    descriptor = os.open(small.root / "out/web", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    run = Running(small, "build", "spec=web")
    try:
        run.wait_for("waiting for another build")
        assert not (small.root / "out/web/other.img.gz").exists()
    finally:
        os.close(descriptor)
    assert run.end().code == 0
    assert (small.root / "out/web/other.img.gz").exists()
