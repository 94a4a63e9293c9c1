"""A boot test's talk with its machine: the very agent, run by this host's shell, and no QEMU."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from support.boot_talk import STAGE, Talk, job
from support.world import says
from tasks.errors import BuildError, NoRoom
from tasks.host import agent
from tasks.host.running_machine import MachineStopped, RunningMachine
from tasks.stages.boottest import contents_of, says_degraded, tarball

pytestmark = pytest.mark.starts


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


def test_only_a_comment_at_a_scripts_head_says_that_failed_units_are_right() -> None:
    for text in (
        b"# strata: degraded",
        b"#!/bin/sh\n\n# What is tested.\n  \n#strata:degraded \r\nset -e\n",
    ):
        assert says_degraded(text)
    for text in (
        b"",
        b"#!/bin/sh\ncat > /root/test.sh <<EOF\n# strata: degraded\nEOF\n",
        b"true\n# strata: degraded\n",
        b"# strata: degraded or so\n",
        b"# no strata: degraded\n",
        b"\x7fELF\n# strata: degraded\n",
    ):
        assert not says_degraded(text), text


def test_a_script_with_such_a_line_elsewhere_takes_no_failed_unit(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("cat <<EOF\n# strata: degraded\nEOF\n"))
    says(talk.failed("degraded"), "units of the system failed", "in a comment at its head")


BY_FILE = "$(cat {folder}/state || echo running)"
"""A state that scripts can change."""


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("degraded", "units failed while the scripts ran"),
        ("maintenance", "the system is 'maintenance' (systemctl is-system-running) after its scripts"),
    ],
)  # fmt: skip
def test_a_unit_that_fails_while_scripts_run_fails_the_test(
    tmp_path: Path, state: str, what: str
) -> None:
    talk = Talk(tmp_path, job("# strata: degraded\ntrue", f"echo {state} > {tmp_path}/state"))
    said = talk.failed(BY_FILE.format(folder=tmp_path))
    says(said, f"disk web under uefi: {what}", "web.service failed")
    assert ("have tests/1.sh say `# strata: degraded`" in said) is (state == "degraded")
    assert talk.boot.report == {}


def test_it_does_not_where_each_script_says_so_and_the_report_has_it(tmp_path: Path) -> None:
    script = f"# strata: degraded\necho degraded > {tmp_path}/state"
    talk = Talk(tmp_path, job("# strata: degraded\ntrue", script))
    with talk.machine(BY_FILE.format(folder=tmp_path)) as machine:
        talk.boot.talk(machine, time.monotonic())
    report = talk.boot.report
    assert (report["state"], report["units"]) == ("running", [])
    assert report["after"] == {"state": "degraded", "units": ["web.service failed"]}


def test_a_machine_that_is_switched_off_by_its_last_script_fails(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    with talk.machine() as machine, mock.patch.object(agent, "wait_order") as order:
        order.side_effect = [b"wait 5 0\n", agent.END_ORDER]
        why = stopped(talk, machine)
        assert why.why == "ended"
        said = str(talk.boot.stopped(why))
    says(said, "what state the scripts left the system in was not told", "nor reboot it")


def test_a_script_may_say_that_failed_units_are_as_they_should_be(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("#!/bin/sh\n# strata: degraded\ntest $STRATA_STATE = degraded\n"))
    with talk.machine("degraded") as machine:
        talk.boot.talk(machine, time.monotonic())
    assert talk.boot.report["units"] == ["web.service failed"] * 1


FULL = "trap '' XFSZ; ulimit -S -f 1"
"""For a shell whose files take 512 bytes, and then fail to be written as where there is no room."""


def test_a_script_that_does_not_get_there_whole_is_not_run(tmp_path: Path) -> None:
    """As where /dev/shm is full."""
    ends = "exit 3\n"
    whole = "echo begun\n" + "# so that its end is cut off\n" * 40
    said = Talk(tmp_path, job(whole + ends)).failed(first=FULL)
    assert "tests/0.sh failed (exit status 125)" in said
    assert f"was not run: of its {len(whole + ends)} bytes 512 could be kept in" in said
    assert "begun" not in said
    # What was not kept is no order: the next script is run.
    talk = Talk(tmp_path, job("exit 0"))
    with talk.machine(first=FULL) as machine:
        until = time.monotonic() + 60
        machine.answer("hello", until)
        machine.send(agent.run_order(whole.encode() * 200, 5) + agent.run_order(b"echo next", 5))
        assert machine.answer("result", until).number == 125
        assert machine.answer("result", until).text == b"next\n"


@pytest.mark.parametrize("tool", ["mkfifo", "chmod"])
def test_a_script_without_a_place_for_its_output_is_not_run(tmp_path: Path, tool: str) -> None:
    said = Talk(tmp_path, job("echo begun")).failed(first=f"{tool}() {{ return 1; }}")
    says(said, "tests/0.sh failed (exit status 125)", "nothing more can be made in")
    assert "begun" not in said


def test_what_a_script_that_was_run_before_left_is_not_run_in_anothers_place(
    tmp_path: Path,
) -> None:
    """A program that still runs can be removed, but not written to."""
    first = "#!/bin/sh\ncp /bin/sleep $0.new; mv $0.new $0; $0 20 > /dev/null 2>&1 &\nsleep 0.2\n"
    talk = Talk(tmp_path, job(first, "echo second"))
    with talk.machine() as machine:
        talk.boot.talk(machine, time.monotonic())
    assert talk.boot.report["scripts"][1]["output"] == ["second"]


def test_failed_units_are_told_where_no_file_can_be_written(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("true"))
    said = talk.failed("degraded", first=FULL.replace("1", "0"))
    says(said, "units of the system failed", "web.service failed")


def test_what_a_script_leaves_running_holds_up_nothing(tmp_path: Path) -> None:
    talk = Talk(
        tmp_path, job("(sleep 1.2; echo late; sleep 1) & echo left", "sleep 0.5; echo right")
    )
    began = time.monotonic()
    with talk.machine() as machine:
        talk.boot.talk(machine, began)
    assert time.monotonic() - began < 10
    assert [one["output"] for one in talk.boot.report["scripts"]] == [["left"], ["right"]]


def test_too_little_time_is_told_with_the_time(tmp_path: Path) -> None:
    talk = Talk(tmp_path, job("echo before; sleep 60", timeout=1))
    began = time.monotonic()
    said = talk.failed()
    assert time.monotonic() - began < 10
    assert "tests/0.sh was not done within its timeout, 1 s from the machine's start" in said
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


def test_once_all_is_started_a_machine_is_not_dead_by_what_it_shows(tmp_path: Path) -> None:
    """By the end of its time it may be the reason, and is told."""
    panic = b"[ 1.1] Kernel panic - not syncing: VFS\r\n"
    talk = Talk(tmp_path, job("sleep 0.3; echo done"))

    def shown(line: str) -> str:
        if "running tests/0.sh" in line:
            talk.console[1].sendall(panic)
        return line

    talk.log.mask = shown
    with talk.machine() as machine:
        talk.boot.talk(machine, time.monotonic())
    assert talk.lines.dead == "Kernel panic - not syncing"
    assert talk.boot.report["scripts"][0]["output"] == ["done"]
    late = str(talk.boot.stopped(MachineStopped("late", talk.lines.dead)))
    says(late, "within its timeout", "it shows 'Kernel panic - not syncing'")
    assert "timeout longer" not in late


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
