"""A machine in QEMU: its command line, and with which rights it runs."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BuildError
from .tools import tool

KVM = Path("/dev/kvm")

KVM_VARIABLE = "STRATA_KVM"
"""`off` for a host whose /dev/kvm is there and does not work, as in many a container."""

USERS = range(61184, 65520)
"""Numbers that systemd gives to programs which need a user of their own (its UIDS-GIDS.md)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A Debian architecture's: QEMU's program and board, the kernel's console."""

    program: str
    board: str
    console: str
    natives: tuple[str, ...]
    """What uname(2) says of hosts on which the processor itself can run it."""


MACHINES: Mapping[str, Machine] = {
    "amd64": Machine(
        program="qemu-system-x86_64", board="q35",
        console="ttyS0", natives=("x86_64",),
    ),
    "i386": Machine(
        program="qemu-system-x86_64", board="q35",
        console="ttyS0", natives=("x86_64",),
    ),
    "arm64": Machine(
        program="qemu-system-aarch64", board="virt",
        console="ttyAMA0", natives=("aarch64",),
    ),
    "armhf": Machine(
        program="qemu-system-arm", board="virt",
        console="ttyAMA0", natives=(),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Booted:
    """What a machine is made of. `drives` are raw files, `forwards` (ours, its) ports of TCP."""

    arch: str
    memory: int
    """MiB."""
    cpus: int
    kernel: str
    initrd: str | None
    append: str
    drives: Sequence[str]
    forwards: Sequence[tuple[int, int]]
    network: bool = False
    kvm: bool = False


def machine_of(arch: str, where: str) -> Machine:
    """The machine of an architecture; BuildError where there is none, or the host has no QEMU."""
    if arch not in MACHINES:
        raise BuildError(
            f"{where}: arch: {arch}: boot knows no machine of it",
            f"it knows {', '.join(MACHINES)}",
        )
    found = MACHINES[arch]
    tool(found.program)
    return found


def begun(arch: str, memory: int, cpus: int, *, kvm: bool, board: Sequence[str] = ()) -> list[str]:
    """How QEMU's command line begins; `memory` in MiB, `board` more options of the board.

    Nothing of the host's is in the machine but what is named here: no configuration, no display, no
    devices by default. Who breaks out of it has its user's rights, less what -sandbox takes.
    """
    machine = MACHINES[arch]
    accel = ["-accel", "kvm"] * kvm + ["-accel", "tcg"]
    return [
        machine.program,
        "-no-user-config",
        "-nodefaults",
        "-machine", ",".join([machine.board, *board]),
        *accel,
        "-cpu", "max",
        "-m", str(memory),
        "-smp", str(cpus),
        "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-no-reboot",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


CONSOLE = [
    # Ctrl-C is the machine's.
    "-chardev", "stdio,id=console,mux=on,signal=off",
    "-serial", "chardev:console",
    "-mon", "chardev=console",
]  # fmt: skip
"""A console on our standard input and output, and QEMU's monitor behind it."""


def network(forwards: Sequence[tuple[int, int]], reaches: bool) -> list[str]:
    """A network card that (ours, its) ports of 127.0.0.1 lead to.

    Unless it `reaches` others, it reaches neither the host, whose 127.0.0.1 it could, nor what is
    beyond.
    """
    leads = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-:{its}" for ours, its in forwards)
    return ["-nic", f"user,model=virtio-net-pci,restrict={'off' if reaches else 'on'}{leads}"]


def argv(booted: Booted) -> list[str]:
    """QEMU's command line for a kernel and the filesystems of images."""
    return [
        *begun(booted.arch, booted.memory, booted.cpus, kvm=booted.kvm),
        *CONSOLE,
        *network(booted.forwards, booted.network),
        "-kernel", booted.kernel,
        *(["-initrd", booted.initrd] if booted.initrd else []),
        "-append", booted.append,
        *(word for drive in booted.drives
          for word in ("-drive", f"file={drive},format=raw,if=virtio,cache=unsafe")),
    ]  # fmt: skip


# ---------------------------------------------------------------- rights


@dataclass(frozen=True, kw_only=True)
class Rights:
    """As whom QEMU runs; `user` None: as whoever calls. `kvm`: whether they may use it."""

    user: int | None
    group: int | None
    kvm: bool
    why: str
    """Why it may not, "" where it may."""

    def command(self, words: Sequence[str]) -> list[str]:
        """The command, with these rights and no way to more."""
        given = ["--no-new-privs", "--pdeathsig", "KILL"]
        if self.user is not None:
            groups = ["--clear-groups"] if self.group is None else ["--groups", str(self.group)]
            given += ["--reuid", str(self.user), "--regid", str(self.user), *groups]
            given += ["--inh-caps=-all", "--bounding-set=-all"]
        return ["setpriv", *given, "--", tool(words[0]), *words[1:]]


def rights(machine: Machine) -> Rights:
    """For root a user that nobody else is, in the group that /dev/kvm is for; else the caller."""
    root = os.geteuid() == 0
    user = _free_user() if root else None
    group = None
    if os.environ.get(KVM_VARIABLE) == "off":
        return Rights(user=user, group=None, kvm=False, why=f"{KVM_VARIABLE}=off")
    if os.uname().machine not in machine.natives:
        return Rights(user=user, group=None, kvm=False, why="this processor is of another kind")
    try:
        info = KVM.stat()
    except OSError:
        return Rights(user=user, group=None, kvm=False, why="this host has no /dev/kvm")
    if root:
        # Never root's own group: its members may read much.
        if info.st_gid and info.st_mode & (stat.S_IRGRP | stat.S_IWGRP) == 0o060:
            group = info.st_gid
        kvm = group is not None or info.st_mode & 0o006 == 0o006
    else:
        kvm = os.access(KVM, os.R_OK | os.W_OK)
    remedy = f"chgrp kvm {KVM}; chmod 660 {KVM}" if root else "the group kvm may"
    why = "" if kvm else f"its user may not use {KVM}: {remedy}"
    return Rights(user=user, group=group, kvm=kvm, why=why)


def _free_user() -> int:
    """A number that no account has, another one for each that runs."""
    known = {one.pw_uid for one in pwd.getpwall()} | {one.gr_gid for one in grp.getgrall()}
    start = os.getpid() % len(USERS)
    order = (*USERS[start:], *USERS[:start])
    return next((one for one in order if one not in known), 65534)
