"""Whether this host runs programs of an architecture: tried, with one that only ends."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import BuildError
from .process import capture
from .sandbox import PROGRAM


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the ELF header of a Debian architecture says (elf.h), and machine code of exit(0)."""

    bits: int
    number: int
    code: str
    flags: int = 0
    order: str = "<"


MACHINES = {
    "amd64": Machine(bits=64, number=62, code="31ff b83c000000 0f05"),
    "i386": Machine(bits=32, number=3, code="31db b801000000 cd80"),
    "arm64": Machine(bits=64, number=183, code="000080d2 a80b80d2 010000d4"),
    "armhf": Machine(bits=32, number=40, code="0000a0e3 0170a0e3 000000ef", flags=0x5000400),
    "armel": Machine(bits=32, number=40, code="0000a0e3 0170a0e3 000000ef", flags=0x5000200),
    "riscv64": Machine(bits=64, number=243, code="13050000 9308d005 73000000", flags=5),
    "ppc64el": Machine(bits=64, number=21, code="01000038 00006038 02000044", flags=2),
    "s390x": Machine(bits=64, number=22, code="a7290000 0a01", order=">"),
}


NATIVE = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "ppc64el": "ppc64le",
          "s390x": "s390x"}  # fmt: skip
"""What uname(2) says where the kernel is of the same architecture: nothing need be tried."""


def native(arch: str) -> bool:
    """Whether the kernel itself is of an architecture."""
    return NATIVE.get(arch) == os.uname().machine


def program(arch: str) -> bytes:
    """A whole ELF program of an architecture (elf(5)): one segment, of headers and code."""
    machine = MACHINES[arch]
    code = bytes.fromhex(machine.code)
    wide = machine.bits == 64
    header, segment, start = (64, 56, 0x400000) if wide else (52, 32, 0x400000)
    size = header + segment + len(code)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if machine.order == "<" else 2, 1]) + bytes(9)
    form = machine.order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    head = struct.pack(
        form,
        2,
        machine.number,
        1,
        start + header + segment,
        header,
        0,
        machine.flags,
        header,
        segment,
        1,
        0,
        0,
        0,
    )
    form = machine.order + ("IIQQQQQQ" if wide else "IIIIIIII")
    fields = (
        (1, 5, 0, start, start, size, size, 0x10000)
        if wide
        else (1, 0, start, start, size, size, 5, 0x10000)
    )
    return ident + head + struct.pack(form, *fields) + code


def refusal(arch: str, folder: Path) -> BuildError | None:
    """Why programs of an architecture cannot run in a tree below `folder`, or None if they can.

    An architecture that is not known here is left to the build itself.
    """
    if arch not in MACHINES:
        return None
    with tempfile.TemporaryDirectory(dir=folder, prefix="trial-") as name:
        path = Path(name) / "program"
        path.write_bytes(program(arch))
        path.chmod(0o755)
        status, said, _ = capture([*PROGRAM, "execute", name])
    number = int(said) if said.strip().isdigit() else 0
    if not status or number not in (errno.ENOEXEC, errno.ENOENT, errno.ELIBBAD):
        return None  # what a noexec scratch says, or a signal, is no answer to this question
    what = f"arch: {arch}: this host ({os.uname().machine}) cannot run programs of {arch}"
    if number == errno.ENOENT:
        what += ": its binfmt_misc names an interpreter, but without the flag F, which trees need"
    return BuildError(what, f"apt-get install qemu-user-static binfmt-support, or build on {arch}")
