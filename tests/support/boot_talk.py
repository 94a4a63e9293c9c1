"""A machine of a boot test without one: the very agent, run by this host's shell, and no QEMU."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tasks.errors import BuildError
from tasks.host import agent
from tasks.host.console import Lines
from tasks.host.log import Log
from tasks.host.process import popen, running
from tasks.host.running_machine import RunningMachine
from tasks.plan.entries import Script
from tasks.plan.scripts import Program
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import TestJob as Job
from tasks.spec.disks import BootTest, Disk
from tasks.stages.boottest import Boot

STAGE = Stage(kind="test", name="web.uefi", key="0" * 32, inputs={}, suffix=".tar")


def job(*texts: str, timeout: int = 60) -> Job:
    """A test of these scripts."""
    by_shell = Program(by_shell=True, interpreter="/bin/sh")
    return Job(
        stage=STAGE, spec="specs/web.yaml", arch="amd64", disk=Disk(name="web", size=None), file=STAGE,
        format="raw", container="raw", firmware="uefi",
        tests=tuple(BootTest(script=Path("x"), disk="web", firmware=("uefi",), timeout=timeout) for _one in texts),
        scripts=tuple(
            Script(path=f"tests/{number}.sh", where="", program=by_shell, source=None, content=text.encode())
            for number, text in enumerate(texts)
        ),
    )  # fmt: skip


class Talk:
    """A test that talks to an agent in `folder`; what the machine shows is ours to say."""

    def __init__(self, folder: Path, one: Job) -> None:
        self.log = Log(folder / "test.log", mask=lambda text: text.replace("hunter22", "***"))
        contents = [script.content for script in one.scripts]
        self.boot = Boot(job=one, log=self.log, contents=contents)
        self.lines = Lines(self.boot.shown)
        self.folder = folder
        self.console, self.control = socket.socketpair(), socket.socketpair()

    @contextlib.contextmanager
    def machine(self, state: str = "running", first: str = "") -> Iterator[RunningMachine]:
        """The agent, on a socket in place of a port, with a systemctl that says `state`.

        `first` is done in its shell before it begins.
        """
        binaries = self.folder / "bin"
        binaries.mkdir(exist_ok=True)
        # One that an agent before it still runs cannot be written to.
        (binaries / "systemctl").unlink(missing_ok=True)
        (binaries / "systemctl").write_text(
            f"#!/bin/sh\ncase $* in *--version*) echo 'systemd 252 (252.39)' ;;\n"
            f"*is-system-running*) echo {state} ;;\n*--failed*) echo 'web.service failed' ;;\nesac\n"
        )
        (binaries / "systemctl").chmod(0o755)
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack:
            for one in (self.log, ours, theirs, *self.console, *self.control):
                stack.enter_context(one)
            text = agent.AGENT.read_text()
            program = self.folder / "agent"
            work = self.folder / "work"
            program.write_text(
                f"exec 3<&0\n{first}\n" + text.replace("/dev/shm/strata-test", str(work))
            )
            stack.enter_context(mock.patch.object(agent, "SCRIPT", f"{work}/script"))
            process = popen(["/bin/dash", str(program)], stdin=theirs.fileno(),
                            env={"PATH": f"{binaries}:/usr/bin:/bin"})  # fmt: skip
            theirs.close()
            for one in (ours, self.console[0], self.control[0]):
                one.setblocking(False)
            with running(process):
                yield RunningMachine(
                    process=process, console=self.console[0], control=self.control[0], port=ours,
                    shown=self.lines.add, dead=lambda: self.lines.dead, screen=Path(), screen_name="",
                )  # fmt: skip
                process.kill()

    def failed(self, state: str = "running", first: str = "") -> str:
        """The error that it ends with."""
        with self.machine(state, first) as machine, pytest.raises(BuildError) as error:
            self.boot.talk(machine, time.monotonic())
        return str(error.value)
