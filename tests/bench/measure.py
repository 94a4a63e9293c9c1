"""Run a command and measure it: seconds, memory of its processes, bytes on the disk."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")


@dataclass
class Run:
    """What one run took: seconds; bytes of memory, the largest process and all of them at once (RSS,
    so that what they share counts in each); the most bytes that were on the disk beyond the start, and
    in the scratch folder alone, 0 if it was not looked at."""

    seconds: float
    largest: int
    largest_name: str
    memory: int
    disk: int
    cpu: float
    scratch: int

    def as_json(self) -> dict[str, object]:
        """As it is kept."""
        return asdict(self)


def _resident() -> dict[int, tuple[int, str, int]]:
    """(parent, command, bytes of RSS) of each process."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat", "rb") as file:
                    head, _, rest = file.read().rpartition(b")")
            except OSError:
                continue
            fields = rest.split()
            name = head.partition(b"(")[2].decode("utf-8", "replace")
            found[int(entry.name)] = (int(fields[1]), name, int(fields[21]) * PAGE)
    return found


def _used(path: Path) -> int:
    info = os.statvfs(path)
    return (info.f_blocks - info.f_bfree) * info.f_frsize


def run(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], log: Path,
    check: bool = True, every: float = 0.05, scratch: Path | None = None,
) -> Run:  # fmt: skip
    """Run it to its end; a status other than 0 is an error with the last lines of its log.

    `scratch` is a folder to look at once a second: du(1) takes some of a CPU's time.
    """
    os.sync()
    start = _used(cwd)
    most = {"largest": 0, "memory": 0, "disk": 0, "scratch": 0}
    name = ""
    done = threading.Event()
    before = os.times()
    with log.open("wb") as file:
        began = time.monotonic()
        process = subprocess.Popen([*map(str, argv)], cwd=cwd, env=dict(env), stdout=file,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)  # fmt: skip

        def look() -> None:
            while scratch is not None and not done.wait(1):
                most["scratch"] = max(most["scratch"], folder_bytes(scratch))

        def sample() -> None:
            nonlocal name
            while not done.wait(every):
                table = _resident()
                family = {process.pid}
                grown = True
                while grown:
                    more = {pid for pid, (parent, _n, _b) in table.items() if parent in family}
                    grown = not more <= family
                    family |= more
                sizes = [(table[pid][2], table[pid][1]) for pid in family if pid in table]
                if sizes:
                    most["memory"] = max(most["memory"], sum(size for size, _name in sizes))
                    size, command = max(sizes)
                    if size > most["largest"]:
                        most["largest"], name = size, command
                most["disk"] = max(most["disk"], _used(cwd) - start)

        samplers = [threading.Thread(target=target) for target in (sample, look)]
        for sampler in samplers:
            sampler.start()
        code = process.wait()
        seconds = time.monotonic() - began
        done.set()
        for sampler in samplers:
            sampler.join()
    after = os.times()
    if check and code:
        tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
        raise RuntimeError(f"{argv[0]} failed ({code}), see {log}:\n{tail}")
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Run(seconds, most["largest"], name, most["memory"], most["disk"], cpu, most["scratch"])


def folder_bytes(path: Path) -> int:
    """What a folder takes on the disk, in bytes; each file once, however many names it has."""
    done = subprocess.run(["du", "--summarize", "--block-size=1", path], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    return int(done.stdout.split()[0]) if done.stdout else 0


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def in_turn(rounds: int, ways: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """Each way once in each round, so that the machine's moods meet all of them alike."""
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
            last = found[name][-1]
            print(f"round {number + 1}: {name}: {last.seconds:.2f} s, "
                  f"{last.memory / 1e6:.0f} MB in memory, {last.disk / 1e6:.0f} MB on disk", flush=True)  # fmt: skip
    return found
