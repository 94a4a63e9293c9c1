"""A machine in QEMU that boots a disk: its command line, its throwaway overlay, its firmware.

the disk's file, read only ─→ an overlay in scratch, qcow2 ─→ virtio-blk ─┐
firmware's code, a copy of its variables ─────────────────────────────────┴→ QEMU, by descriptors
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import firmware, qemu, safe
from .disk_headers import virtual_size
from .log import Log
from .process import run


@dataclass(frozen=True, kw_only=True)
class DiskMachine:
    """What a machine is made of; `format` is the file's: raw, qcow2, vhd or vmdk.

    `memory` is in MiB, `sector` in bytes, `forwards` are (ours, its) ports of TCP.
    """

    arch: str
    firmware: str
    disk: Path
    format: str
    memory: int
    cpus: int
    sector: int = 512
    forwards: Sequence[tuple[int, int]] = ()
    network: bool = False


@dataclass(kw_only=True)
class Lent:
    """Descriptors that QEMU is given in place of paths: its user has no way to the files."""

    numbers: list[int] = field(default_factory=list)

    def add(self, descriptor: int) -> str:
        """The name by which QEMU opens it, however often; it is closed at the end."""
        self.numbers.append(descriptor)
        return f"/dev/fdset/{descriptor}"

    @property
    def words(self) -> list[str]:
        """QEMU's words for them."""
        return [word for one in self.numbers for word in ("-add-fd", f"fd={one},set={one}")]


@contextlib.contextmanager
def prepared(
    machine: DiskMachine, rights: qemu.Rights, folder: Path, where: str, log: Log
) -> Iterator[tuple[list[str], Lent]]:
    """QEMU's command line for it, without a console, and what it is lent as long as the block runs.

    `Lent.words` are to be added to it, once nothing more is lent.

    The overlay and the variables are made in `folder`, and removed. BuildError without firmware,
    or for a file that is no disk of its format; `where` names the field that asks for it.
    """
    found = firmware.find(machine.arch, machine.firmware, where)
    overlay, variables = folder / "overlay.qcow2", folder / "variables.fd"
    lent = Lent()
    try:
        disk = safe.reading(machine.disk)
        name = lent.add(disk)
        size = virtual_size(disk, machine.disk.name, machine.format)
        run(["qemu-img", "create", "-q", "-f", "qcow2", str(overlay), str(size)], log=log, typed="",
            what="making an overlay")  # fmt: skip
        nodes = disk_nodes(name, lent.add(_writable(overlay)), machine.format, size)
        board = []
        if found.variables is not None:
            shutil.copyfile(found.variables, variables)
            code = os.open(found.code, os.O_RDONLY | os.O_CLOEXEC)
            nodes += firmware_nodes(lent.add(code), lent.add(_writable(variables)))
            board = ["pflash0=code", "pflash1=variables"]
        yield argv(machine, rights, nodes, board, found.firmware.secure), lent
    finally:
        for one in lent.numbers:
            os.close(one)
        overlay.unlink(missing_ok=True)
        variables.unlink(missing_ok=True)


def _writable(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)


def argv(
    machine: DiskMachine,
    rights: qemu.Rights,
    nodes: Sequence[dict[str, Any]],
    board: Sequence[str],
    secure: bool,
) -> list[str]:
    """QEMU's command line: see qemu.argv for what is not in such a machine."""
    if secure and machine.arch == "amd64":
        board = ["smm=on", *board]
    words = qemu.begun(machine.arch, machine.memory, machine.cpus, kvm=rights.kvm, board=board)
    if secure and machine.arch == "amd64":
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    for node in nodes:
        words += ["-blockdev", json.dumps(node, sort_keys=True)]
    return [
        *words,
        *qemu.network(machine.forwards, machine.network),
        "-device", "virtio-blk-pci,drive=overlay,bootindex=0" + _sectors(machine.sector),
        # No more than a picture is made of it.
        "-device", "VGA" if machine.arch == "amd64" else "virtio-gpu-pci",
    ]  # fmt: skip


def _sectors(size: int) -> str:
    """What is said of a disk whose sectors have not the usual size."""
    return f",logical_block_size={size},physical_block_size={size}" if size != 512 else ""


def disk_nodes(disk: str, overlay: str, form: str, size: int) -> list[dict[str, Any]]:
    """Block devices for a disk that is only read and an overlay that takes what is written."""
    top: dict[str, Any] = {"node-name": "disk", "read-only": True, "file": "disk-file"}
    match form:
        case "vhd":
            # QEMU's own driver takes the size from cylinders and heads, which may be more.
            top |= {"driver": "raw", "offset": 0, "size": size}
        case "qcow2" | "vmdk":
            # Whatever file it names below it is not opened.
            top |= {"driver": form, "backing": None}
        case _:
            top |= {"driver": form}
    return [
        {"node-name": "disk-file", "driver": "file", "filename": disk, "read-only": True},
        top,
        {
            "node-name": "overlay-file",
            "driver": "file",
            "filename": overlay,
            "cache": {"no-flush": True},
        },
        {
            "node-name": "overlay",
            "driver": "qcow2",
            "file": "overlay-file",
            "backing": "disk",
            "cache": {"no-flush": True},
        },
    ]


def firmware_nodes(code: str, variables: str) -> list[dict[str, Any]]:
    """Block devices for the two flash chips of UEFI's."""
    return [
        {"node-name": "code", "driver": "file", "filename": code, "read-only": True},
        {"node-name": "variables", "driver": "file", "filename": variables},
    ]
