"""`doit bench`: Strata and its rivals build the same image from one local mirror, in turn.

    rounds=N    how often each way is measured (3); medians are told
    only=LIST   of ours, rivals, growth, disks (all of them); a comma between

Results are kept in .doit/bench/results.json, part by part, and told in docs/performance.md and its
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import disks  # noqa: E402
from floors import floors  # noqa: E402
from measure import Run, folder_bytes, in_turn, run  # noqa: E402
from mirror import Mirror  # noqa: E402
from ours import GROWTH, MORE, PROJECT, SERVER, Checkout, spec, top  # noqa: E402
from report import write_disks, write_report  # noqa: E402
from support.file_server import Server  # noqa: E402

STATE = PROJECT / ".doit/bench"
PARTS = ("ours", "rivals", "growth", "disks")


def growth_specs() -> dict[str, dict[str, Any]]:
    """The specs of the growth curves by packages: what they lock is counted, not wished for."""
    return {
        "packages-1": spec([]),
        "packages-2": spec([*SERVER, *GROWTH[:2]]),
        "packages-3": spec([*SERVER, *GROWTH[:20]]),
        "packages-4": spec([*SERVER, *GROWTH]),
    }


def make_mirror(parts: list[str]) -> Mirror:
    """The mirror with what the parts need; made once, then kept in .doit/bench."""
    mirror = Mirror(STATE / "mirror")
    wanted = {"server": spec(SERVER, signed=False), "more": spec([*SERVER, *MORE], signed=False)}
    if "rivals" in parts:
        # debootstrap knows one suite, whose older versions the seed upgrades afterwards.
        wanted["seed"] = {"repos": spec([], signed=False)["repos"][:1], "packages": [],
                          "base": {"tool": "debootstrap", "variant": "minbase"},
                          "images": spec([])["images"], "fstab": False}  # fmt: skip
        # mkosi installs some of its own choice.
        wanted["mkosi"] = spec([*SERVER, *MORE[:1], "dbus", "systemd-resolved", "libpam-systemd"],
                               signed=False)  # fmt: skip
    if "growth" in parts:
        wanted |= {name: {**one, "repos": spec([], signed=False)["repos"]}
                   for name, one in growth_specs().items()}  # fmt: skip
    marker = STATE / f"mirror-{'-'.join(sorted(wanted))}"
    if not marker.exists():
        shutil.rmtree(STATE / "locking", ignore_errors=True)
        locking = Checkout(STATE / "locking", {}, None)
        locks = []
        for name, content in wanted.items():
            locking.write(name, content)
            locks.append(locking.lock(name))
        mirror.fill(locking.root, locks)
        shutil.rmtree(STATE / "locking")
        marker.touch()
    mirror.publish()
    return mirror


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder beside the project for everything that is built, gone in the end."""
    STATE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=STATE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# ---------------------------------------------------------------- the cases


def ours_cases(ours: Checkout, mirror: Mirror) -> dict[str, Callable[[], Run]]:
    """Each case once: prepares what it is about, builds, and makes sure that it was that case."""
    rounds = dict.fromkeys(("option", "package", "file", "list"), 0)

    def measured(name: str, expected: dict[str, str], **options: Any) -> Run:
        found = ours.build(name, **options)
        got = ours.results(name)
        assert {stage: got.get(stage) for stage in expected} == expected, got
        return found

    hits = {"base base": "hit", "image /": "hit", "image /boot": "hit"}

    def cold() -> Run:
        ours.forget()
        ours.write("server", spec(SERVER))
        return measured("server", {"base base": "built", "image /": "built"})

    def kept() -> Run:
        return measured("server", hits, lock="keep", every=9)

    def latest() -> Run:
        return measured("server", hits, every=9)

    def moved() -> Run:
        mirror.move()
        return measured("server", hits)

    def option() -> Run:
        rounds["option"] += 1
        content = spec(SERVER)
        content["images"]["/"]["label"] = f"round{rounds['option']}"
        ours.write("server", content)
        return measured("server", {"base base": "hit", "image /": "built",
                                   "image /boot": "hit"})  # fmt: skip

    def package() -> Run:
        ours.write("top", top([], "start\n"))
        if rounds["package"] == 0 or not (ours.root / "specs/top.lock").exists():
            ours.build("top")
        ours.write("top", top([MORE[rounds["package"]]], "start\n"))
        rounds["package"] += 1
        return measured("top", {"layer packages": "hit", "layer top": "built", "image /": "built"})

    def file() -> Run:
        rounds["file"] += 1
        ours.write("top", top([MORE[rounds["package"] - 1]], f"{rounds['file']}\n"))
        return measured("top", {"layer packages": "hit", "layer top": "built", "image /": "built"})

    def longer() -> Run:
        ours.write("server", spec([*SERVER, MORE[rounds["list"]]]))
        rounds["list"] += 1
        return measured("server", {"base base": "hit", "layer packages": "built"})

    def restored() -> Run:
        ours.write("server", spec(SERVER))
        ours.build("server")
        clone = Checkout(ours.root.with_name("clone"), ours.urls, mirror.keyring)
        clone.write("server", spec(SERVER))
        shutil.copy(ours.root / "specs/server.lock", clone.root / "specs/server.lock")
        shutil.copytree(ours.root / "cache", clone.root / "cache",
                        ignore=shutil.ignore_patterns("index", "debs"))  # fmt: skip
        found = clone.build("server", lock="frozen")
        assert clone.results("server")["image /"] == "hit"
        shutil.rmtree(clone.root)
        return found

    return {
        "cold": cold, "nothing, lock=keep": kept, "nothing, lock=latest": latest,
        "repository moved": moved, "image option": option, "package in a top layer": package,
        "file of the top layer": file, "package in the long list": longer,
        "restored on a clone": restored,
    }  # fmt: skip


