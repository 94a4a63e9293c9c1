"""What `boot` is asked for of a machine, and running one with its console here."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

from ..errors import BuildError
from ..host import qemu, terminal
from ..host.console import Shown
from ..host.process import popen, running
from ..host.terminal import Ends
from ..session.session import Session
from ..session.visits import say
from ..spec.words import printable

LATE = 124
"""The exit status where `timeout=` was over first: timeout(1)'s."""

MEMORY = 1024
"""MiB."""

LEAST = 1024
"""The first port that a user who is not root may listen on."""

LEAVE = "Ctrl-A x ends it, Ctrl-A c is QEMU's monitor"


class Wanted:
    """What the command line says of the machine; BuildError for what it cannot be."""

    def __init__(self, given: dict[str, str], cpus: int) -> None:
        self.memory = _memory(given.get("memory", ""))
        self.disk = given.get("disk", "")
        self.firmware = given.get("firmware", "")
        self.cpus_given = bool(given.get("cpus"))
        self.cpus = _number("cpus", given.get("cpus", ""), 1, 255) or min(2, cpus)
        self.append = given.get("append", "").split()
        self.expect = given.get("expect", "").encode()
        self.timeout = _seconds(given.get("timeout", ""))
        self.ssh = _number("ssh", given.get("ssh", ""), LEAST, 65535) or _free_port()
        self.forwards = [(self.ssh, 22), *_forwards(given.get("forward", ""))]
        ours = [port for port, _its in self.forwards]
        if len(set(ours)) < len(ours):
            raise BuildError(
                "forward=, ssh=: one port of this host cannot lead to two of the machine's",
                "give another one",
            )


def asked(session: Session) -> Wanted:
    """What this run's variables say."""
    return Wanted(dict(session.variables), len(os.sched_getaffinity(0)))


def _number(name: str, text: str, least: int, most: int) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise BuildError(f"{name}={printable(text)}: expected a number from {least} to {most}")
    return int(text)


def _memory(text: str) -> int:
    """MiB of `1024`, `1024M` or `2G`."""
    match = re.fullmatch(r"([0-9]{1,7})([MG]?)", text or str(MEMORY))
    size = int(match[1]) << (10 if match[2] == "G" else 0) if match else 0
    if size < 64:
        raise BuildError(f"memory={printable(text)}: expected MiB, as 1024, or 2G; 64 at least")
    return size


def _seconds(text: str) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", text) or float(text) == 0:
        raise BuildError(f"timeout={printable(text)}: expected seconds, as 300")
    return float(text)


def _forwards(text: str) -> list[tuple[int, int]]:
    found = []
    for pair in text.split(",") if text else ():
        ours, colon, its = pair.partition(":")
        if not colon:
            raise BuildError(
                f"forward={printable(text)}: expected a port of this host and one of the machine's",
                "as in forward=8080:80,8443:443",
            )
        here = _number("forward", ours or "0", LEAST, 65535)
        there = _number("forward", its or "0", 1, 65535)
        assert here
        assert there
        found.append((here, there))
    return found


def need_free(ports: Sequence[int]) -> None:
    """BuildError where another program listens: QEMU's own message names no port."""
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise BuildError(
                f"port {port} of 127.0.0.1: {error.strerror}",
                "another program listens there: give ssh= or forward= another port",
            ) from error


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# ---------------------------------------------------------------- running


def ways(forwards: Sequence[tuple[int, int]], network: bool) -> Iterator[str]:
    """What is said of a machine's ports and network, and of what it writes."""
    for ours, its in forwards:
        use = f": ssh -p {ours} USER@127.0.0.1" if its == 22 else ""
        yield f"  127.0.0.1:{ours} leads to its port {its}{use}"
    if not network:
        yield "  it reaches no network (network=1 lets it)"
    yield f"  nothing that it writes is kept{'; ' + LEAVE if terminal.both() else ''}"


def run(words: Sequence[str], rights: qemu.Rights, files: Sequence[int], wanted: Wanted) -> int:
    """Run it to its end; the exit status. BuildError where QEMU fails or `expect=` did not come."""
    person = terminal.both()
    shown = Shown(wanted.expect)
    until = time.monotonic() + wanted.timeout if wanted.timeout else None
    with contextlib.ExitStack() as stack:
        if person:
            master, slave = os.openpty()
            os.set_inheritable(slave, False)
            ends, theirs = Ends(input=master, outputs={master: 1}, terminal=True), [slave] * 3
        else:
            (out, said), (err, complained) = os.pipe(), os.pipe()
            nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            ends, theirs = Ends(input=-1, outputs={out: 1, err: 2}), [nothing, said, complained]
        command = rights.command(words)
        process = popen(command, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], files=files)
        for one in set(theirs):
            os.close(one)
        stack.enter_context(running(process))
        why = terminal.relay(ends, typed=person, seen=shown.add, until=until)
        if why != "ended":
            process.kill()  # there is nothing of it to be kept
    if why == "late":
        say(f"\nnot {'shown' if wanted.expect else 'ended'} within timeout={wanted.timeout:g}")
        return LATE
    if why == "seen":
        say("\nthe console showed what was expected")
        return 0
    if why == "ended" and process.returncode != 0:
        raise BuildError(f"QEMU ended with exit status {process.returncode}: what it said is above")
    if wanted.expect and why == "ended":
        raise BuildError(
            f"the machine ended, and never showed {printable(wanted.expect.decode())!r}"
        )
    return 0
