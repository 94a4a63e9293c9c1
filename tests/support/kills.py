"""A run of doit that is killed, what must hold after it, and from which caches it begins."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import forks
from support.tally import TALLY
from support.traces import (
    distrusted,
    family,
    leftovers,
    processes,
    scratch,
    settle,
    touching,
)
from support.world import World


@dataclass
class Killed:
    """A run of doit that got a signal; `ready`: its handlers were there by then."""

    pid: int
    code: int
    out: str
    err: str
    ready: bool
    seconds: float


STEP = re.compile(r" +\d+:\d\d  (\w[^:]*: .*)")
"""A line that says what a stage does now."""


def steps_of(said: str) -> list[str]:
    """What a build has said that it does, without the times."""
    return [found[1] for line in said.splitlines() if (found := STEP.match(line))]


def stage_of(step: str) -> str:
    """lock, base, layer, image or publish."""
    return step.partition(":")[0].partition(" ")[0]


class Started:
    """doit from the start, as `python -m doit`: a signal may come while Python still loads it."""

    def __init__(self, world: World, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.files = [world.root.parent / name for name in ("stdout", "stderr")]
        with self.files[0].open("wb") as out, self.files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "doit", *words], cwd=world.root, stdout=out, stderr=err,
                stdin=subprocess.DEVNULL, start_new_session=True, env=dict(env),
            )  # fmt: skip
        self.pid = self.process.pid

    @property
    def out(self) -> str:
        """What it has written so far."""
        return self.files[0].read_text()

    def ended(self) -> bool:
        """Whether it has, without waiting for it."""
        return self.process.poll() is not None

    def end(self, seconds: float) -> tuple[int, str, str]:
        """Its exit status, once it has ended, and all that it wrote."""
        return self.process.wait(timeout=seconds), self.out, self.files[1].read_text()


class Run:
    """doit in a process group of its own; `whole`: from the start, not from where it is loaded."""

    def __init__(self, world: World, *words: str, whole: bool = False) -> None:
        self.world = world
        env = world.environment()
        assert forks.fits(world.root, world.env)
        self.process = (Started(world, words, env) if whole
                        else forks.Forked(words, world.root, env, group=True))  # fmt: skip
        self.pid = self.process.pid

    def ended(self) -> bool:
        """Whether it has."""
        return self.process.ended()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until it has printed this, or has ended."""
        deadline = time.monotonic() + seconds
        while text not in (out := self.process.out) and not self.ended():
            assert time.monotonic() < deadline, f"no {text!r} in:\n{out}"
            time.sleep(0.002)

    @property
    def stage(self) -> str:
        """What it said last that it does: lock, base, layer, image, publish; `start` before that."""
        said = steps_of(self.process.out)
        return stage_of(said[-1]) if said else "start"

    def alone(self) -> bool:
        """Whether it holds the cache for itself, as prune and verify do at work: proc(5), locks."""
        path = Path(self.world.root / "cache/locks/prune")
        lock = rf"FLOCK +ADVISORY +WRITE {self.pid} \S+:{path.stat().st_ino} "
        return re.search(lock, Path("/proc/locks").read_text()) is not None

    def ready(self) -> bool:
        """Whether SIGTERM is caught: before, python itself and doit are being loaded."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return True
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def kill(self, number: int, *, group: bool = False, again: int = 0) -> Killed:
        """Send the signal, see that everything ends, and that nothing is left on the host."""
        ready = self.ready()
        members = family(self.pid)
        for turn in range(1 + again):
            time.sleep(0.003 * bool(turn))
            if not self.ended():
                (os.killpg if group else os.kill)(self.pid, number)
        sent = time.monotonic()
        code, out, err = self.process.end(30)
        took = time.monotonic() - sent

        def alive() -> list[str]:
            now = processes()
            return [str(pid) for pid, start in members.items() if now.get(pid, (0, ""))[1] == start]

        assert settle(alive) == [], "processes of the build are left"
        world = self.world
        marks = [str(world.root), str(scratch(world)), f"build-{self.pid}-"]
        left = settle(lambda: touching(marks, ours={os.getpid()}))
        assert left == []
        # apt's, whose configuration names the checkout.
        assert [path for path in Path("/tmp").glob("apt.conf.*")
                if str(world.root) in path.read_text(errors="replace")] == []  # fmt: skip
        TALLY["kills"] += code != 0
        return Killed(self.pid, code, out, err, ready, took)


def check(world: World, killed: Killed, number: int, *, dirty: bool = False) -> None:
    """What must hold after a signal; `dirty`: an earlier SIGKILL may have left something, too."""
    hard = number == signal.SIGKILL
    if hard:
        assert killed.code in (-signal.SIGKILL, 0)
    elif killed.ready:
        assert killed.code in (128 + number, 0)
        assert "Traceback" not in killed.err, killed.err
        assert "Exception ignored" not in killed.err, killed.err
    assert leftovers(world, killed=hard or dirty) == []
    if not hard:
        mine = "build-*" if not dirty else f"build-{killed.pid}-*"
        assert list(scratch(world).glob(mine)) == []
    assert distrusted(world) == []


def _drop(world: World, *patterns: str) -> None:
    for pattern in patterns:
        for path in world.root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


IMAGES = ("cache/images/*", "out")


LAYER = ("cache/layers/layer-*", *IMAGES)


STATES: dict[str, tuple[str, ...]] = {
    "lock": ("specs/web.lock", "cache/index", "out"),
    "download": ("cache/debs/*", "cache/layers/*", *IMAGES),
    "base": ("cache/layers/*", *IMAGES),
    "layer": LAYER,
    "images": IMAGES,
    "second image": ("cache/images/*[!-]", "out"),
    "publish": ("out", ".doit/*.json"),
}
"""What is taken away before a run, by the stage that it then begins with."""


class Reference:
    """An undisturbed build: its bytes, and how long each part of it takes."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.doit("build", "spec=web")
        self.bytes = self.now()
        self.steps: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    def measure(self, state: str) -> None:
        """Build from a state, if that was not done yet."""
        if state in self.steps:
            return
        world = self.world
        _drop(world, *STATES[state])
        began = time.monotonic()
        said = world.doit("build", "spec=web").out
        self.seconds[state] = time.monotonic() - began
        self.steps[state] = steps_of(said)
        assert self.now() == self.bytes, state

    def now(self) -> dict[str, str]:
        """SHA-256 of lock, layers and images."""
        root = self.world.root
        return {
            os.path.relpath(path, root): hashlib.sha256(path.read_bytes()).hexdigest()
            for pattern in ("specs/*.lock", "cache/layers/*.zst", "cache/images/*.gz", "out/*/*.gz")
            for path in root.glob(pattern)
        }

    def finish(self) -> None:
        """The next build, undisturbed: the same bytes, and no trace of those before it."""
        world = self.world
        self.world.doit("build", "spec=web", check=True)
        assert self.now() == self.bytes
        assert leftovers(world) == []
        assert list(scratch(world).glob("build-*")) == []
        assert distrusted(world) == []
