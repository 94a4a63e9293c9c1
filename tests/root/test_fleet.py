"""A fleet makes each stage of all specs once, whichever worker does, and whatever becomes of workers."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.fleets import DEEP, DEEP_BASES, SMALL, SMALL_BASES, cluster, killing, many, told
from support.world import World, says
from tasks.fleet import machine, work
from tasks.fleet.drive import errand_of, there
from tasks.fleet.parcel import Parcel
from tasks.plan.keys import key
from tasks.session.session import Session

pytestmark = pytest.mark.root


def built_alone(world: World, to: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """The digests of all images as one machine makes them, in a checkout of its own."""
    alone = world.clone(to)
    alone.doit("build", f"spec={','.join(names)}", "lock=frozen")
    return {name: alone.outputs(name) for name in names}


def once(stages: list[dict[str, Any]], count: int) -> None:
    """Each was made, and once: the worker that was killed may have just finished one."""
    assert len({one["entry"] for one in stages}) == len(stages) == count
    results = Counter(one["result"] for one in stages)
    assert results["built"] + results["there"] == count
    assert results["there"] <= 1


OWN = "strata-0/build-*/dask"
"""Where a local cluster's workers have theirs, in the driver's scratch."""


def scratch(world: World) -> Path:
    return Path(world.env.get("STRATA_SCRATCH", world.root / ".doit/scratch"))


def test_each_stage_is_made_once_though_a_worker_is_killed(tiny: World, tmp_path: Path) -> None:
    """And one spec that cannot be made is told once, and keeps no other from being made."""
    names = many(tiny, 4, SMALL, SMALL_BASES[:2])
    bad = SMALL.format(base=SMALL_BASES[0], name="bad").replace("/usr:", "/nowhere:")
    tiny.write("bad.yaml", bad)
    (tiny.root / "specs/bad.lock").write_bytes((tiny.root / "specs/web00.lock").read_bytes())
    with killing(scratch(tiny), OWN) as killed:
        said = tiny.doit("fleet", "spec=all", "workers=2", check=False)
    print(said.text)
    assert said.code == 1
    assert len(killed) == 1
    says(said.text, "is gone")
    says(said.out, "image /nowhere: failed on worker", "without it: bad",
         "images./nowhere: the tree has no directory /nowhere")  # fmt: skip
    says(said.err, "ERROR: 1 spec of 5 failed: bad")
    assert said.text.count("the tree has no directory") == 1
    stages = told(tiny)
    assert [one["entry"] for one in stages if one["result"] == "failed"] != []
    once([one for one in stages if one["result"] != "failed"], 2 + 5 + 2)
    assert {name: tiny.outputs(name) for name in names} == built_alone(
        tiny, tmp_path / "alone", names
    )
    assert {stage["result"] for stage in tiny.json("web03")["stages"]} == {"hit", "built"}
    assert tiny.leftovers() == []
    (tiny.root / "specs/bad.yaml").unlink()
    says(
        tiny.doit("fleet", "spec=all").text,
        "4 specs, 8 stages: 0 to be made",
        "unchanged in out/web03/",
    )


def test_workers_elsewhere_share_a_cache_and_nothing_else(tiny: World, tmp_path: Path) -> None:
    """Over TLS; one worker is killed, one has no key, so that nobody would believe what it makes."""
    names = many(tiny, 4, SMALL, SMALL_BASES[:2])
    keys = {name: tmp_path / f"{name}.key" for name in ("one", "two")}
    lines = []
    for name, path in keys.items():
        lines.append(tiny.doit("keygen", f"name={name}").out.strip())
        (tiny.root / path.name).rename(path)
    tiny.env["STRATA_TRUSTED_KEYS"] = " ".join(lines)
    with cluster(tmp_path / "far", tiny.environment()) as far:
        words = [f"cache=file://{tmp_path}/shared", "spec=all", f"scheduler={far.address}"]
        far.worker("none")
        for name, path in keys.items():
            far.worker(name, STRATA_SIGNING_KEY=str(path))
        # The workers' own environment names the mirror, too.
        secret = {"STRATA_MIRROR": tiny.server.url.replace("//", "//user:hunter22@")}
        driver = dataclasses.replace(tiny, env={**tiny.env, **far.tls, **secret})
        with killing(far.folder, "*/dask") as killed:
            said = driver.doit("fleet", *words)
        print(said.text)
        assert len(killed) == 1
        says(said.text, "worker none: it has no STRATA_SIGNING_KEY", "another one is asked")
        stages = told(tiny)
        once(stages, 2 + 4 + 2)
        assert {one["worker"] for one in stages} <= {"one", "two"}
        records = [path.read_text() for path in (tmp_path / "shared/ac").iterdir()]
        assert len([text for text in records if '"stage"' in text]) == 2 + 4 + 2
        # Who comes later, with an empty cache: nothing is made.
        again = driver.clone(tmp_path / "again")
        says(again.doit("fleet", *words).text, "4 specs, 8 stages: 0 to be made")
        made = {name: tiny.outputs(name) for name in names}
        assert {name: again.outputs(name) for name in names} == made
        assert "hunter22" not in far.logs + said.text
        # Without a certificate, nobody is spoken to.
        again.edit("label: web00", "label: other", "web00.yaml")
        again.env = tiny.env
        says(again.doit("fleet", *words, check=False).err, f"ERROR: scheduler={far.address}: ",
             "no certificates are named", "DASK_DISTRIBUTED__COMM__TLS__CA_FILE")  # fmt: skip
    # Of the one that was killed, its next start there removes what is left.
    left = list(far.folder.glob("*/dask/strata-0/build-*"))
    assert [path for path in left if f"build-{killed[0]}-" not in path.name] == []
    assert {"web00": tiny.outputs("web00")} == built_alone(tiny, tmp_path / "alone", ["web00"])


def test_a_worker_whose_tools_are_others_makes_nothing(
    tiny: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would make is not what the key says: the message names the tool."""
    many(tiny, 1, SMALL, SMALL_BASES[:1])
    for name, value in tiny.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tiny.root)
    session = Session(root=tiny.root, variables={"spec": "web00"})
    errand = errand_of(session, session.plan.base, near=True)
    stage = errand.job.stage
    older = dataclasses.replace(stage, inputs={**stage.inputs, "tool_version": "0.8.6-1"})
    older = dataclasses.replace(older, key=key(older.inputs))
    other = dataclasses.replace(errand, job=dataclasses.replace(errand.job, stage=older))
    former = dataclasses.replace(errand, version="0.0.1")
    try:
        for text, message in ((other.packed(), "mmdebstrap is .* the plan was made for 0.8.6-1"),
                              (former.packed(), "the fleet was started by 0.0.1"),
                              ("{}", "this is no errand")):  # fmt: skip
            outcome = work.work(Parcel(text))
            assert outcome["result"] == "unfit"
            assert re.search(message, outcome["message"]), outcome
        assert session.cache.own("layers") == []
        assert work.work(Parcel(errand.packed()))["result"] == "built"
        assert work.work(Parcel(errand.packed()))["result"] == "there"
    finally:
        while machine._idle:
            machine._idle.pop().stack.close()
        session.close()


