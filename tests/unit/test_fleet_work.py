"""What a worker of a fleet looks at before it makes a stage, and what is sent to one elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import disks
from tasks.errors import BuildError
from tasks.fleet import parcel, work
from tasks.fleet.drive import _needs
from tasks.host import arches, firmware, trials
from tasks.plan.job_json import dump, load
from tasks.plan.recipes import stage_of
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import BiosJob, EspJob
from tasks.plan.top_jobs import TestJob as BootJob
from tasks.session import needs
from tasks.spec.disks import Disk
from tasks.stages import disk as stage_disk
from tasks.stages import file as stage_file
from tasks.version import VERSION

HERE = {"qemu-system-x86_64": "9", "ovmf": "2025", "mkfs.vfat": "4"}
"""The worker's own tools and firmware."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A worker's host that has all, as far as it is asked."""
    here = dict(HERE)

    def versions(names: list[str], _memory: Path) -> dict[str, str]:
        return {name: here[name] for name in names}

    def find(arch: str, name: str, where: str) -> None:
        if firmware.package_of(arch, name, where) not in here:
            raise BuildError("the host has no firmware", "apt-get install ovmf")

    monkeypatch.setattr(work, "need_root", lambda _what: None)
    monkeypatch.setattr(work, "tool", lambda name: name)
    monkeypatch.setattr(work, "tool_versions", versions)
    monkeypatch.setattr(firmware, "find", find)
    monkeypatch.setattr(trials, "sandbox", lambda _folder: None)
    return here


def check(job: Any) -> None:
    errand: Any = SimpleNamespace(job=job, version=VERSION)
    machine: Any = SimpleNamespace(tried=set(), state=Path("/nowhere"), scratch=Path("/nowhere"))
    work._check(errand, machine)


def boot_job(name: str = "uefi", **inputs: Any) -> BootJob:
    given = {"firmware": name, "firmware_version": "2025", "tools": {"qemu-system-x86_64": "9"}}
    stage = stage_of("test", f"web.{name}", ".tar", {**given, **inputs})
    disk = Disk(name="web", size=None)
    return BootJob(stage=stage, spec="specs/web.yaml", arch="amd64", disk=disk, file=stage,
                   format="raw", container="raw", firmware=name, tests=())  # fmt: skip


def test_a_worker_with_another_firmware_tests_nothing(host: dict[str, str]) -> None:
    """Else it would sign a test under the driver's firmware; one without any may not fail it."""
    check(boot_job())
    host["ovmf"] = "2022"
    with pytest.raises(work.Unfit, match="ovmf is 2022 there, and the plan was made for 2025"):
        check(boot_job())
    del host["ovmf"]
    with pytest.raises(work.Unfit, match="the host has no firmware"):
        check(boot_job())


def test_who_has_no_firmware_for_uefi_may_test_by_bios() -> None:
    assert _needs(boot_job().stage) != _needs(boot_job("bios").stage)
    assert _needs(boot_job().stage) == _needs(boot_job(memory=1).stage)


# ---------------------------------------------------------------- programs of another architecture


def part(kind: str, loader: str = "") -> Any:
    about: dict[str, Any] = {"spec": "specs/web.yaml", "arch": "arm64"}
    inputs = {"arch": "arm64", **({"loader": loader} if loader else {})}
    about["stage"] = stage_of(kind, "web", ".img", inputs)
    if kind == "bios":
        return BiosJob(config="", **about)
    return EspJob(disk=Disk(name="web", size=None), size=1, serial="", **about)


@pytest.mark.parametrize(
    ("job", "refused"),
    [(part("bios"), True), (part("esp", "uki"), True), (part("esp", "grub"), False),
     (part("esp", "systemd-boot"), False)],
)  # fmt: skip
def test_a_worker_takes_no_stage_whose_programs_it_cannot_run(
    host: dict[str, str], monkeypatch: pytest.MonkeyPatch, job: Any, refused: bool
) -> None:
    monkeypatch.setattr(arches, "native", lambda arch: arch == "amd64")
    refusal = BuildError("this host cannot run programs of arm64")
    monkeypatch.setattr(arches, "refusal", lambda _arch, _folder: refusal)
    assert needs.runs(job.stage) is refused
    if refused:
        with pytest.raises(work.Unfit, match="cannot run programs of arm64"):
            check(job)
    else:
        check(job)


def test_of_bases_only_those_that_are_configured_run_programs() -> None:
    def base(variant: str) -> Stage:
        return stage_of("base", "base", ".tar.zst", {"variant": variant})

    assert [needs.runs(base(one)) for one in ("extract", "custom")] == [False, True]
    assert needs.runs(stage_of("layer", "app", ".tar.zst", {}))
    assert not needs.runs(stage_of("filesystem", "/", ".img", {}))


# ---------------------------------------------------------------- files that partitions hold


def with_source(folder: Path) -> tuple[Any, Callable[[], Any]]:
    """A builder with the project, and the job of a file of a disk with a file of that."""
    builder = disks.builder(folder)
    path = builder.reach.root / "firmware.bin"
    path.write_bytes(b"firmware" * 1000)

    def job() -> Any:
        made = disks.disk(disks.part("firmware", kind="source"), size=4 << 20)
        return disks.file_job(disks.disk_job(made, {}, sources={"firmware": path}), "raw")

    return builder, job


def test_a_disk_with_a_file_of_the_project_is_made_without_the_project(tmp_path: Path) -> None:
    builder, job = with_source(tmp_path / "here")
    one = job()
    stage_disk.build(one.disk, builder)
    wanted = stage_disk.path(builder.scratch, one.disk.stage).read_bytes()
    sent = load(dump(parcel.carrying(one, builder.reach.root)))
    there = disks.builder(tmp_path / "there")
    there = replace(there, reach=replace(there.reach, root=Path("/nonexistent")))
    (builder.reach.root / "firmware.bin").unlink()
    stage_file.build(sent, there)
    assert there.cache.require(sent.stage).path.read_bytes() == wanted
    assert b"firmware" * 1000 in wanted
    # What is sent must be what the plan saw.
    other = replace(sent.disk, held={"firmware": b"another!" * 1000})
    with pytest.raises(BuildError, match="was changed since the build began"):
        stage_disk.build(other, there)


def test_what_is_not_sent_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, job = with_source(tmp_path)
    root, one = builder.reach.root, job()
    where = r"^specs/web\.yaml: disks\.server\.partitions\.firmware\.source: .*firmware\.bin"
    monkeypatch.setattr(parcel, "HELD_LIMIT", 7999)
    with pytest.raises(BuildError, match=where + ": workers elsewhere are sent") as caught:
        parcel.carrying(one, root)
    assert "build the disk here" in caught.value.hint
    monkeypatch.setattr(parcel, "HELD_LIMIT", 8000)
    held: Any = parcel.carrying(one, root)
    assert (
        hashlib.sha256(held.disk.held["firmware"]).hexdigest()
        == (one.disk.stage.inputs["sources"]["firmware"][0])
    )
    (tmp_path / "secret").write_bytes(b"x")
    (root / "firmware.bin").unlink()
    (root / "firmware.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(BuildError, match=where + " cannot be read: it is outside the project"):
        parcel.carrying(one, root)
