"""Boot tests: what is in their keys, and what is refused before anything is booted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import IMAGE, REPO, record
from support.tops import case_of
from tasks.errors import BuildError
from tasks.host import agent, firmware
from tasks.plan import boot_tests
from tasks.plan.inputs import host_inputs
from tasks.plan.plan import make_plan
from tasks.plan.stage import Host, Plan, Stage
from tasks.plan.top_jobs_of import boot_job
from tasks.spec.disks import BootTest, Disk, DiskFile
from tasks.spec.model import Spec

DISK = Disk(
    name="server",
    size=1 << 30,
    firmware=("uefi", "bios"),
    files=(DiskFile(name="s.raw.gz", format="raw", container="gzip"),
           DiskFile(name="s.qcow2", format="qcow2")),
)  # fmt: skip

STAGES = [
    Stage(kind="disk", name="server", key="d" * 32, inputs={}, suffix=".img"),
    Stage(kind="file", name="s.raw.gz", key="1" * 32, inputs={}, suffix=".img.gz"),
    Stage(kind="file", name="s.qcow2", key="2" * 32, inputs={}, suffix=".qcow2"),
]

VERSIONS = {"qemu-system-x86_64": "7.2", "qemu-system-aarch64": "7.2", "ovmf": "2022", "seabios": "1.16",
            "qemu-efi-aarch64": "2022"}  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """With a disk that has two tests, of which one is for UEFI alone."""
    (tmp_path / "specs/tests").mkdir(parents=True)
    scripts = [tmp_path / "specs/tests" / name for name in ("nginx.sh", "boot.py")]
    scripts[0].write_text("true\n")
    scripts[1].write_text("#!/usr/bin/python3\n")
    found = samples.load(tmp_path, repos=[REPO], packages=["one"], images={"/": IMAGE})
    tests = (
        BootTest(script=scripts[0], disk="server", firmware=("uefi", "bios")),
        BootTest(script=scripts[1], disk="server", firmware=("uefi",), timeout=60, memory=2 << 30),
    )
    return replace(found, arch="amd64", disks=(DISK,), tests=tests)


def stages(spec: Spec, **tools: str) -> dict[str, Stage]:
    """The tests' stages by name."""
    host = Host(
        tools={**VERSIONS, **tools}, files={}, scripts={}, debconf={}, settings={}, epoch=0,
        tests=boot_tests.digests(spec),
    )  # fmt: skip
    return {one.name: one for one in boot_tests.test_stages(spec, STAGES, host)}


def test_there_is_one_for_each_disk_and_firmware_and_it_boots_the_smallest_file(spec: Spec) -> None:
    found = stages(spec)
    assert list(found) == ["server.bios", "server.uefi"]
    assert {one.on for one in found.values()} == {(STAGES[2].task,)}
    assert found["server.bios"].inputs["scripts"][0][1] == 300
    assert len(found["server.bios"].inputs["scripts"]) == 1
    assert [seconds for _sum, seconds in found["server.uefi"].inputs["scripts"]] == [300, 60]
    assert found["server.uefi"].inputs["memory"] == 2 << 30
    assert boot_tests.tools(spec) == {"qemu-system-x86_64", "ovmf", "seabios"}
    job = boot_job(found["server.uefi"], spec, STAGES[2])
    assert (job.format, job.container, job.firmware) == ("qcow2", "raw", "uefi")
    assert [one.name for one in job.scripts] == ["nginx.sh", "boot.py"]
    assert [one.program.by_shell for one in job.scripts] == [True, False]


def test_what_makes_other_keys(spec: Spec) -> None:
    before = stages(spec)

    def changed(after: dict[str, Stage]) -> list[str]:
        return [name for name, one in after.items() if one.key != before[name].key]

    assert changed(stages(spec, ovmf="2023")) == ["server.uefi"]
    assert changed(stages(spec, seabios="1.17")) == ["server.bios"]
    assert changed(stages(spec, **{"qemu-system-x86_64": "8"})) == ["server.bios", "server.uefi"]
    longer = (spec.tests[0], replace(spec.tests[1], timeout=61))
    assert changed(stages(replace(spec, tests=longer))) == ["server.uefi"]
    # What the same disk is packed as does not decide whether it boots.
    other = replace(DISK, files=DISK.files[:1])
    assert changed(stages(replace(spec, disks=(other,)))) == []
    spec.tests[0].script.write_text("true # anew\n")
    assert changed(stages(spec)) == ["server.bios", "server.uefi"]


