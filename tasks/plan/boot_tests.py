"""Boot tests: their stages, one for each disk and firmware.

disk server ─→ file server.qcow2 ─┬→ test server.bios
                                  └→ test server.uefi
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import firmware, qemu, safe
from ..host.agent import SYSTEMD
from ..host.files import sha256_of
from ..host.tools import tool
from ..spec.boot_tests import SCRIPT_LIMIT
from ..spec.disks import BootTest, Disk
from ..spec.model import Spec
from . import scripts
from .entries import Script
from .lockfile import Lock
from .recipes import stage_of
from .stage import ABSENT, Host, Stage, tools_of

if TYPE_CHECKING:
    from .top_jobs import TestJob  # a plan makes no jobs

SUFFIX = ".tar"


def tests_of(spec: Spec, disk: Disk, name: str) -> tuple[BootTest, ...]:
    """The tests that run in a disk under a firmware, in the spec's order."""
    return tuple(one for one in spec.tests if one.disk == disk.name and name in one.firmware)


def firmwares(spec: Spec, disk: Disk) -> list[str]:
    """The kinds of firmware that a disk is tested under, sorted."""
    return sorted({name for one in spec.tests if one.disk == disk.name for name in one.firmware})


def tools(spec: Spec) -> set[str]:
    """The tools, and the packages of firmware, whose versions are in the keys of a spec's tests.

    BuildError for an architecture that has no machine, or not that firmware.
    """
    found = set()
    for disk in spec.disks:
        for name in firmwares(spec, disk):
            found |= {_machine(spec).program, firmware.package_of(spec.arch, name, _where(spec))}
    return found


def digests(spec: Spec) -> dict[str, str]:
    """The SHA-256 of each test's script, by its path: what Host.tests has.

    BuildError for one that cannot be read or run.
    """
    scripts_of = {str(one.script): script_of(one, spec) for one in spec.tests}
    return {
        path: sha256_of(one.source) for path, one in scripts_of.items() if one.source is not None
    }


def script_of(test: BootTest, spec: Spec) -> Script:
    """A test's script, looked at; BuildError for one that cannot be read or run."""
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


def check(stage: Stage, spec: Spec, lock: Lock) -> None:
    """BuildError unless a test can run: in what is locked, and on this host.

    It is no part of the plan, which others need that run no test.
    """
    check_locked(spec, lock)
    tool(_machine(spec).program)
    firmware.find(spec.arch, stage.inputs["firmware"], _where(spec))
    if ABSENT in (stage.inputs["firmware_version"], *tools_of(stage.inputs).values()):
        raise BuildError(
            f"{_where(spec)}: what boots {stage.name} was installed while this ran",
            "run the same command again",
        )


def check_locked(spec: Spec, lock: Lock) -> None:
    """BuildError unless tests can run in what is locked, whatever the host is."""
    found = [one.version for one in lock.installed() if one.package == "systemd"]
    match = re.match(r"(?:[0-9]+:)?([0-9]{1,6})", found[0]) if found else None
    if match is not None and int(match[1]) >= SYSTEMD:
        return
    has = f"the image has systemd {found[0]}" if found else "the image has no systemd"
    raise BuildError(
        f"{_where(spec)}: {has}: a boot test needs systemd {SYSTEMD} or later, by which scripts "
        "come into the machine",
        "test an image of Debian 12, Ubuntu 23.04 or later; test=off leaves out tests"
        if found
        else "add the package systemd-sysv",
    )


def test_stages(spec: Spec, of_disks: Sequence[Stage], host: Host) -> list[Stage]:
    """The stages of a spec's tests, named DISK.FIRMWARE, in the order of disks and firmware.

    `of_disks` has the stages of the disks and of their files. A test's key is made of the disk's,
    not of the file's: that the same disk is packed in another way makes no other test.
    """
    named = {(one.kind, one.name): one for one in of_disks}
    found = []
    for disk in spec.disks:
        file = named["file", disk.files[booted_file(disk)].name]
        for name in firmwares(spec, disk):
            tests = tests_of(spec, disk, name)
            program = _machine(spec).program
            inputs = {
                "disk": named["disk", disk.name].key,
                "disk_name": disk.name,
                "firmware": name,
                "firmware_version": host.tools[firmware.package_of(spec.arch, name, _where(spec))],
                "memory": max(one.memory for one in tests),
                "scripts": [[host.tests[str(one.script)], one.timeout] for one in tests],
                "tools": {program: host.tools[program]},
            }
            found.append(stage_of("test", f"{disk.name}.{name}", SUFFIX, inputs, on=[file]))
    return found


def firmware_of(job: TestJob) -> dict[str, str]:
    """The package of the firmware that a test's machine has, and its version as the key has it.

    BuildError where this host has no such firmware.
    """
    firmware.find(job.arch, job.firmware, f"{job.spec}: tests")
    package = firmware.package_of(job.arch, job.firmware, f"{job.spec}: tests")
    return {package: str(job.stage.inputs["firmware_version"])}


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
