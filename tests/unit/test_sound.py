"""What rots in the cache after it was seen whole is packed into nothing, hashed and booted never."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import disk_specs, disks
from support.entries import IMAGE_FACTS
from tasks.builder import Builder
from tasks.errors import DamagedEntry
from tasks.plan.job import ImageJob, Job
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import TestJob as BootJob
from tasks.plan.top_jobs import VerityJob
from tasks.spec.disks import Disk
from tasks.stages.make import build

ABOUT: dict[str, Any] = {"spec": "specs/web.yaml", "arch": "amd64"}


def rotten(builder: Builder) -> Stage:
    """A filesystem in the cache whose last byte is another since it was read."""
    stage = disks.stage("filesystem", "/", ".img")
    with builder.cache.put(stage, IMAGE_FACTS) as target:
        target.write_bytes(disks.content(1 << 20))
    path = builder.cache.file(stage)
    builder.cache.require(stage)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    builder.cache.memory.known[str(path)][0] = builder.cache.memory._mark(path)  # unseen
    assert builder.cache.intact(stage) is not None
    return stage


def packed(part: Stage, container: str) -> Job:
    image = replace(disk_specs.image("/"), container=container)
    stage = disks.stage("image", "/", f".img{'.gz' if container == 'gzip' else ''}")
    return ImageJob(stage=stage, made_of=(part,), image=image, filesystem=part, **ABOUT)


def hashed(part: Stage) -> Job:
    stage = disks.stage("verity", "server", ".verity")
    return VerityJob(stage=stage, made_of=(part,), filesystem=part, uuid="", salt="", **ABOUT)


def booted(part: Stage) -> Job:
    stage = disks.stage("test", "server.uefi", ".tar", scripts=[])
    return BootJob(stage=stage, made_of=(part,), disk=Disk(name="server", size=None), file=part,
                   format="raw", container="raw", firmware="uefi", tests=(), **ABOUT)  # fmt: skip


@pytest.mark.parametrize("what", ["gzip", "raw", "verity", "test"])
def test_what_rotted_since_it_was_seen_is_used_for_nothing(tmp_path: Path, what: str) -> None:
    builder = disks.builder(tmp_path)
    part = rotten(builder)
    job = {"verity": hashed, "test": booted}.get(what, lambda one: packed(one, what))(part)
    with pytest.raises(DamagedEntry, match="its SHA-256 is not its record's; it is dropped"):
        build(job, builder)
    assert builder.cache.get(job.stage) is None
    assert not builder.cache.file(job.stage).exists()
    assert not builder.cache.file(part).exists(), "it is made again by the next run"


def test_what_is_whole_is_packed(tmp_path: Path) -> None:
    builder = disks.builder(tmp_path)
    part = disks.stage("filesystem", "/", ".img")
    content = disks.content(1 << 20)
    with builder.cache.put(part, IMAGE_FACTS) as target:
        target.write_bytes(content)
    job = packed(part, "gzip")
    build(job, builder)
    facts = builder.cache.require(job.stage).facts
    assert facts["raw"]["sha256"] == hashlib.sha256(content).hexdigest()
