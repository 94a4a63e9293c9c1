"""Killed at any instant, nothing is left or believed, and the next build makes the same bytes.

STRATA_TEST_KILLS sets how often (60 by default), STRATA_TEST_SEED which instants.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from support.file_server import Fault
from support.kills import IMAGES, STATES, Reference, Run, _drop, check, stage_of
from support.traces import SMALL, distrusted, leftovers, scratch
from support.world import PROJECT, World
from tasks.host.files import sweep_temporary

pytestmark = pytest.mark.root


KILLS = int(os.environ.get("STRATA_TEST_KILLS", "60"))


SEED = os.environ.get("STRATA_TEST_SEED") or str(random.SystemRandom().randrange(10**6))


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


EACH = [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)]
"""What ends as it is, and what is handled: SIGINT is by the same handler."""


STAGES = {"lock", "base", "layer", "image", "publish"}
"""Each is hit by a kill, however few there are."""


# ---------------------------------------------------------------- at random instants


def test_killed_at_random_instants(small_built: World) -> None:
    chance = random.Random(SEED)
    reference = Reference(small_built)
    done: dict[str, int] = dict.fromkeys(STATES, 0)
    hit: Counter[str] = Counter()
    real = late = 0
    story = ""
    try:
        while real < KILLS or not hit.keys() >= STAGES:
            # The stage that was hit least: a late signal hits none, and is not counted.
            state = min(STATES, key=lambda name: done[name])
            if real >= KILLS:  # only a stage that no kill was in yet is wanted
                lacking = {"images" if one == "image" else one for one in STAGES - hit.keys()}
                state = next(name for name in STATES if name in lacking)
                assert real < 60 + KILLS, f"no kill was in one of {lacking}"
            reference.measure(state)
            _drop(small_built, *STATES[state])
            dirty = False
            # Of few kills each state gets two: what is never begun with is hardly ever hit.
            for _ in range(chance.randint(3, 6) if 6 * len(STATES) <= KILLS else 2):
                number = SIGNALS[real % 3]
                group = chance.random() < 0.5
                story = f"{state}: {number.name} to the {'group' if group else 'process'}"
                # By chance alone, a stage that takes a tenth of the time is hardly met.
                steps = reference.steps[state]
                unmet = [one for one in steps if not hit[stage_of(one)]]
                anywhere = not unmet and chance.random() < 0.5
                run = Run(small_built, "build", "spec=web", whole=anywhere)
                if anywhere:
                    pause = chance.uniform(0.1, 0.9 * reference.seconds[state])
                    story += f" after {pause:.3f} s"
                else:
                    least = min(hit[stage_of(one)] for one in steps)
                    step = chance.choice([one for one in steps if hit[stage_of(one)] == least])
                    pause = 0 if unmet else chance.choice([0, 0, chance.uniform(0, 0.1)])
                    story += f" {pause:.3f} s after {step.strip()!r}"
                    run.wait_for(step)
                time.sleep(pause)
                ended = run.ended()
                stage = run.stage
                killed = run.kill(number, group=group)
                check(small_built, killed, number, dirty=dirty)
                dirty = dirty or number == signal.SIGKILL
                if ended or killed.code == 0:
                    late += 1
                    assert late < 3 * KILLS, f"{late} signals came too late, {real} in time"
                    break
                real += 1
                done[state] += 1
                hit[stage] += 1
            story = f"the build after {story}"
            reference.finish()
    except BaseException as error:
        error.args = (f"STRATA_TEST_SEED={SEED}, kill {real + 1}, {story}\n{error}",)
        raise
    assert min(done.values()) >= KILLS // len(STATES) - 6, f"{done}, STRATA_TEST_SEED={SEED}"
    # A run that begins with one stage may have been in a later one, so what it said last counts.
    assert hit.keys() >= STAGES, f"{hit}, STRATA_TEST_SEED={SEED}"
    print(f"{real} kills: {done}, in {dict(hit)}; {late} came too late")


def test_killed_while_packages_are_configured(built: World) -> None:
    chance = random.Random(SEED)
    before = built.outputs()
    kept = built.root.parent / "kept"
    subprocess.run(["cp", "-al", built.root / "cache", kept], check=True)
    for number, (words, step, longest) in enumerate([
        *[(["cache/layers/layer-*", "cache/images/*"], "layer packages: ", 0.8)] * NIGHTLY,
        *[(["cache/layers/layer-*", "cache/images/*"], "layer app: ", 0.6)] * NIGHTLY,
        *[(["cache/layers/layer-*", "cache/images/*"], "layer packages: ", 0.8)] * NIGHTLY,
        (["cache/layers/*", "cache/images/*"], "base: bootstrapping", 2.0),
    ]):  # fmt: skip
        shutil.rmtree(built.root / "cache")
        subprocess.run(["cp", "-al", kept, built.root / "cache"], check=True)
        _drop(built, *words)
        run = Run(built, "build", "spec=web")
        run.wait_for(step)
        time.sleep(chance.uniform(0, longest))
        try:
            check(built, run.kill(SIGNALS[number % 3]), SIGNALS[number % 3], dirty=True)
        except AssertionError as error:
            error.args = (f"STRATA_TEST_SEED={SEED}, {step} ({number})\n{error}",)
            raise
    built.build()
    assert built.outputs() == before
    assert leftovers(built) == []
    assert list(scratch(built).glob("build-*")) == []


# ---------------------------------------------------------------- in particular


MOMENTS = [
    "disk server: copying root",
    *(pytest.param(one, marks=pytest.mark.nightly) for one in (
        "file a.qcow2: converting",
        "filesystem /: filling", "filesystem /boot: shrinking", "disk server: copying boot",
        "file a.img.zst: packing", "file a.qcow2: packing", "publish: copying a.qcow2")),
]  # fmt: skip
"""What a build of a disk says that it does."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_a_disk_is_made(plain_disk: World, moment: str) -> None:
    """By each signal, from the tree on; the disk in scratch is nobody's after it."""
    world = plain_disk
    before = world.json()["files"]
    # By night each signal, by day the one that nothing handles.
    for number in SIGNALS if NIGHTLY else SIGNALS[:1]:
        _drop(world, *IMAGES)
        run = Run(world, "build", "spec=web")
        run.wait_for(moment)
        check(world, run.kill(number), number, dirty=number != signal.SIGKILL)
        world.doit("build", "spec=web")
        assert world.json()["files"] == before
        assert leftovers(world) == []
        assert list(scratch(world).glob("build-*")) == []
        assert distrusted(world) == []