def rival_cases(work: Path, mirror: Mirror, url: str) -> dict[str, Callable[[], Run]]:
    """The rivals' cold builds, and of mkosi what it does better than that."""
    env = {
        "PATH": os.environ["PATH"], "HOME": "/root", "MIRROR": f"{url}/debian",
        "SECURITY": f"{url}/security", "MERGED": f"{url}/merged", "KEYRING": str(mirror.keyring),
        "PACKAGES": " ".join(SERVER),
    }  # fmt: skip

    def script(name: str, words: tuple[str, ...] = (), keep: bool = False, more: str = "") -> Run:
        folder = work / name
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        packages = f"{env['PACKAGES']} {more}".strip()
        return run([HERE / f"{name}.sh", *words], cwd=folder, log=work / f"{name}.log",
                   env={**env, "WORK": str(folder), "PACKAGES": packages})  # fmt: skip

    ways: dict[str, Callable[[], Run]] = {
        "seed": lambda: script("seed"), "expert": lambda: script("expert"),
    }  # fmt: skip
    if shutil.which("mkosi"):
        try:
            script("mkosi")
        except RuntimeError as error:
            print(f"mkosi cannot be measured here: {error}", flush=True)
        else:
            ways |= {
                "mkosi": lambda: script("mkosi"),
                "mkosi: nothing": lambda: script("mkosi", keep=True),
                "mkosi: forced": lambda: script("mkosi", ("--force",), keep=True),
                "mkosi: package": lambda: script("mkosi", ("--force", "--force"), keep=True,
                                                 more=MORE[0]),
            }  # fmt: skip
    return ways


# ---------------------------------------------------------------- growth


