"""A boot test's stage, in a machine: the day's one boot of a disk, of a few seconds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from dataclasses import asdict
from pathlib import Path

from root.test_job import machine
from support import tiny_disk
from support.stock import disk_debs
from tasks.formats import compress
from tasks.host import agent
from tasks.plan.entries import Script
from tasks.plan.scripts import Program
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import TestJob as Job
from tasks.spec.disks import BootTest, Disk
from tasks.stages.boottest import build
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

FILE = Stage(kind="file", name="web.img", key="1" * 32, inputs={"a": 1}, suffix=".img")

SCRIPTS = (
    "echo hello from $(uname -s); id -u",
    "#!/bin/sh\ndd if=/dev/urandom bs=1k count=1100 | base64\n",
)

DIGESTS = [[hashlib.sha256(one.encode()).hexdigest(), 60] for one in SCRIPTS]

TEST = Stage(kind="test", name="web.uefi", key="2" * 32, inputs={"scripts": DIGESTS}, suffix=".tar")


def test_a_disk_boots_its_very_file_and_what_it_writes_is_lost(tmp_path: Path) -> None:
    """By UEFI; the scripts run in it, and console, screen and report are kept as the stage's file."""
    (tmp_path / "made").mkdir()
    disk = tiny_disk.make(disk_debs(), tmp_path / "made")
    cache = Cache(tmp_path / "cache", SeenFiles(tmp_path / "seen.json"))
    # For its owner alone: QEMU's user may not open it by its name.
    facts = {"private": True, **dict.fromkeys(("raw", "packed"), asdict(compress.digests(disk)))}
    with cache.put(FILE, facts) as target:
        shutil.copyfile(disk, target)
    before = cache.require(FILE).sha256
    (tmp_path / "scratch/trees").mkdir(parents=True)
    by_shell = Program(by_shell=True, interpreter="/bin/sh")
    job = Job(
        stage=TEST, spec="specs/web.yaml", arch="amd64", made_of=(FILE,),
        disk=Disk(name="web", size=None), file=FILE,
        format="raw", container="raw", firmware="uefi",
        tests=tuple(BootTest(script=Path(name), disk="web", firmware=("uefi",), memory=256 << 20)
                    for name in ("0.sh", "1.sh")),
        scripts=tuple(
            Script(path=f"tests/{number}.sh", where="", program=by_shell, source=None, content=text.encode())
            for number, text in enumerate(SCRIPTS)
        ),
    )  # fmt: skip
    build(job, machine(tmp_path, cache))
    entry = cache.require(TEST)
    assert entry.facts["private"] is True
    assert entry.facts["raw"]["sha256"] == entry.sha256
    with tarfile.open(entry.path) as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    assert sorted(files) == ["console.log", "report.json", "screen.png"]
    report = json.loads(files["report.json"])
    assert report["state"] == "running"
    first, second = report["scripts"]
    assert (first["name"], first["status"], first["output"]) == (
        "0.sh",
        0,
        ["hello from Linux", "0"],
    )
    # A line each, and no more than a MiB of them.
    assert agent.OUTPUT_LIMIT * 0.9 < sum(map(len, second["output"])) <= agent.OUTPUT_LIMIT
    assert b"strata-test.service" in files["console.log"]
    assert files["screen.png"].startswith(b"\x89PNG")
    assert compress.digests(cache.file(FILE)).sha256 == before
    assert os.listdir(tmp_path / "scratch") == ["trees"]
