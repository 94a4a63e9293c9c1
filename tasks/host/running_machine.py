"""A machine that is talked to while it runs: its console is read, an agent in it runs scripts.

QEMU ─┬─ console ─→ whoever wants to see it
      ├─ QMP ←─→ plugs KNOCK in until the agent is there; a picture of the screen
      └─ PORT ←─→ orders, answers (tasks.host.agent)
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import agent, qemu, qmp, safe
from .disk_machine import DiskMachine, prepared
from .log import Log
from .process import POLL, Process, check_signal, pause, popen, running

TICK = 0.5
"""Seconds between two looks at the clock."""

KNOCK_EVERY = 8.0
"""Seconds: an emulated machine takes some from a port's coming to what hangs on that."""

PICTURE_TIME = 20.0

CLOSING_TIME = 5.0

COMPLAINT = 2000
"""Bytes of QEMU's own last words that are kept."""

DRAINED = 64
"""Times that a socket is read whose other end is gone: more than any has room for."""

WAITING = 16
"""Answers that may have come before they are asked for: an agent gives one to each order."""


class MachineStopped(Exception):
    """No answer will come.

    `why` is "late", "ended" (it was switched off), "failed" (QEMU did), "full" (there is no room
    for what it writes), "dead" (the console shows so), "left" (the agent has ended) or "nonsense"
    (what it says is no agent's); `detail` is what was seen, or "".
    """

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail


@dataclass(kw_only=True)
class RunningMachine:
    """A machine that runs; `shown` gets its console, and `dead` says by what that it is dead."""

    process: Process
    console: socket.socket
    control: socket.socket
    port: socket.socket
    shown: Callable[[bytes], None]
    dead: Callable[[], str]
    screen: Path
    """Where QEMU puts a picture, which it opens as `screen_name`."""
    screen_name: str
    answers: agent.Answers = field(default_factory=agent.Answers)
    messages: qmp.Messages = field(default_factory=qmp.Messages)
    came: list[agent.Answer] = field(default_factory=list)
    pending: dict[socket.socket, bytearray] = field(default_factory=dict)
    said: socket.socket | None = None
    """Where QEMU's own words come from."""
    last_words: bytes = b""
    opened: bool = False
    """Whether the agent, or what fetches it, has opened its port."""
    left: bool = False
    up: bool = False
    """Whether the agent has told of all that starts: what is shown since may be anybody's words."""
    pictured: bool | None = None
    knocked: float = 0.0

    def begin(self) -> None:
        """What is said first: to QEMU, and to the unit that waits for the agent."""
        self._order(qmp.order("qmp_capabilities"))
        self.send(agent.agent_order())

    def send(self, order: bytes) -> None:
        """Give the agent an order."""
        self.pending.setdefault(self.port, bytearray()).extend(order)

    def answer(self, kind: str, until: float) -> agent.Answer:
        """The agent's next answer, of this kind, before time.monotonic() is `until`.

        MachineStopped where none will come; once it is up, a machine is not dead by what it shows.
        """
        while not self.came:
            if time.monotonic() >= until:
                raise MachineStopped("late", self.dead())
            if not self.turn():
                raise self._ended()
            if self.came:
                break
            if self.left:
                raise MachineStopped("left")
            if not self.up and (dead := self.dead()):
                raise MachineStopped("dead", dead)
        answer = self.came.pop(0)
        if answer.kind != kind:
            raise MachineStopped("nonsense", f"{answer.kind} in place of {kind}")
        self.up = self.up or kind == "state"
        return answer

    def _ended(self) -> MachineStopped:
        """How QEMU ended: its sockets are closed before it does."""
        until = time.monotonic() + CLOSING_TIME
        while self.process.poll() is None and time.monotonic() < until:
            pause(POLL)
        status = self.process.poll()
        if not status:
            return MachineStopped("ended")
        return MachineStopped("failed", f"exit status {status}: {self.complaint().strip()}")

    def complaint(self) -> str:
        """What QEMU itself has said last; to be asked for once it has ended."""
        for _turn in range(DRAINED):
            if self.said is None or not (data := _received(self.said)):
                break
            self._take(self.said, data)
        return self.last_words.decode("utf-8", "replace")

    def picture(self, most: int) -> bytes:
        """The screen as PPM; b"" where QEMU gives none, or one of more than `most` bytes."""
        self.pictured = None
        self._order(qmp.order("screendump", mark="screen", filename=self.screen_name))
        until = time.monotonic() + PICTURE_TIME
        with contextlib.suppress(MachineStopped):
            while self.pictured is None and time.monotonic() < until and self.turn():
                pass
        if not self.pictured:
            return b""
        try:
            return safe.read_bytes(self.screen, most)
        except OSError:
            return b""

    def turn(self) -> bool:
        """Carry what there is to carry, for a moment; False once QEMU has ended."""
        check_signal()
        if not self.opened and time.monotonic() - self.knocked > KNOCK_EVERY:
            # Gone, it is plugged in again.
            self.knocked = time.monotonic()
            self._order(qmp.order("device_del", mark="knock", id="knock"))
        poll = select.poll()
        said = [self.said] if self.said is not None else []
        ends = {one.fileno(): one for one in (self.console, self.control, self.port, *said)}
        for number, one in ends.items():
            writes = select.POLLOUT if self.pending.get(one) else 0
            poll.register(number, select.POLLIN | writes)
        for number, events in poll.poll(TICK * 1000):
            one = ends[number]
            if events & select.POLLOUT and not self._flush(one):
                return False
            if events & ~select.POLLOUT:
                data = _received(one)
                if data == b"":
                    return False
                if data:
                    self._take(one, data)
        return self.process.poll() is None

    def _flush(self, one: socket.socket) -> bool:
        data = self.pending[one]
        try:
            del data[: one.send(data[:65536])]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _take(self, one: socket.socket, data: bytes) -> None:
        if one is self.console:
            self.shown(data)
            return
        if one is self.said:
            self.last_words = (self.last_words + data)[-COMPLAINT:]
            return
        try:
            if one is self.port:
                self.came += self.answers.add(data)
                if len(self.came) > WAITING:
                    raise ValueError(f"{len(self.came)} answers that nobody has asked for")
                return
            messages = self.messages.add(data)
        except ValueError as error:
            raise MachineStopped("nonsense", str(error)) from error
        for message in messages:
            if (opened := qmp.port_opened(message, "port")) is not None:
                self.left = self.opened and not opened
                self.opened = self.opened or opened
            if message.get("event") == "DEVICE_DELETED" and not self.opened:
                self._plug()
            if message.get("id") == "knock" and "error" in message and not self.opened:
                self._plug()
            if qmp.no_room(message):
                # QEMU has stopped the machine, and would wait for more room.
                raise MachineStopped("full")
            if message.get("id") == "screen":
                self.pictured = "return" in message

    def _plug(self) -> None:
        self._order(
            qmp.order(
                "device_add", mark="plug", driver="virtserialport", id="knock", name=agent.KNOCK
            )
        )

    def _order(self, order: bytes) -> None:
        self.pending.setdefault(self.control, bytearray()).extend(order)


