"""How long a fleet takes: measured on this machine, simulated for more workers than it has.

    .venv/bin/python tests/bench/fleet.py PROJECT [WORKERS ...]

PROJECT has specs with locks, and its cache the .debs. For each number of workers all specs are made
in a cache of their own that has nothing but these. What the stages took with the first of the numbers is then put
through the same order (tasks/fleet/schedule.py) for 1 to 64 workers: each makes one stage at a
time, and has all CPUs that it had when it was measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tasks.fleet.schedule import Node, Schedule, simulated
from tasks.plan.stage import Stage

SIMULATED = (1, 2, 4, 8, 16, 64)


def scheduled(stages: Sequence[dict[str, Any]]) -> Schedule:
    """The schedule of what .doit/fleet.json tells."""
    nodes = {}
    for one in stages:
        kind, _, key = one["entry"].partition("-")
        stage = Stage(kind=kind, name=one["title"], key=key, inputs={}, suffix="")
        nodes[one["entry"]] = Node(
            stage=stage, spec=one["specs"][0], specs=one["specs"], below=set(one["below"])
        )
    return Schedule(nodes)


def tenfold(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ten times as many specs on the same common stages: what only one has, each has its own of."""
    own = {one["entry"] for one in stages if len(one["specs"]) == 1}
    found = [one for one in stages if one["entry"] not in own]
    for number in range(10):
        found += [
            {**one, "entry": f"{one['entry']}{number}",
             "below": [f"{name}{number}" if name in own else name for name in one["below"]]}
            for one in stages if one["entry"] in own
        ]  # fmt: skip
    return found


def table(stages: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each number of workers: seconds, and how many times one worker's."""
    seconds = {one["entry"]: float(one["seconds"]) for one in stages}
    alone = simulated(scheduled(stages), seconds, 1)
    lines = [
        "",
        f"{len(stages)} stages",
        "",
        "| workers | simulated | times one |",
        "|---|---|---|",
    ]
    for workers in SIMULATED:
        took = simulated(scheduled(stages), seconds, workers)
        lines.append(f"| {workers} | {took:.1f} s | {alone / took:.1f} |")
    return lines


def measured(project: Path, workers: int) -> dict[str, Any]:
    """Make all specs with so many workers, with nothing at hand but .debs; what it tells."""
    with tempfile.TemporaryDirectory(prefix="fleet-", dir=project) as folder:
        subprocess.run(["cp", "-al", f"{project}/cache/debs", f"{folder}/debs"], check=True)
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tasks", "fleet", "spec=all", f"workers={workers}", "quiet=1"],
            cwd=project, check=True, env={**os.environ, "STRATA_CACHE": folder},
        )  # fmt: skip
        took = time.monotonic() - began
    told: dict[str, Any] = json.loads((project / ".doit/fleet.json").read_text())
    return {**told, "whole": took}


def main(argv: Sequence[str]) -> None:
    """Measure with each number of workers, simulate from the first."""
    project = Path(argv[0]).resolve()
    first: dict[str, Any] | None = None
    print(f"{len(os.sched_getaffinity(0))} CPUs\n\n| workers | measured | work |\n|---|---|---|")
    for text in argv[1:] or ["1", "4"]:
        told = measured(project, int(text))
        first = first or told
        work = sum(one["seconds"] for one in told["stages"])
        print(f"| {text} | {told['whole']:.1f} s | {work:.1f} s |", flush=True)
    assert first is not None
    print(*table(first["stages"]), *table(tenfold(first["stages"])), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