def growth(work: Path, mirror: Mirror, urls: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Cold builds of more packages, of larger trees, on fewer CPUs, and of many specs."""
    ours = Checkout(work / "growth", urls, mirror.keyring)
    found: dict[str, list[dict[str, Any]]] = {"packages": [], "trees": [], "cpus": [], "specs": []}

    def note(kind: str, x: float, name: str, took: Run) -> None:
        stages = ours.stages(name)
        tree = ours.tree_bytes(name)
        found[kind].append({"x": x, **took.as_json(), "stages": stages, "tree": tree})
        print(f"growth: {kind} {x:g}: {took.seconds:.1f} s, largest {took.largest_name} "
              f"{took.largest / 1e6:.0f} MB, {took.disk / 1e6:.0f} MB on disk", flush=True)  # fmt: skip

    for name, content in growth_specs().items():
        ours.forget()
        ours.write(name, content)
        took = ours.build(name, scratch=True)
        lock = json.loads((ours.root / f"specs/{name}.lock").read_text())
        count = len(lock["base"]) + sum(len(layer["records"]) for layer in lock["layers"])
        note("packages", count, name, took)
    ours.forget()
    for size in (0.2, 1.0, 4.0):
        name = f"tree-{size:g}".replace(".", "-")
        data = ours.root / "specs" / name
        make_files(data, int(size * 1e9), mirror)
        layer = {"name": "data", "files": {"/srv/data": name}}
        content = spec([], layers=[layer])
        del content["images"]["/boot"]
        ours.write(name, content)
        note("trees", size, name, ours.build(name, scratch=True))
        shutil.rmtree(data)
        ours.forget("cache/images", "out")
    for cpus in ("0", "0-1"):
        ours.forget()
        ours.write("server", spec(SERVER))
        note("cpus", 1 if cpus == "0" else 2, "server", ours.build("server", cpus=cpus))
    ours.forget()
    for number in range(10):
        name = f"spec-{number}"
        ours.write(name, spec([], layers=[{"name": "one", "packages": [MORE[number]]}]))
        note("specs", number + 1, name, ours.build(name))
    return found


def make_files(folder: Path, size: int, mirror: Mirror) -> None:
    """So many bytes of text of the mirror's indexes and of numbers drawn with a fixed seed."""
    import random

    chance = random.Random(1)
    text = (mirror.folder / "debian/dists/bookworm/Packages.all").read_bytes()
    number = 0
    while size > 0:
        length = min(size, chance.choice([3_000, 12_000, 50_000, 200_000, 3_000_000]))
        start = chance.randrange(len(text) - length)
        data = chance.randbytes(length) if number % 4 == 0 else text[start : start + length]
        path = folder / f"{number % 97}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        size -= length
        number += 1


# ---------------------------------------------------------------- all of it


def main() -> int:
    """Measure, keep the results, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"only={','.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    STATE.mkdir(parents=True, exist_ok=True)
    kept = STATE / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    results["commit"] = subprocess.run(["git", "-C", PROJECT, "rev-parse", "--short", "HEAD"],
                                       capture_output=True, text=True, check=False).stdout.strip()  # fmt: skip
    if "disks" in parts:
        with work_folder() as work:
            for name, runs in in_turn(arguments.rounds, disks.cases(work, STATE)).items():
                results[name] = [one.as_json() for one in runs]
        write_disks(results, PROJECT / "docs")
        parts.remove("disks")
    if parts:
        measure_mirrored(parts, arguments.rounds, results)
        write_report(results, PROJECT / "docs")
    kept.write_text(json.dumps(results, indent=1))
    return 0


def measure_mirrored(parts: list[str], rounds: int, results: dict[str, Any]) -> None:
    """What is built from the local mirror, into `results`."""
    mirror = make_mirror(parts)
    with work_folder() as work, Server(mirror.folder) as server:
        urls = {"mirror": f"{server.url}/debian", "security_mirror": f"{server.url}/security"}
        ours = Checkout(work / "ours", urls, mirror.keyring)
        ways: dict[str, Callable[[], Run]] = {}
        if "ours" in parts:
            ways |= {f"ours: {name}": way for name, way in ours_cases(ours, mirror).items()}
        if "rivals" in parts:
            ways |= rival_cases(work, mirror, server.url)
        for name, runs in in_turn(rounds, ways).items():
            results[name] = [one.as_json() for one in runs]
        if "ours" in parts:
            results["waterfall"] = waterfall(ours)
            results["floors"] = floors(ours.root, "server", work / "floors")
            results["sizes"] = {"cache": folder_bytes(ours.root / "cache"),
                                "out": folder_bytes(ours.root / "out/server")}  # fmt: skip
        if "growth" in parts:
            results["growth"] = growth(work, mirror, urls)


def waterfall(ours: Checkout) -> list[dict[str, Any]]:
    """Steps of one more cold build: name, and the seconds at which each began and ended."""
    ours.forget()
    ours.write("server", spec(SERVER))
    began = time.monotonic()
    seen: list[tuple[str, float]] = [("start", 0.0)]
    with subprocess.Popen(ours.argv("build", "spec=server"), cwd=ours.root, env=ours.env,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            # A step's line is indented; a stage's own line ends its last step.
            name = line.strip() if line.startswith("  ") else "end"
            seen.append((name, time.monotonic() - began))
    seen.append(("end", time.monotonic() - began))
    assert process.returncode == 0
    return [{"name": name, "begin": at, "end": seen[number + 1][1]}
            for number, (name, at) in enumerate(seen[:-1])
            if name != "end" or seen[number + 1][1] - at > 0.1]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
