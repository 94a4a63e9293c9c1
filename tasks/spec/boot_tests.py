"""Boot tests as a spec writes them → BootTest, and what of a disk they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BuildError
from .disks import MIB, BootTest, Disk
from .project_files import file_size
from .sizes import shown, size_in
from .words import near, short

FIRMWARE = ("uefi", "uefi-secure", "bios")
"""In this order, however a spec writes them: another order is no other disk, and no other test."""

SECURE = ("grub", "systemd-boot")
"""Loaders that Debian has signed."""

MEMORY = (128 * MIB, 1 << 40)
"""The least and the most bytes of a machine."""

SCRIPT_LIMIT = MIB
"""Bytes of a test's script."""

Find = Callable[[str], Path]


def tests_of(
    path: Path, name: str, document: Mapping[str, Any], disks: Sequence[Disk], find: Find
) -> tuple[BootTest, ...]:
    """The boot tests, in the spec's order; one that names no disk is one of each that fits.

    `path` and `name` are the spec's. BuildError for a disk that there is not, for firmware that it
    does not start from, and for a script that is not there, outside of the project or empty.
    """
    return tuple(
        BootTest(
            script=_script(find(test["script"]), path, name, f"{where}.script"),
            disk=disk.name,
            firmware=firmware,
            timeout=test.get("timeout", 300),
            memory=_memory(test, where),
        )
        for number, test in enumerate(document.get("tests", ()))
        for where in [f"{path}: tests[{number}]"]
        for disk, firmware in _machines(test, disks, where)
    )


def _script(script: Path, path: Path, name: str, where: str) -> Path:
    if file_size(script, path, name, where) > SCRIPT_LIMIT:
        raise BuildError(
            f"{where}: {script} is larger than the {SCRIPT_LIMIT >> 20} MiB of a script",
            "put into the image what it brings along, as a layer's files",
        )
    return script


def _memory(test: Mapping[str, Any], where: str) -> int:
    found = size_in(test.get("memory", 1 << 30))
    least, most = MEMORY
    if not least <= found <= most:
        raise BuildError(
            f"{where}.memory: {test['memory']} is not between {shown(least)} and {shown(most)}",
            "write a size such as 1G",
        )
    return found


def _machines(
    test: Mapping[str, Any], disks: Sequence[Disk], where: str
) -> Iterator[tuple[Disk, tuple[str, ...]]]:
    """(disk, firmware) of each machine that a test is for."""
    wanted = tuple(one for one in FIRMWARE if one in test.get("firmware", ()))
    if not disks:
        raise BuildError(f"{where}: the spec has no disk to boot", "add one to disks, or remove it")
    if "disk" in test:
        disk = next((disk for disk in disks if disk.name == test["disk"]), None)
        if disk is None:
            names = [disk.name for disk in disks]
            meant = near(test["disk"], names)
            raise BuildError(
                f"{where}.disk: there is no disk {short(test['disk'])!r}",
                f"did you mean {meant!r}?" if meant else f"disks: {', '.join(names)}",
            )
        faults = [fault for one in wanted if (fault := _fault(one, disk))]
        if faults or not disk.firmware:
            raise _unfit(where, disk, faults)
        yield disk, wanted or disk.firmware
        return
    fitting = [(disk, tuple(one for one in wanted or disk.firmware if not _fault(one, disk)))
               for disk in disks]  # fmt: skip
    for one in wanted or [""]:
        if not any(one in firmware or (not one and firmware) for _disk, firmware in fitting):
            raise _unfit(where, disks[0], [_fault(one, disks[0])] if one else [])
    yield from ((disk, firmware) for disk, firmware in fitting if firmware)


def _fault(firmware: str, disk: Disk) -> str:
    """Why a disk cannot be booted under a firmware, "" if it can."""
    if firmware.removesuffix("-secure") not in disk.firmware:
        return f"{firmware}: disks.{disk.name} has firmware {', '.join(disk.firmware) or 'none'}"
    if firmware == "uefi-secure" and disk.loader not in SECURE:
        return f"{firmware}: disks.{disk.name} has loader {disk.loader}, which nobody has signed"
    return ""


def _unfit(where: str, disk: Disk, faults: Sequence[str]) -> BuildError:
    if not faults:
        return BuildError(
            f"{where}.disk: disks.{disk.name} has no firmware to be booted by",
            f"remove the test, or give disks.{disk.name} a loader",
        )
    return BuildError(
        f"{where}.firmware: {faults[0]}", "remove it here, or let the disk have what it needs"
    )