def test_a_second_signal_does_not_cut_the_clean_up_short(small: World) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        run = Run(small, "build", "spec=web")
        run.wait_for("base: bootstrapping")
        time.sleep(0.3)
        killed = run.kill(number, again=20)
        assert killed.code == 128 + number
        assert killed.err.strip().endswith("what was whole is kept")
        check(small, killed, number)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGHUP, marks=pytest.mark.nightly), *EACH])
def test_a_mirror_that_never_answers_holds_nobody_up(small: World, number: int) -> None:
    # A backlog that is full: apt's method waits in connect(2), for 30 s if nobody ends it.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        run = Run(small, "lock", "spec=web", f"mirror=http://127.0.0.1:{deaf.getsockname()[1]}")
        run.wait_for("asking")
        time.sleep(0.5)
        killed = run.kill(number)
        for caller in callers:
            caller.close()
    assert killed.code == (-number if number == signal.SIGKILL else 128 + number)
    assert killed.seconds < 5
    check(small, killed, number)


@pytest.mark.parametrize("number", EACH)
def test_killed_while_it_waits_for_another(small: World, number: int) -> None:
    small.server.faults["InRelease"] = Fault(delay=8, times=1)
    first = Run(small, "lock", "spec=web")
    first.wait_for("asking")
    time.sleep(0.3)
    other = small.clone(small.root.parent / "other")
    other.env["STRATA_CACHE"] = str(small.root / "cache")
    second = Run(other, "lock", "spec=web")
    time.sleep(1)
    os.kill(second.pid, number)
    began = time.monotonic()
    code, _out, _err = second.process.end(30)
    assert time.monotonic() - began < 3
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    first.kill(signal.SIGTERM)
    small.doit("lock", "spec=web")


@pytest.mark.parametrize("number", EACH)
def test_killed_while_apt_checks_a_signature(small: World, number: int) -> None:
    """apt's method has files of its own then, and dies with apt: they are in scratch, not in /tmp."""
    for _attempt in range(20):  # they are there for some milliseconds
        run = Run(small, "lock", "spec=web")
        while not (found := list(scratch(small).glob("build-*/repo-*/apt.*.*"))):
            if run.ended():
                break
            time.sleep(0.001)
        if found and not run.ended():
            break
        run.process.end(60)
    assert found, "apt has its files elsewhere"
    check(small, run.kill(number), number)
    small.doit("lock", "spec=web")
    assert list(scratch(small).glob("build-*")) == []


