"""A job is plain data: written as JSON, it is built on a machine that has no checkout at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.trees import only_root
from support.world import World
from tasks.builder import Builder, Reach
from tasks.host.log import Log
from tasks.plan.entries import Entry, Script
from tasks.plan.job import Job, LayerJob
from tasks.plan.job_json import dump, load
from tasks.plan.scripts import Program
from tasks.plan.stage import Stage
from tasks.rootfs.overlay import Trees
from tasks.session.session import Session
from tasks.stages.make import build
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles


def test_what_files_hold_is_in_the_json(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"\xff\0content")
    stage = Stage(kind="layer", name="app", key="0" * 32, inputs={"files": [["/a", "file"]]},
                  suffix=".tar.zst")  # fmt: skip
    job = LayerJob(
        stage=stage, spec="specs/web.yaml", arch="amd64", below=(stage,),
        entries=(Entry(target="/a", kind="file", source=source, content=b"", mode=0o644,
                       owner="0:0"),),
        given_below={"/etc/x": "base"},
        scripts=(Script(path="x.sh", where="here", source=source, env={"A": "b"},
                        program=Program(by_shell=True, interpreter="/bin/sh")),),
    )  # fmt: skip
    text = json.dumps(dump(job))
    source.unlink()
    again = load(json.loads(text))
    assert isinstance(again, LayerJob)
    assert again.entries[0].content == b"\xff\0content"
    assert again.entries[0].identity()[2] != "x"
    assert again.scripts[0].content == b"\xff\0content"
    assert again.scripts[0].env == {"A": "b"}
    assert (again.stage, again.below, again.given_below) == (stage, (stage,), {"/etc/x": "base"})
    assert json.dumps(dump(again)) == text


def test_what_is_no_job_is_refused() -> None:
    for value in ({"kind": "Popen", "fields": {}}, {"kind": "LayerJob", "fields": {"x": 1}}):
        with pytest.raises((KeyError, TypeError)):
            load(value)


@pytest.fixture
def jobs(built: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, list[Job]]]:
    """A build with settings, too, and the jobs of all of its stages."""
    only_root(built)
    built.write("web.yaml", (built.root / "specs/web.yaml").read_text() + "hostname: h.example\n"
                "root_password: hunter22\n")  # fmt: skip
    built.build()
    for name, value in built.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(built.root)
    session = Session(root=built.root, variables={"spec": "web"})
    yield built, [session.job(stage) for stage in session.plan.stages]
    session.close()


@pytest.mark.root
def test_a_job_is_built_where_there_is_no_checkout(
    jobs: tuple[World, list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, all_jobs = jobs
    here = Cache(world.root / "cache", SeenFiles(tmp_path / "seen.json"))
    texts = [json.dumps(dump(job)) for job in all_jobs]
    (world.root / "specs").rename(tmp_path / "specs-elsewhere")
    for number, text in enumerate(texts):
        job = load(json.loads(text))
        folder = tmp_path / f"machine-{number}"
        there = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
        shutil.copytree(here.debs, there.debs)
        for stage in job.below:
            for path in (here.file(stage), here.record(stage)):
                target = there.root / path.relative_to(here.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        (folder / "scratch/trees").mkdir(parents=True)
        monkeypatch.chdir(folder)
        build(job, machine(folder, there))
        made, known = there.get(job.stage), here.get(job.stage)
        assert made is not None
        assert known is not None
        assert made.sha256 == known.sha256, job.stage.task
    assert len(texts) == 5


def machine(folder: Path, cache: Cache) -> Builder:
    """What a machine lends: nothing of any checkout."""
    scratch = folder / "scratch"
    fields: dict[str, Any] = {
        "cache": cache, "scratch": scratch, "trees": Trees(scratch / "trees", cache),
        "log": Log(None), "reach": Reach(arch="amd64"), "state": folder,
    }  # fmt: skip
    return Builder(**fields)
