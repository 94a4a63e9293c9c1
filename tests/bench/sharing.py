"""What a shared cache saves: a fresh clone with another machine's cache, beside the bare download.

    .venv/bin/python tests/bench/sharing.py [SPEC] [RATE ...]

The spec (server) is built once and pushed to nginx. Then, for each rate of a connection in MB/s (0: as fast as it goes),
a clone with an empty cache builds it, and curl fetches the same images; three times in turn,
medians. At last one package more, in the top layer.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.servers import nginx  # noqa: E402
from support.world import checkout  # noqa: E402

ROUNDS = 3

TOP = "layers: [{name: tools, packages: [less]}]\n"
"""Put on top of the spec, to have a package there that can change."""


def strata(where: Path, *words: str, **env: str) -> float:
    """Seconds of a command in a checkout; its output is shown if it fails."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tasks", *words], cwd=where, check=False, text=True,
                          capture_output=True, env={**os.environ, **env})  # fmt: skip
    took = time.monotonic() - began
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return took


def clone(folder: Path, specs: Path) -> Path:
    """A fresh checkout with these specs and their locks."""
    shutil.rmtree(folder, ignore_errors=True)
    checkout(folder, specs)
    (folder / ".doit/tools.json").unlink()
    return folder


def results(where: Path, spec: str) -> dict[str, str]:
    """Each stage's result in the last build."""
    stages = json.loads((where / f"out/{spec}/build.json").read_text())["stages"]
    return {stage["name"]: stage["result"] for stage in stages}


def traffic(log: Path) -> str:
    """What nginx has answered since, and empties its log."""
    rows = [line.split() for line in log.read_text().splitlines()]
    log.write_text("")
    total = sum(int(row[3]) for row in rows)
    return f"{len(rows)} requests, {total / 1e6:.1f} MB"


def main(spec: str, rates: Sequence[int]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("STRATA_SCRATCH")) as name:
        folder = Path(name)
        first = clone(folder / "first", ROOT / "specs")
        path = first / f"specs/{spec}.yaml"
        path.write_text(path.read_text() + TOP)
        print(f"{spec}: built in {strata(first, 'build', f'spec={spec}'):.1f} s", flush=True)
        strata(first, "keygen", "name=bench")
        trust = subprocess.run([sys.executable, "-m", "tasks", "keygen", "name=other"], cwd=first,
                               check=True, text=True, capture_output=True).stdout.strip()  # fmt: skip
        key = {"STRATA_SIGNING_KEY": str(first / "other.key")}
        files: Path | None = None
        for rate in rates:
            with nginx(folder / f"nginx-{rate}", rate=f"{rate}m" if rate else "", limit="0") as url:
                log = folder / f"nginx-{rate}/access.log"
                if files is None:
                    took = strata(first, "push", f"spec={spec}", f"cache={url}", **key)
                    print(f"pushed in {took:.1f} s: {traffic(log)}", flush=True)
                    files = folder / f"nginx-{rate}/files"
                else:
                    shutil.copytree(files, folder / f"nginx-{rate}/files", dirs_exist_ok=True)
                measure(spec, rate, url, log, folder, first, trust)


def measure(
    spec: str, rate: int, url: str, log: Path, folder: Path, first: Path, trust: str
) -> None:
    """One rate: a clone's build beside the bare download of what it fetches."""
    names = []
    for path in (first / "cache/images").glob("*.json"):
        names.append(json.loads(path.read_text())["file"]["sha256"])
    env = {"STRATA_TRUSTED_KEYS": trust, "STRATA_REMOTE": url}
    ours, bare = [], []
    for _round in range(ROUNDS):
        other = clone(folder / "other", first / "specs")
        ours.append(strata(other, "build", f"spec={spec}", "lock=frozen", **env))
        said = traffic(log)
        assert set(results(other, spec).values()) == {"pulled", "skipped"}, results(other, spec)
        began = time.monotonic()
        argv = ["curl", "-sf", "--parallel", *(f"{url}/cas/{one}" for one in names)]
        for number in range(len(names)):
            argv += ["-o", str(folder / f"bare-{number}")]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        bare.append(time.monotonic() - began)
        traffic(log)
    us, them = statistics.median(ours), statistics.median(bare)
    print(f"{rate or 'no'} MB/s: clone {us:.2f} s ({said}), bare download {them:.2f} s: {us / them:.2f} times",
          flush=True)  # fmt: skip
    path = other / f"specs/{spec}.yaml"
    path.write_text(path.read_text().replace(TOP, TOP.replace("less", "less, nano")))
    shutil.rmtree(other / "cache")
    took = strata(other, "build", f"spec={spec}", "lock=keep", **env)
    print(f"  one package more: {took:.1f} s, {traffic(log)}, {results(other, spec)}", flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0] if words else "server", [int(word) for word in words[1:]] or [0, 20])
