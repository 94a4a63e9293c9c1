"""What a person types goes to a program that is not trusted, what it prints to their terminal.

The program has the far ends of a pseudo-terminal, or of pipes: never a file of the host's. Whoever
holds a terminal can type into it for its next reader (ioctl_tty(2), TIOCSTI), and whoever holds a
folder can open what is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

TICK = 0.2
"""Seconds between two looks at the window's size, at the clock and at whether to stop.

A thread is told of no SIGWINCH."""

CHUNK = 4096
"""Bytes of one write: a pipe that poll(2) calls writable takes so many (PIPE_BUF) at once."""

ESCAPE = b"\x1d"
"""Ctrl-]: three times within a second leave a program that hangs, as in systemd-nspawn(1)."""

LEAVE = "Ctrl-] three times leaves it if it hangs"


def both() -> bool:
    """Whether a person sits there: input and output are terminals."""
    return os.isatty(0) and os.isatty(1)


@dataclass(kw_only=True)
class Ends:
    """Our ends of what a program talks by; all are closed at the end of `relay`.

    `input` is what it reads from, -1 for nothing; `outputs` what it writes, with the descriptor of
    ours that this goes to. `terminal`: both are one pseudo-terminal's.
    """

    input: int
    outputs: dict[int, int]
    terminal: bool = False
    pending: dict[int, bytearray] = field(default_factory=dict)
    """What is still to be written, by descriptor."""

    def close(self, one: int) -> None:
        """Close one end, which tells the program that there is nobody."""
        if one == self.input:
            self.input = -1
        self.outputs.pop(one, None)
        with contextlib.suppress(OSError):
            os.close(one)

    def close_all(self) -> None:
        """Close what is left of them."""
        for one in {self.input, *self.outputs} - {-1}:
            self.close(one)


@contextlib.contextmanager
def raw(wanted: bool) -> Iterator[None]:
    """Our terminal hands on each key as it is, Ctrl-C too, as long as the block runs."""
    if not wanted:
        yield
        return
    try:
        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
    except termios.error as error:
        raise OSError(*error.args) from error
    try:
        yield
    finally:
        # Not TCSADRAIN, which waits for a terminal that was stopped.
        with contextlib.suppress(termios.error):  # it may be gone
            termios.tcsetattr(0, termios.TCSANOW, before)


def resize(terminal: int, known: bytes = b"") -> bytes:
    """Give a pseudo-terminal our window's size, unless it is the known one; the size."""
    try:
        size = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8))
        if size != known and any(struct.unpack("4H", size)[:2]):
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    except OSError:
        return known
    return size


def relay(
    ends: Ends,
    *,
    typed: bool = True,
    stopped: Callable[[], bool] = lambda: False,
    seen: Callable[[bytes], bool] = lambda _data: False,
    until: float | None = None,
) -> str:
    """Carry bytes both ways until the program has closed its ends; why it ended.

    "ended", or "left" by ESCAPE, "stopped", "seen" what was waited for in the output, "late" when
    time.monotonic() is past `until`. Without `typed` nothing is read from standard input.
    """
    with raw(ends.terminal and typed):
        try:
            return _relay(ends, typed=typed, stopped=stopped, seen=seen, until=until)
        finally:
            ends.close_all()


def _relay(
    ends: Ends,
    *,
    typed: bool,
    stopped: Callable[[], bool],
    seen: Callable[[bytes], bool],
    until: float | None,
) -> str:
    for one in {ends.input, *ends.outputs} - {-1}:
        os.set_blocking(one, False)
    size, escapes = b"", Escapes()
    asked = typed  # whether standard input may have more
    while ends.outputs or any(ends.pending.values()):
        if ends.terminal and ends.input >= 0:
            size = resize(ends.input, size)
        if stopped():
            return "stopped"
        if until is not None and time.monotonic() >= until:
            return "late"
        ready = _ready(ends, asked)
        for one, to in list(ends.outputs.items()):
            if one in ready and (data := _taken(ends, one)):
                ends.pending.setdefault(to, bytearray()).extend(data)
                if seen(data):
                    _flush(ends, {to})
                    return "seen"
        if asked and 0 in ready:
            data = _read(0)
            if ends.terminal and escapes.left(data):
                return "left"
            asked = bool(data) and ends.input >= 0
            if ends.input >= 0:
                ends.pending.setdefault(ends.input, bytearray()).extend(data)
        _flush(ends, ready)
        over = typed and not asked and not ends.terminal
        if over and ends.input >= 0 and not ends.pending.get(ends.input):
            ends.close(ends.input)
    return "ended"


def _ready(ends: Ends, asked: bool) -> set[int]:
    """The descriptors of which something can be read, or that take what is to be written."""
    wanted: dict[int, int] = {}
    full = {one for one, data in ends.pending.items() if len(data) > 1 << 16}
    for one, to in ends.outputs.items():
        if to not in full:
            wanted[one] = select.POLLIN
    if asked and ends.input not in full:
        wanted[0] = wanted.get(0, 0) | select.POLLIN
    for one, data in ends.pending.items():
        if data:
            wanted[one] = wanted.get(one, 0) | select.POLLOUT
    poll = select.poll()
    for one, events in wanted.items():
        poll.register(one, events)
    return {one for one, _events in poll.poll(TICK * 1000)}


def _taken(ends: Ends, one: int) -> bytes:
    """What a program has written, by one of its ends; b"" once it has closed it."""
    try:
        data = os.read(one, 1 << 16)
    except BlockingIOError:
        return b""
    except OSError:  # EIO: nobody holds the other side of a pseudo-terminal any more
        data = b""
    if not data:
        ends.close(one)
    return data


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError:
        return b""


def _flush(ends: Ends, ready: set[int]) -> None:
    """Write what is pending, as far as it is taken; who reads no more loses the program's ear."""
    for one, data in list(ends.pending.items()):
        if not data or one not in ready:
            continue
        try:
            del data[: os.write(one, bytes(data[:CHUNK]))]
        except BlockingIOError:
            continue
        except OSError:
            data.clear()
            if one == ends.input:
                ends.close(one)
            else:  # our own output is gone: so is the program's, as SIGPIPE has it
                for source in [source for source, to in ends.outputs.items() if to == one]:
                    ends.close(source)
    for one in [one for one in ends.pending if one > 2 and one not in {ends.input, *ends.outputs}]:
        del ends.pending[one]


class Escapes:
    """Counts ESCAPE among what is typed."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def left(self, data: bytes) -> bool:
        """Whether it was typed three times within a second, and nothing between."""
        for at in range(len(data)):
            if data[at : at + 1] != ESCAPE:
                self.times.clear()
                continue
            now = time.monotonic()
            self.times = [*(one for one in self.times if now - one < 1), now]
            if len(self.times) == 3:
                return True
        return False