@pytest.mark.parametrize(
    ("locked", "parts"),
    [
        ({}, ("the image has no systemd", "add the package systemd-sysv")),
        ({"version": "247.3-7"}, ("systemd 247.3-7", "252 or later")),
        ({"version": "1:x"}, ("systemd 1:x",)),
    ],
)
def test_an_image_that_takes_no_scripts(
    spec: Spec, locked: dict[str, Any], parts: tuple[str, ...]
) -> None:
    records = [replace(record("systemd"), **locked)] if locked else []
    lock = samples.lock([record("apt"), *records], {"packages": [record("one")]})
    with pytest.raises(BuildError) as error:
        boot_tests.check(stages(spec)["server.uefi"], spec, lock)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize("version", ["252.39-1~deb12u2", "257.8-1~deb13u2"])
def test_an_image_that_takes_them(spec: Spec, version: str) -> None:
    locked = replace(record("systemd"), version=version)
    lock = samples.lock([record("apt"), locked], {"packages": [record("one")]})
    boot_tests.check_locked(spec, lock)
    assert int(version[:3]) >= agent.SYSTEMD


@pytest.mark.starts
def test_what_boots_disks_is_needed_where_a_test_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without it plans all the same, and makes nothing under the key that comes of that."""
    case = case_of(tmp_path, "grub")
    spec, lock, memory = case.spec, case.lock, tmp_path / "tools.json"
    hide = shutil.which

    def planned() -> Plan:
        mirrors = {"mirror": "http://mirror.invalid/debian"}
        return make_plan(spec, lock, host_inputs(spec, lock, mirrors, memory, tmp_path))

    there = planned()
    monkeypatch.setattr(
        "tasks.host.tools.shutil.which",
        lambda name, path: None if name.startswith("qemu-system") else hide(name, path=path),
    )
    no_qemu = planned()
    nowhere = {
        name: replace(one, files=(("/none", ""),)) for name, one in firmware.FIRMWARE.items()
    }
    monkeypatch.setattr(firmware, "FIRMWARE", nowhere)
    lacking = planned()
    for plan in (no_qemu, lacking):
        other = {
            one.task
            for one, was in zip(plan.stages, there.stages, strict=True)
            if one.key != was.key
        }
        assert other == {one.task for one in plan.tests}
    assert {one for one in there.tools if one.startswith("qemu-system")}
    assert not {one for one in lacking.tools if one.startswith("qemu-system")}
    uefi = next(one for one in lacking.tests if one.inputs["firmware"] == "uefi")
    with pytest.raises(
        BuildError, match=r"no command qemu-system-x86_64\n.*apt-get install qemu-system-x86"
    ):
        boot_tests.check(uefi, spec, lock)
    monkeypatch.setattr("tasks.host.tools.shutil.which", hide)
    with pytest.raises(BuildError, match=r"no firmware uefi for amd64.*\n.*apt-get install ovmf"):
        boot_tests.check(uefi, spec, lock)
    monkeypatch.undo()
    with pytest.raises(BuildError, match=r"installed while this ran\n.*run the same command again"):
        boot_tests.check(uefi, spec, lock)
    boot_tests.check(next(one for one in there.tests if one.name == uefi.name), spec, lock)


def test_an_image_that_takes_no_scripts_is_planned(tmp_path: Path) -> None:
    case = case_of(tmp_path, "grub")
    old = replace(case.lock, base=tuple(
        replace(one, version="247.3-7") if one.package == "systemd" else one for one in case.lock.base
    ))  # fmt: skip
    plan = replace(case, lock=old).plan
    with pytest.raises(BuildError, match=r"systemd 247.*\n.*test=off"):
        boot_tests.check(plan.tests[0], case.spec, old)


def test_scripts_and_machines_that_there_are_not(spec: Spec) -> None:
    with pytest.raises(BuildError, match="s390x"):
        boot_tests.tools(replace(spec, arch="s390x"))
    with pytest.raises(BuildError, match="bios: no machine of arm64 has this firmware"):
        boot_tests.tools(replace(spec, arch="arm64"))
    spec.tests[0].script.write_bytes(b"true\r\nfalse\r\n")
    with pytest.raises(BuildError, match="as on Windows"):
        boot_tests.digests(spec)
    spec.tests[0].script.unlink()
    with pytest.raises(BuildError, match=r"nginx\.sh cannot be read: No such file"):
        boot_tests.digests(spec)
    spec.tests[0].script.mkdir()
    with pytest.raises(BuildError, match=r"nginx\.sh is no file"):
        boot_tests.digests(spec)
