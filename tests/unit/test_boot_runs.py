"""A boot test's talk with its machine: the very agent, run by this host's shell, and no QEMU."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tasks.errors import BuildError, NoRoom
from tasks.host import agent
from tasks.host.console import Lines
from tasks.host.log import Log
from tasks.host.process import popen, running
from tasks.host.running_machine import MachineStopped, RunningMachine
from tasks.plan.entries import Script
from tasks.plan.scripts import Program
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import TestJob as Job
from tasks.spec.disks import BootTest, Disk
from tasks.stages.boottest import Boot, contents_of, tarball

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
    def machine(self, state: str = "running") -> Iterator[RunningMachine]:
        """The agent, on a socket in place of a port, with a systemctl that says `state`."""
        binaries = self.folder / "bin"
        binaries.mkdir(exist_ok=True)
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
            program.write_text("exec 3<&0\n" + text.replace("/dev/shm/strata-test", str(work)))
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

    def failed(self, state: str = "running") -> str:
        """The error that it ends with."""
        with self.machine(state) as machine, pytest.raises(BuildError) as error:
            self.boot.talk(machine, time.monotonic())
        return str(error.value)


def test_scripts_run_in_order_and_the_report_has_what_they_said(tmp_path: Path) -> None:
    talk = Talk(
        tmp_path, job("echo one $STRATA_STATE hunter22", "#!/bin/bash\nset -o pipefail\necho $0")
    )
    with talk.machine() as machine:
        talk.console[1].sendall(b"\x1b[32mhello\x1b[0m hunter22\r\n")
        talk.boot.talk(machine, time.monotonic())
    files = talk.boot.files()
    report = json.loads(files["report.json"])
    assert [one["output"] for one in report["scripts"]] == [["one running ***"], ["tests/1.sh"]]
    assert [one["status"] for one in report["scripts"]] == [0, 0]
    assert (report["state"], report["systemd"], report["units"]) == ("running", 252, [])
    assert files["console.log"] == b"hello ***\n"
    assert "hello ***" in (tmp_path / "test.log").read_text()


@pytest.mark.parametrize(
    ("scripts", "state", "parts"),
    [
        (["true", "echo no >&2; exit 3"], "running", ["tests: disk web under uefi: tests/1.sh failed (exit status 3)", "no"]),
        (["nothing-like-it"], "running", ["tests/0.sh failed (exit status 127)", "tests/0.sh:1: nothing-like-it: not found"]),
        (["true"], "degraded", ["units of the system failed", "web.service failed", "# strata: degraded"]),
        (["true"], "maintenance", ["the system is 'maintenance'"]),
    ],
)  # fmt: skip
def test_what_fails_is_told_with_what_it_said(
    tmp_path: Path, scripts: Sequence[str], state: str, parts: Sequence[str]
) -> None:
    talk = Talk(tmp_path, job(*scripts))
    said = talk.failed(state)
    assert all(part in said for part in parts), said
    assert f"is in {tmp_path}/test.log" in said
    assert talk.boot.report == {}


def test_a_script_may_say_that_failed_units_are_as_they_should_be(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("#!/bin/sh\n# strata: degraded\ntest $STRATA_STATE = degraded\n"))
    with talk.machine("degraded") as machine:
        talk.boot.talk(machine, time.monotonic())
    assert talk.boot.report["units"] == ["web.service failed"] * 1


def test_what_a_script_leaves_running_holds_up_nothing(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("(sleep 1.5; echo late; sleep 1) & echo left", "sleep 1; echo right"))
    began = time.monotonic()
    with talk.machine() as machine:
        talk.boot.talk(machine, began)
    assert time.monotonic() - began < 10
    assert [one["output"] for one in talk.boot.report["scripts"]] == [["left"], ["right"]]


def test_too_little_time_is_told_with_the_time(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("echo before; sleep 60", timeout=2))
    began = time.monotonic()
    said = talk.failed()
    assert time.monotonic() - began < 10
    assert "tests/0.sh was not done within its timeout, 2 s from the machine's start" in said
    assert "before" in said


def stopped(talk: Talk, machine: RunningMachine) -> Any:
    with pytest.raises(MachineStopped) as error:
        talk.boot.talk(machine, time.monotonic())
    return error.value


def test_a_machine_that_panics_is_not_waited_for(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("sleep 30"))
    with talk.machine() as machine:
        talk.console[1].sendall(b"[ 1.0] VFS: Unable to mount root fs\r\n"
                                b"[ 1.1] Kernel panic - not syncing: VFS\r\n")  # fmt: skip
        why = stopped(talk, machine)
        assert why.why == "dead"
        said = str(talk.boot.stopped(why))
    assert "the system did not come up: it shows 'Kernel panic - not syncing'" in said
    assert "Unable to mount root fs" in said


def test_a_machine_that_ends_and_an_agent_that_does(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    with talk.machine() as machine:
        machine.send(agent.END_ORDER)
        why = stopped(talk, machine)
        assert why.why == "ended"
        assert "may neither power it off nor reboot" in str(talk.boot.stopped(why))
    talk = Talk(tmp_path, job("true"))
    with talk.machine() as machine:
        machine.process.kill()
        assert "QEMU ended (exit status -9" in str(talk.boot.stopped(stopped(talk, machine)))
    talk = Talk(tmp_path, job("sleep 5"))
    with talk.machine() as machine:
        machine.opened = True
        event = {"event": "VSERPORT_CHANGE", "data": {"open": False, "id": "port"}}
        talk.control[1].sendall(json.dumps(event).encode() + b"\n")
        why = stopped(talk, machine)
        assert why.why == "left"
        assert "what runs the scripts was ended there" in str(talk.boot.stopped(why))


def test_the_port_that_starts_the_agent_is_plugged_in_until_it_is_there(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    with talk.machine() as machine:
        machine.turn()
        machine.turn()
        orders = talk.control[1].recv(4096).splitlines()
        assert [json.loads(one)["execute"] for one in orders] == ["device_del"]
        # The first time there is none to take out.
        talk.control[1].sendall(b'{"id": "knock", "error": {"class": "DeviceNotFound"}}\n')
        machine.turn()
        machine.turn()
        (plug,) = map(json.loads, talk.control[1].recv(4096).splitlines())
        assert (plug["execute"], plug["arguments"]["name"]) == ("device_add", agent.KNOCK)


def test_a_full_scratch_is_named(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    talk.log.places = {"scratch": tmp_path}
    talk.log.began = {"scratch": 1 << 30}
    with talk.machine() as machine:
        talk.control[1].sendall(b'{"event": "BLOCK_IO_ERROR", "data": {"nospace": true}}\n')
        error = talk.boot.stopped(stopped(talk, machine))
    assert isinstance(error, NoRoom)
    assert f"scratch {tmp_path}" in str(error)


def test_nonsense_is_no_answer(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    with talk.machine() as machine:
        talk.control[1].sendall(b"no JSON\n")
        why = stopped(talk, machine)
        assert why.why == "nonsense"
        assert "it said" in str(talk.boot.stopped(why))


def test_the_bundle_is_a_plain_tar_of_no_time_and_nobody() -> None:
    files = {"report.json": b"{}\n", "console.log": b"hello\n"}
    assert tarball(files) == tarball(dict(reversed(files.items())))
    with tarfile.open(fileobj=BytesIO(tarball(files))) as tar:
        members = tar.getmembers()
        assert [one.name for one in members] == ["console.log", "report.json"]
        assert {(one.mtime, one.uid, one.uname, one.mode) for one in members} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize("sent", [False, True])
def test_a_script_that_changed_since_it_was_planned_is_not_run(tmp_path: Path, sent: bool) -> None:
    """Of a fleet, too, whose job has what the script held when it was sent."""
    planned, path = b"true\n", tmp_path / "a.sh"
    inputs = {"scripts": [[hashlib.sha256(planned).hexdigest(), 60]]}
    one = replace(job("true"), stage=replace(STAGE, inputs=inputs))
    where = "specs/web.yaml: tests"
    script = replace(one.scripts[0], path="tests/a.sh", where=where, source=path)

    def read(content: bytes) -> list[bytes]:
        path.write_bytes(content)
        given = replace(script, source=None, content=content) if sent else script
        return contents_of(replace(one, scripts=(given,)))

    assert read(planned) == [planned]
    with pytest.raises(BuildError, match=r"^specs/web\.yaml: tests: tests/a\.sh was changed since"):
        read(b"false\n")
    if not sent:
        path.unlink()
        with pytest.raises(BuildError, match=r"tests: tests/a\.sh cannot be read: No such file"):
            contents_of(replace(one, scripts=(script,)))
