"""Ctrl-C: the build ends with its processes and mounts, and what was whole is kept."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.refusals import leftovers, results, scratch
from support.world import World


@dataclass(frozen=True)
class Process:
    pid: int
    started: str

    @property
    def alive(self) -> bool:
        fields = _stat(self.pid)
        return bool(fields) and fields[19] == self.started and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; [] for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(root: int) -> set[Process]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(path.name)):
            parents[int(path.name)] = (int(fields[1]), fields[19])
    found = {root}
    while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return {Process(pid, parents[pid][1]) for pid in found - {root}}


def _mounted(folder: Path) -> list[str]:
    """Mounts and loop devices of anything below a folder, in the host's own namespace."""
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines()
             if f"{folder}/" in line]  # fmt: skip
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found += [path.read_text()] if str(folder) in path.read_text() else []
    return found


def _interrupt(world: World, mark: str, wait: float = 0) -> None:
    """Ctrl-C some time after this line: as the terminal does, to the whole process group."""
    before = results(world)
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", "build", "spec=web"], cwd=world.root, text=True,
        env=world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        seen = ""
        for line in process.stdout:
            seen += line
            if mark in line:
                break
        assert mark in seen, seen
        time.sleep(wait)
        deadline = time.monotonic() + 5
        while "filling" in mark and not _mounted(scratch(world)) and time.monotonic() < deadline:
            time.sleep(0.005)
        children = _descendants(process.pid)
        assert bool(_mounted(scratch(world))) == ("filling" in mark)
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "interrupted by SIGINT; what was whole is kept"
    assert "Traceback" not in rest
    assert "ERROR" not in rest
    assert children or "compressing" in mark
    deadline = time.monotonic() + 2
    while any(child.alive for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [child for child in children if child.alive] == []
    assert _mounted(scratch(world)) == []
    assert leftovers(world) == []
    assert results(world) == before


@pytest.mark.root
@pytest.mark.nightly
def test_interrupted_base(world: World) -> None:
    world.doit("lock", "spec=web")
    _interrupt(world, "base: bootstrapping", 0.5)
    assert set(world.build().values()) == {"built"}


@pytest.mark.root
def test_interrupted_layer_and_image(built: World) -> None:
    script = built.root / "specs/scripts/app.sh"
    before = script.read_text()
    script.write_text("#!/bin/sh\nsleep 600\n")
    _interrupt(built, "layer app: running app.sh", 0.2)
    script.write_text(before)
    built.edit("file: web.img.gz, format: ext4", "file: web.img.gz, format: ext4, label: other")
    _interrupt(built, "image /: filling")
    _interrupt(built, "image /: compressing")
    assert built.build() == {"base": "hit", "packages": "hit", "app": "hit", "/": "built",
                             "/boot": "hit"}  # fmt: skip
    assert leftovers(built) == []