def _received(one: socket.socket) -> bytes | None:
    """What there is to read, b"" at the end, None for nothing yet."""
    try:
        return one.recv(1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""


@contextlib.contextmanager
def started(
    machine: DiskMachine,
    rights: qemu.Rights,
    folder: Path,
    where: str,
    log: Log,
    seen: tuple[Callable[[bytes], None], Callable[[], str]],
) -> Iterator[RunningMachine]:
    """A machine that runs as long as the block does; nothing of it is left in `folder` or runs on.

    `seen` are RunningMachine's `shown` and `dead`. What QEMU itself says is in the log at the end;
    where it could not even start, that is a BuildError.
    """
    screen = folder / "screen.ppm"
    with contextlib.ExitStack() as stack:
        words, lent = stack.enter_context(prepared(machine, rights, folder, where, log))
        stack.callback(screen.unlink, missing_ok=True)
        name = lent.add(os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        pairs = {one: socket.socketpair() for one in ("console", "control", "port", "said")}
        for ours, theirs in pairs.values():
            ours.setblocking(False)
            stack.callback(ours.close)
            stack.callback(theirs.close)
        said = pairs["said"][1].fileno()
        given = {one: theirs.fileno() for one, (_ours, theirs) in pairs.items() if one != "said"}
        for one, number in given.items():
            words += ["-chardev", f"socket,id={one},fd={number}"]
        words += PORTS + agent.smbios() + lent.words
        files = [*lent.numbers, *given.values()]
        process = popen(rights.command(words), stdout=said, stderr=said, files=files)
        for _ours, theirs in pairs.values():
            theirs.close()
        running_one = RunningMachine(
            process=process,
            console=pairs["console"][0],
            control=pairs["control"][0],
            port=pairs["port"][0],
            shown=seen[0],
            dead=seen[1],
            screen=screen,
            screen_name=name,
            said=pairs["said"][0],
        )
        stack.callback(_tell, running_one, log)
        with running(process):
            running_one.begin()
            yield running_one
            process.kill()  # what it has not written yet is of no use


PORTS = [
    "-serial", "chardev:console",
    "-mon", "chardev=control,mode=control",
    "-device", "virtio-serial-pci",
    "-device", f"virtserialport,chardev=port,id=port,name={agent.PORT}",
]  # fmt: skip


def _tell(machine: RunningMachine, log: Log) -> None:
    """What QEMU itself said into the log."""
    for line in machine.complaint().splitlines():
        log.line(f"QEMU: {line}")
