"""What has a digest of others in it, beside others than it was made of: it counts no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from root.test_boot_parts import DIGESTS, ESP, ROOT, verity_job
from root.test_disk_files import made, said
from support import boot_trees, disk_specs, disks
from support.boot_trees import KERNEL
from support.disks import MIB, content, file_job
from tasks.errors import DamagedEntry
from tasks.plan.top_jobs import DiskJob
from tasks.stages import disk as stage_disk
from tasks.stages import verity
from tasks.store.stale import made_of


def test_a_map_is_of_the_very_file_that_it_goes_with(tmp_path: Path) -> None:
    """As of one that came from elsewhere, made of a filesystem that has other bytes each time."""
    whole = made(tmp_path / "first")
    other = made(tmp_path / "elsewhere")
    root = other.job.parts["root"]
    other.builder.cache.drop(root)
    disks.put(other.builder, "root", content(9 * MIB + 4096, 9))
    stage_disk.build(other.job, other.builder)
    pulled, _record = other.file("bmap")
    raw = file_job(whole.job, "raw", bmap=True)
    mine, record = whole.file("bmap")
    assert pulled.name == mine.name, "one key"
    assert record["facts"]["made_of"] == {
        raw.stage.entry: whole.builder.cache.require(raw.stage).sha256
    }
    taken = disks.map_job(raw).stage
    facts = json.loads(other.builder.cache.record(taken).read_text())["facts"]
    cache = whole.builder.cache
    cache.drop(taken)
    with cache.put(taken, facts) as target:
        target.write_bytes(pulled.read_bytes())
    assert cache.get(taken) is None
    with pytest.raises(DamagedEntry, match="the cache has no whole file-"):
        cache.require(taken)
    with cache.building(taken, lambda _text: None) as entry:
        assert entry is None
    path, _record = whole.file("bmap")
    said("bmaptool", "copy", "--bmap", path, whole.path, tmp_path / "copy")


def test_a_hash_tree_of_another_filesystem_counts_no_more(tmp_path: Path) -> None:
    """Nor does the uki that has its root hash: the same keys, and no disk of the two would boot."""
    machine = boot_trees.machine(tmp_path)
    cache = machine.builder.cache
    job = verity_job(machine, bytes(3 * MIB))
    verity.build(job, machine.builder)
    boot_trees.fill(machine.tree, "usr/lib/systemd/boot/efi/linuxx64.efi.stub", *KERNEL)
    hashes = cache.require(job.stage)
    first = hashes.facts["root_hash"]
    esp_stage = machine.stage("esp")
    facts = {"raw": DIGESTS, "packed": DIGESTS, "uuid": "", **made_of((job.stage, hashes))}
    with cache.put(esp_stage, facts) as target:
        target.write_bytes(b"a uki with the root hash")
    assert cache.intact(esp_stage) is not None
    # It rots, and is made again, or it comes from elsewhere.
    cache.drop(job.filesystem)
    assert cache.intact(job.stage) is not None, "of what is not there nothing is known"
    job = verity_job(machine, b"x" * (3 * MIB))
    assert [cache.get(one) for one in (job.stage, esp_stage)] == [None, None]
    disk = disk_specs.disk(ESP, ROOT)
    parts = {"root": job.filesystem, "root-verity": job.stage, "esp": esp_stage}
    writing = DiskJob(stage=machine.stage("disk"), spec="specs/web.yaml", arch="amd64", disk=disk, guid="",
                      guids={}, types={}, parts=parts)  # fmt: skip
    with pytest.raises(DamagedEntry, match="run the same command again"):
        stage_disk.build(writing, machine.builder)
    for stage in (job.stage, esp_stage):
        with cache.building(stage, lambda _text: None) as entry:
            assert entry is None
    verity.build(job, machine.builder)
    assert cache.require(job.stage).facts["root_hash"] != first
