"""A machine that runs, of which QEMU is a shell that says and writes what a test wants."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tasks.formats.picture import png_of
from tasks.host import qemu, running_machine
from tasks.host.disk_machine import DiskMachine, Lent
from tasks.host.log import Log
from tasks.host.running_machine import MachineStopped, RunningMachine, started


class Shell(qemu.Rights):
    """Rights by which a text is run in place of QEMU: its sockets are $console, $control, $port."""

    def __init__(self, text: str) -> None:
        super().__init__(user=None, group=None, kvm=False, why="")
        object.__setattr__(self, "text", text)

    def command(self, words: Any) -> list[str]:
        """The text, with the numbers of what QEMU would be given."""
        ends = [
            one.removeprefix("socket,id=").split(",fd=") for one in words if "socket,id=" in one
        ]
        given = "".join(f"{name}={number}\n" for name, number in ends)
        return ["/bin/bash", "-c", given + self.text]  # type: ignore[attr-defined]


@contextlib.contextmanager
def machine(folder: Path, text: str) -> Iterator[RunningMachine]:
    """A machine of which this is QEMU."""
    disk = DiskMachine(arch="amd64", firmware="uefi", disk=folder, format="raw", memory=1, cpus=1)
    with (
        Log(folder / "log") as log,
        mock.patch.object(running_machine, "prepared", return_value=contextlib.nullcontext(([], Lent()))),
        started(disk, Shell(text), folder, "here", log,
                (lambda _data: None, lambda: "")) as running,
    ):  # fmt: skip
        yield running


def ended(running: RunningMachine) -> MachineStopped:
    with pytest.raises(MachineStopped) as stopped:
        running.answer("hello", time.monotonic() + 60)
    return stopped.value


def test_of_what_qemu_says_the_end_is_kept_however_much_it_is(tmp_path: Path) -> None:
    with machine(tmp_path, "yes | head -c 3000000 >&2; echo the last word; exit 3") as running:
        stopped = ended(running)
    assert stopped.why == "failed"
    assert stopped.detail.startswith("exit status 3: ")
    assert stopped.detail.endswith("y\nthe last word")
    assert len(stopped.detail) < running_machine.COMPLAINT + 100
    assert "QEMU: the last word" in (tmp_path / "log").read_text()


def test_what_qemu_has_said_can_be_asked_for_while_it_says_more(tmp_path: Path) -> None:
    """It and we have no place in a file in common."""
    with machine(
        tmp_path, "echo first >&2; read -u $port line; echo second >&2; exit 1"
    ) as running:
        until = time.monotonic() + 60
        while "first" not in running.complaint() and time.monotonic() < until:
            running.turn()
        running.send(b"\n")
        assert ended(running).detail == "exit status 1: first\nsecond"


@pytest.mark.parametrize(
    ("size", "whole"), [(60, True), (1000, True), (1001, False), (1 << 40, False)]
)
def test_no_more_of_a_picture_is_read_than_one_has(tmp_path: Path, size: int, whole: bool) -> None:
    """QEMU has its file to write to, and is as little believed as what runs in it."""
    answer = json.dumps({"id": "screen", "return": {}})
    with machine(tmp_path, f"read -u $port line; echo '{answer}' >&$control; sleep 60") as running:
        screen = tmp_path / "screen.ppm"
        screen.write_bytes(b"P6\n4 4\n255\n".ljust(60))
        os.truncate(screen, size)
        running.send(b"\n")
        found = running.picture(1000)
    assert len(found) == (size if whole else 0)
    if whole:
        assert png_of(found).startswith(b"\x89PNG")


def test_answers_that_nobody_asked_for_are_not_kept(tmp_path: Path) -> None:
    with machine(tmp_path, "yes hello 252 >&$port") as running:
        stopped = ended(running)
        assert (stopped.why, stopped.detail.split()[1:4]) == (
            "nonsense",
            ["answers", "that", "nobody"],
        )
        assert running.picture(1000) == b""
        assert len(running.came) < 1 << 16
