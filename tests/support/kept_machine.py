"""A machine whose disk keeps what was written: what is upgraded in it is there at its next boot."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tasks.host import agent, qemu
from tasks.host.console import Lines
from tasks.host.disk_machine import DiskMachine
from tasks.host.log import Log
from tasks.host.running_machine import MachineStopped, RunningMachine, started

HOST = "10.0.2.2"
"""Where a machine with a network finds this host's 127.0.0.1: QEMU's user networking."""

TIMEOUT = 1200
"""Seconds for a boot with its script: it is emulated."""


class KeptMachine:
    """A disk (qcow2) that is booted again and again, each time as the last boot left it."""

    def __init__(self, disk: Path, folder: Path) -> None:
        self.disk, self.folder = disk, folder
        self.boots = 0
        self.console: list[str] = []

    def boot(self, firmware: str, script: str) -> list[str]:
        """Boot it, run a script in it as root, and switch it off as its user would; what that said.

        AssertionError for a system that does not come up whole, or a script that fails.
        """
        self.boots += 1
        self.console = []
        machine = DiskMachine(arch="amd64", firmware=firmware, disk=self.disk, format="qcow2",
                              memory=1024, cpus=1, network=True)  # fmt: skip
        folder = self.folder / f"boot-{self.boots}"
        folder.mkdir()
        written = folder / "written.qcow2"
        lines = Lines(self.console.append)
        rights = qemu.rights(qemu.machine_of("amd64", "this test"))
        with started(machine, rights, folder, "this test", Log(None),
                     (lines.add, lambda: lines.dead)) as running:  # fmt: skip
            # What is written to it by its name's end is what the machine wrote.
            os.link(folder / "overlay.qcow2", written)
            try:
                said = self._run(running, script.encode())
            except MachineStopped as stopped:
                raise AssertionError("\n".join([str(stopped), *self.console[-60:]])) from stopped
        after = self.folder / f"disk-{self.boots}.qcow2"
        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", self.disk, written],
                       check=True)  # fmt: skip
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", written, after], check=True)
        written.unlink()
        self.disk = after
        return said

    def _run(self, running: RunningMachine, script: bytes) -> list[str]:
        until = time.monotonic() + TIMEOUT
        running.answer("hello", until)
        running.send(agent.wait_order(TIMEOUT))
        state = running.answer("state", until)
        assert state.word == "running", (state, self.console[-60:])
        running.send(agent.run_order(script, TIMEOUT))
        result = running.answer("result", until)
        said = result.text.decode("utf-8", "replace").splitlines()
        assert result.number == 0, "\n".join([*said, *self.console[-20:]])
        running.send(agent.run_order(b"systemctl poweroff --no-block\n", 60))
        while running.process.poll() is None and time.monotonic() < until:
            running.turn()
            running.came.clear()  # that it powers off
        assert running.process.poll() == 0, self.console[-20:]
        return said
