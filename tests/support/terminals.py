"""A person at a terminal: what they type and see, by a pseudo-terminal of the test's own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


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
