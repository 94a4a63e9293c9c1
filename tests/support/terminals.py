"""A command on a pseudo-terminal of its own: what it wrote, what a person saw of it, and typed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Recorded:
    """What a command wrote, in the pieces that it came in, each with the seconds since it began."""

    columns: int
    code: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def bytes(self) -> bytes:
        """All of it."""
        return b"".join(piece for _when, piece in self.pieces)

    def screens(self, rows: int = 60) -> list[tuple[float, list[str]]]:
        """What stood on the terminal after each piece: lines without what is blank at their ends."""
        import pyte

        screen = pyte.Screen(self.columns, rows)
        stream = pyte.ByteStream(screen)
        found: list[tuple[float, list[str]]] = []
        for when, piece in self.pieces:
            stream.feed(piece)
            lines = [line.rstrip() for line in screen.display]
            while lines and not lines[-1]:
                lines.pop()
            if not found or found[-1][1] != lines:
                found.append((when, lines))
        return found

    def left(self) -> list[str]:
        """What stands there in the end."""
        return self.screens()[-1][1] if self.pieces else []


def record(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    columns: int = 120,
    rows: int = 40,
    send: tuple[str, int] | None = None,
    resize: tuple[str, int] | None = None,
    limit: float = 600,
) -> Recorded:
    """Run a command on a terminal of so many columns.

    `send`: once its output has this text, it gets the signal, SIGINT as from the keyboard. `resize`:
    the terminal has so many columns from then on.
    """
    master, slave = pty.openpty()
    _sized(slave, columns, rows)
    before = termios.tcgetattr(slave)
    began = time.monotonic()
    child = subprocess.Popen(
        argv, cwd=cwd, env=dict(env), stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    found = Recorded(columns=columns)
    try:
        while True:
            ended = child.poll() is not None
            ready, _, _ = select.select([master], [], [], 0 if ended else 0.1)
            if ready:
                with contextlib.suppress(OSError):
                    found.pieces.append((time.monotonic() - began, os.read(master, 1 << 16)))
            elif ended:
                break
            if send is not None and send[0].encode() in found.bytes:
                if send[1] == signal.SIGINT:
                    os.write(master, b"\x03")
                else:
                    child.send_signal(send[1])
                send = None
            if resize is not None and resize[0].encode() in found.bytes:
                _sized(master, resize[1], rows)
                resize = None
            assert time.monotonic() - began < limit, found.bytes.decode(errors="replace")
        found.code = child.wait()
        after = termios.tcgetattr(slave)
        assert after == before, "the terminal's settings were changed"
    finally:
        child.kill()
        child.wait()
        os.close(slave)
        os.close(master)
    return found


def _sized(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Person:
    """Somebody who has started a program at a terminal of 30 rows and 100 columns."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(argv[0], list(argv), dict(env))
        self.resize(30, 100)
        self.seen = ""
        self.read = 0

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size."""
        size = struct.pack("4H", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def types(self, text: str) -> None:
        """Press these keys."""
        os.write(self.terminal, text.encode())

    def waits(self, text: str, seconds: float = 60) -> str:
        """What is shown up to this text, from where the last wait ended; an error if it never is."""
        until = time.monotonic() + seconds
        while text not in self.seen[self.read :]:
            assert time.monotonic() < until, f"{text!r} is not in:\n{self.seen}"
            assert self._more(0.2), f"it ended without {text!r}:\n{self.seen}"
        end = self.seen.index(text, self.read) + len(text)
        shown, self.read = self.seen[self.read : end], end
        return shown

    def _more(self, seconds: float) -> bool:
        """Look at what is shown; whether there may be more."""
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:
                return False
            self.seen += data.decode("utf-8", "replace")
            return bool(data)
        return True

    @property
    def mode(self) -> list[object]:
        """The terminal's settings, termios(3)."""
        return list(termios.tcgetattr(self.terminal))

    def ends(self) -> int:
        """The exit status, once all is read."""
        while self._more(60):
            pass
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)