def test_what_the_driver_has_is_given_to_workers_elsewhere(
    tiny: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several specs, of which the driver's own session is none."""
    many(tiny, 2, SMALL, SMALL_BASES[:1])
    tiny.doit("build", "spec=web00")
    for name, value in tiny.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tiny.root)
    given = {"spec": "web00,web01", "cache": f"file://{tmp_path}/share", "cache_trust": "any",
             "cache_mode": "both"}  # fmt: skip
    session = Session(root=tiny.root, variables=given)
    ones = [
        Session(root=tiny.root, variables={**given, "spec": name}) for name in ("web00", "web01")
    ]
    stages = {stage.entry: stage for one in ones for stage in one.plan.stages}
    likenesses = {entry: like for one in ones for entry, like in one.likenesses.items()}
    try:
        found = there(session, list(stages.values()), likenesses, near=False)
        base = ones[0].plan.base.entry
        assert base in found
        assert {one.plan.base.entry for one in ones} == {base}
        assert session.shared is not None
        assert session.shared.where(stages[base])
        assert ones[1].plan.images[0].entry not in found
    finally:
        for one in (*ones, session):
            one.stack.close()


ELSEWHERE = "scheduler=tls://127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["scheduler=tcp://192.0.2.1:8786"], ["192.0.2.1:8786: without TLS, whoever is on the way", "tls://"]),
        (["scheduler=192.0.2.1:8786"], ["192.0.2.1:8786: without TLS"]),
        (["scheduler=ws://127.0.0.1:8786"], ["ws://127.0.0.1:8786: expected tls://HOST:PORT"]),
        (["scheduler=tls://127.0.0.1"], ["expected tls://HOST:PORT"]),
        ([ELSEWHERE], ["share nothing with this machine but a shared cache", "cache=URL"]),
        ([ELSEWHERE, "workers=2"], ["workers= is of this machine's own"]),
        ([ELSEWHERE, "cache=file:///nowhere/at/all"], ["believes nobody", "STRATA_TRUSTED_KEYS"]),
        (["workers=none"], ["workers=none: expected a number from 1 on"]),
        ([], ["specs/web.lock: the lock is missing", "doit lock spec=web"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_at_once(unbuilt: World, words: list[str], parts: list[str]) -> None:
    said = unbuilt.doit("fleet", "spec=all", *words, check=False)
    assert said.code == 1
    assert said.err.count("ERROR: ") == 1
    assert "Traceback" not in said.text
    says(said.err, *parts)


def test_without_dask_its_absence_is_said(tiny: World, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none/distributed.py").write_text(
        "raise ImportError('No module named distributed')\n"
    )
    said = tiny.doit("fleet", "spec=all", check=False, PYTHONPATH=str(tmp_path / "none"))
    says(
        said.err, "ERROR: a fleet needs Dask, which is not installed", "pip install 'strata[fleet]'"
    )


@pytest.mark.nightly
def test_twenty_specs_on_three_bases_over_four_workers(world: World, tmp_path: Path) -> None:
    """Bases that run, layers that some share, and a worker that is killed while it makes one."""
    names = many(world, 20, DEEP, DEEP_BASES)
    with killing(scratch(world), OWN) as killed:
        said = world.doit("fleet", "spec=all", "workers=4")
    print(said.text)
    assert len(killed) == 1
    # Each spec has a layer and an image of its own.
    once(told(world), 3 + 3 + 20 + 20)
    assert {name: world.outputs(name) for name in names} == built_alone(
        world, tmp_path / "alone", names
    )
    assert world.leftovers() == []


@pytest.mark.nightly
def test_a_stage_that_no_worker_outlives_is_given_up(tiny: World) -> None:
    many(tiny, 1, SMALL, SMALL_BASES[:1])
    with killing(scratch(tiny), OWN, times=5) as killed:
        said = tiny.doit("fleet", "spec=all", "workers=1", check=False)
    assert len(killed) == 4
    says(said.out, "base: failed; without it: web00", "4 workers ended with it", "more memory")
    says(said.err, "ERROR: 1 spec of 1 failed: web00")
    assert tiny.leftovers() == []


WITH_SOURCE = """\
disks:
  fw:
    size: 4M
    loader: none
    partitions:
      - {name: firmware, source: files/firmware.bin}
    files:
      fw.img: {format: raw}
"""


@pytest.mark.nightly
def test_what_only_the_project_has_reaches_workers_elsewhere(world: World, tmp_path: Path) -> None:
    """A project's own .debs go by the shared cache, files and passwords in the job; nothing is told.

    So do files that a disk's partitions hold.
    """
    world.write("files/firmware.bin", "firmware" * 1000)
    (world.root / "specs/debs").mkdir()
    (world.root / "specs/debs/own.deb").write_bytes(world.deb("own").read_bytes())
    world.edit("    packages: [beta]\n", "    packages: [beta]\n    debs: [debs/*.deb]\n")
    world.write(
        "web.yaml",
        (world.root / "specs/web.yaml").read_text() + "root_password: hunter22\n" + WITH_SOURCE,
    )
    world.doit("lock", "spec=web")
    with cluster(tmp_path / "far", world.environment()) as far:
        far.worker("one")
        world.env |= far.tls
        said = world.doit("fleet", "spec=web", f"scheduler={far.address}", "cache_trust=any",
                          f"cache=file://{tmp_path}/shared")  # fmt: skip
        print(said.text)
        assert "hunter22" not in far.logs + said.text
    assert {one["result"] for one in told(world)} == {"built"}
    assert {"web": world.outputs()} == built_alone(world, tmp_path / "alone", ["web"])
    assert b"firmware" * 1000 in (world.root / "out/web/fw.img").read_bytes()


@pytest.mark.nightly
def test_a_fleet_that_is_interrupted_leaves_nothing_behind(tiny: World) -> None:
    many(tiny, 4, SMALL, SMALL_BASES[:2])
    driver = subprocess.Popen(
        [sys.executable, "-m", "tasks", "fleet", "spec=all", "workers=2"], cwd=tiny.root,
        env=tiny.environment(), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(scratch(tiny).glob(f"{OWN}/strata-0/build-*/stage-*")):
        assert time.monotonic() < until
        time.sleep(0.01)
    # As Ctrl-C does: all of the group.
    os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, out
    assert b"Traceback" not in out
    assert b"interrupted by SIGINT" in out
    until = time.monotonic() + 10
    while alive := _group(driver.pid):  # one may be just ending
        assert time.monotonic() < until, alive
        time.sleep(0.1)
    assert tiny.leftovers() == []


DISK = """\
disks:
  {name}:
    size: 32M
    loader: none
    partitions:
      - {{name: root, mount: /, size: rest}}
    files:
      {name}.raw: {{format: raw, bmap: true}}
      {name}.qcow2: {{format: qcow2}}
"""


@pytest.mark.nightly
def test_a_fleet_makes_disks_once_and_the_same(tiny: World, tmp_path: Path) -> None:
    """Whoever makes a file writes the disk of its parts; no stage is made twice."""
    spec = SMALL.partition("images:")[0] + DISK
    names = many(tiny, 2, spec, SMALL_BASES[:1])
    said = tiny.doit("fleet", "spec=all", "workers=2")
    # A base, and of each spec the filesystem, with its own UUID, and three files.
    once(told(tiny), 1 + 2 * 4)
    assert "disk" not in {one["entry"].partition("-")[0] for one in told(tiny)}, said.text
    alone = tiny.clone(tmp_path / "alone")
    alone.doit("build", f"spec={','.join(names)}", "lock=frozen")
    for name in names:
        files = tiny.json(name)["files"]
        assert {f"{name}.raw", f"{name}.raw.bmap", f"{name}.qcow2"} <= {*files}
        assert files == alone.json(name)["files"]
    assert tiny.leftovers() == []
    says(tiny.doit("fleet", "spec=all").text, "2 specs, 11 stages: 0 to be made")


def _group(pid: int) -> list[str]:
    """What still runs of a process group, without what nobody has waited for."""
    listed = ["ps", "-o", "stat=,args=", "-g", str(pid)]
    said = subprocess.run(listed, text=True, capture_output=True, check=False).stdout
    return [line for line in said.splitlines() if not line.startswith("Z")]