SPARE = 4000 if NIGHTLY else 1500
"""Entries that nobody needs: with them `prune` and `verify` work for a while."""


def test_prune_and_verify_are_interrupted(small_built: World) -> None:
    """While they hold the cache for themselves; `prune` with a part of its work done."""
    chance = random.Random(SEED)
    reference = Reference(small_built)
    debs = small_built.root / "cache/debs"
    needed = set(debs.iterdir())
    inside: Counter[str] = Counter()
    for number in SIGNALS * (1 + NIGHTLY):
        for content in map(str, range(SPARE)):
            name = hashlib.sha256(content.encode()).hexdigest()
            (debs / f"{name}.deb").write_text(content)
        for command in ("verify", "prune"):
            small_built.edit("format: ext2", "format: ext3") if command == "prune" else None
            run = Run(small_built, command)
            while not run.ended():
                left = len(os.listdir(debs)) - len(needed)
                if run.alone() if command == "verify" else left < SPARE:
                    break
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.03))
            killed = run.kill(number)
            check(small_built, killed, number, dirty=True)
            left = len(os.listdir(debs)) - len(needed)
            assert needed <= set(debs.iterdir())
            if killed.code != 0:
                assert ("verified" if command == "verify" else "pruned") not in killed.out
                inside[command] += left == SPARE if command == "verify" else 0 < left < SPARE
            small_built.write("web.yaml", SMALL)
    assert inside["verify"] > 0, f"STRATA_TEST_SEED={SEED}"
    assert inside["prune"] > 0, f"STRATA_TEST_SEED={SEED}"
    small_built.doit("prune")
    assert set(debs.iterdir()) == needed
    reference.finish()


def test_a_reader_that_goes_away_ends_the_build(small: World) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m doit build spec=web 2> ../stderr | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=small.root, env=small.environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == str(128 + signal.SIGPIPE)
    err = (small.root.parent / "stderr").read_text()
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert leftovers(small) == []
    assert list(scratch(small).glob("build-*")) == []
    assert "Traceback" not in small.doit("list", "--all", check=False).err


def test_a_command_whose_starter_died_never_begins(tmp_path: Path) -> None:
    # Killed at any instant of starting a command: before PDEATHSIG is set, too.
    program = textwrap.dedent("""\
        import os, random, signal, sys
        from tasks.host.process import popen
        chance = random.Random(sys.argv[2])
        for number in range(300):
            pid = os.fork()
            if not pid:
                # By default it kills, wherever the process is: as SIGKILL does.
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.004))
                popen(["sh", "-c", f"sleep 0.3; echo > {sys.argv[1]}/{number}"])
                while True:
                    signal.pause()
            chance.random()
            os.waitpid(pid, 0)
        popen(["sh", "-c", f"echo > {sys.argv[1]}.begun"]).wait()
    """)
    subprocess.run([sys.executable, "-c", program, tmp_path, SEED], cwd=PROJECT, check=True)
    time.sleep(0.8)
    assert Path(f"{tmp_path}.begun").exists(), "no command begins at all"
    assert list(tmp_path.iterdir()) == [], f"STRATA_TEST_SEED={SEED}"


def test_where_a_file_needs_a_name_it_is_removed_once_its_writer_is_dead(tmp_path: Path) -> None:
    # As on NFS: open(2) knows no O_TMPFILE.
    program = textwrap.dedent("""\
        import errno, os, sys
        from pathlib import Path
        from tasks.host.files import written
        plain = os.open
        def without(path, flags, *rest, **more):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no such thing")
            return plain(path, flags, *rest, **more)
        os.open = without
        with written(Path(sys.argv[1])) as path:
            path.write_text("whole")
            print(flush=True)
            sys.stdin.read()
    """)
    target = tmp_path / "target"
    for number in (signal.SIGKILL, None):
        with subprocess.Popen(
            [sys.executable, "-c", program, target], cwd=PROJECT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as writer:  # fmt: skip
            assert writer.stdin
            assert writer.stdout
            writer.stdout.readline()
            sweep_temporary(tmp_path)
            assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
            if number:
                writer.send_signal(number)
            writer.stdin.close()
        sweep_temporary(tmp_path) if number else None
        assert [path.name for path in tmp_path.iterdir()] == ([] if number else ["target"])
    assert target.read_text() == "whole"
    assert target.stat().st_mode & 0o777 == 0o644
