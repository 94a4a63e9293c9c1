"""Boot tests: their stages, one for each disk and firmware, and the jobs of these.

disk server ─→ file server.qcow2 ─┬→ test server.bios
                                  └→ test server.uefi
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence

from ..errors import BuildError
from ..host import firmware, qemu, safe
from ..host.agent import SYSTEMD
from ..spec.disks import BootTest, Disk
from ..spec.model import Spec
from . import scripts
from .entries import Script
from .keys import key
from .lockfile import Record
from .stage import Host, Stage
from .top_jobs import TestJob

RECIPE = 1
"""Raised when a test's stage would do something else with the same inputs."""

SUFFIX = ".tar"

SCRIPT_LIMIT = 8 << 20
"""Bytes of a script: it goes into the machine by a serial port."""


def tests_of(spec: Spec, disk: Disk, name: str) -> tuple[BootTest, ...]:
    """The tests that run in a disk under a firmware, in the spec's order."""
    return tuple(one for one in spec.tests if one.disk == disk.name and name in one.firmware)


def firmwares(spec: Spec, disk: Disk) -> list[str]:
    """The kinds of firmware that a disk is tested under, sorted."""
    return sorted({name for one in spec.tests if one.disk == disk.name for name in one.firmware})


def test_tools(spec: Spec) -> list[str]:
    """The tools, and the packages of firmware, whose versions are in the keys of a spec's tests.

    BuildError for an architecture that has no machine, or not that firmware.
    """
    if not spec.tests:
        return []
    found = {_machine(spec).program}
    for disk in spec.disks:
        found |= {
            firmware.package_of(spec.arch, one, _where(spec)) for one in firmwares(spec, disk)
        }
    return sorted(found)


def test_scripts(spec: Spec) -> dict[str, Script]:
    """The scripts of a spec's tests by their path; BuildError for one that cannot be run."""
    return {str(one.script): _script(one, spec) for one in spec.tests}


def _script(test: BootTest, spec: Spec) -> Script:
    path, where = test.script, _where(spec)
    try:
        content = safe.read_bytes(path, SCRIPT_LIMIT + 1)
    except OSError as error:
        if error.errno in (errno.EISDIR, safe.NOT_REGULAR):
            raise BuildError(f"{where}: {path} is no file") from error
        raise BuildError(f"{where}: {path} cannot be read: {error.strerror}") from error
    if len(content) > SCRIPT_LIMIT:
        raise BuildError(f"{where}: {path} has more than {SCRIPT_LIMIT >> 20} MiB")
    program = scripts.program(content, where, str(path), spec.arch)
    return Script(path=str(path), where=where, program=program, source=path)


def need_systemd(spec: Spec, records: Sequence[Record]) -> None:
    """BuildError unless a spec's tests can run in what is locked."""
    if not spec.tests:
        return
    found = [one.version for one in records if one.package == "systemd"]
    match = re.match(r"(?:[0-9]+:)?([0-9]{1,6})", found[0]) if found else None
    if match is not None and int(match[1]) >= SYSTEMD:
        return
    has = f"the image has systemd {found[0]}" if found else "the image has no systemd"
    raise BuildError(
        f"{_where(spec)}: {has}: a boot test needs systemd {SYSTEMD} or later, by which scripts "
        "come into the machine",
        "add the package systemd-sysv" if not found else
        "test an image of Debian 12, Ubuntu 23.04 or later, or leave out tests",
    )  # fmt: skip


def test_stages(
    spec: Spec,
    disk_stages: Mapping[str, Stage],
    file_stages: Mapping[str, Stage],
    digests: Mapping[str, str],
    host: Host,
) -> list[Stage]:
    """The stages of a spec's tests, sorted by name: `DISK.FIRMWARE`.

    `disk_stages` are the disks' by their names, `file_stages` those of the files that are booted,
    `digests` the scripts' SHA-256 by their path, `host.tools` has what `test_tools` names.
    """
    found = []
    for disk in spec.disks:
        for name in firmwares(spec, disk):
            tests = tests_of(spec, disk, name)
            machine = _machine(spec)
            package = firmware.package_of(spec.arch, name, _where(spec))
            inputs = {
                "stage": "test",
                "recipe": RECIPE,
                "disk": disk_stages[disk.name].key,
                "firmware": name,
                "memory": max(one.memory for one in tests),
                "scripts": [[digests[str(one.script)], one.timeout] for one in tests],
                "tools": {one: host.tools[one] for one in sorted({machine.program, package})},
                "parent": disk_stages[disk.name].tree,
            }
            found.append(
                Stage(
                    kind="test",
                    name=f"{disk.name}.{name}",
                    key=key(inputs),
                    inputs=inputs,
                    suffix=SUFFIX,
                    on=(file_stages[disk.name].task,),
                )
            )
    return sorted(found, key=lambda one: one.name)


def test_job(spec: Spec, stage: Stage, file: Stage) -> TestJob:
    """What a test's stage is made of; `file` is the booted file's stage, and no tree is read."""
    disk_name, name = stage.name.rsplit(".", 1)
    disk = next(one for one in spec.disks if one.name == disk_name)
    booted = booted_file(disk)
    tests = tests_of(spec, disk, name)
    return TestJob(
        stage=stage,
        spec=str(spec.path),
        arch=spec.arch,
        foreign=spec.foreign,
        disk=disk,
        file=file,
        format=disk.files[booted].format,
        container=disk.files[booted].container,
        firmware=name,
        tests=tests,
        scripts=tuple(_script(one, spec) for one in tests),
    )


FORMATS = ("qcow2", "raw", "vmdk", "vhd")
"""Of a disk's files the one that is booted: the first of these."""


def booted_file(disk: Disk) -> int:
    """Which of a disk's files is booted."""
    order = [FORMATS.index(one.format) for one in disk.files]
    return order.index(min(order))


def _machine(spec: Spec) -> qemu.Machine:
    if spec.arch not in qemu.MACHINES:
        raise BuildError(
            f"{_where(spec)}: no machine of {spec.arch} is known",
            f"leave out tests; there are machines of {', '.join(qemu.MACHINES)}",
        )
    return qemu.MACHINES[spec.arch]


def _where(spec: Spec) -> str:
    return f"{spec.path}: tests"
