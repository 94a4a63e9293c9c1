"""A person in a sandbox: a program there that they talk to, and nothing else of theirs.

    our terminal ─ relay ─ the far ends, made inside ─ the program
                     └──── a socket: the plan goes in, the ends and the status come out

The socket is the sandbox's standard input, which its program keeps from all that it starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BuildError
from . import terminal
from .sandbox_visit import NO_PROGRAM
from .terminal import Ends

SHELLS = (("/bin/bash",), ("/bin/sh",))
"""Of which the tree has the first, mostly."""


@dataclass(kw_only=True)
class Visit:
    """What a person is given in a sandbox: the first of `programs` that there is.

    `failed`: only where a step fails, before what that left is gone; else when the steps are done,
    whatever became of them. `told` is called before, with the step's status. `status` is the
    program's own afterwards, None where none was started. `env` is for one at a terminal.
    """

    programs: Sequence[Sequence[str]] = SHELLS
    env: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False
    told: Callable[[int], None] = lambda _status: None
    terminal: bool = field(default_factory=terminal.both)
    status: int | None = None
    stopped: bool = False

    @property
    def plan(self) -> dict[str, Any]:
        """What the program inside is told of it."""
        return {
            "programs": [list(argv) for argv in self.programs],
            "env": {**(self.env if self.terminal else {}), **seen_env(self.terminal)},
            "failed": self.failed,
            "terminal": self.terminal,
        }

    @contextlib.contextmanager
    def expected(self, plan: bytes) -> Iterator[socket.socket]:
        """The standard input of a sandbox that is given this plan; the visit itself is a thread's.

        The caller reads meanwhile what the sandbox says, and is told of signals.
        """
        ours, theirs = socket.socketpair()
        self.stopped, self.status = False, None
        thread = threading.Thread(target=self._receive, args=(ours, plan))
        thread.start()
        try:
            yield theirs
        except BaseException:
            self.stopped = True
            raise
        finally:
            theirs.close()
            thread.join()
            ours.close()

    def _receive(self, line: socket.socket, plan: bytes) -> None:
        """Send the plan; when the ends come, carry what goes by them, then note the status."""
        try:
            line.sendall(plan)
            said, found, _flags, _from = socket.recv_fds(line, 4, 3)
            if len(said) == 4 and len(found) == (1 if self.terminal else 3):
                self._carry(line, self._ends(found), *struct.unpack("i", said))
        except OSError:
            pass  # a sandbox that ended: what it said is read elsewhere
        finally:
            # Whatever went wrong here: the program inside waits for nobody.
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _ends(self, found: Sequence[int]) -> Ends:
        if self.terminal:
            return Ends(input=found[0], outputs={found[0]: 1}, terminal=True)
        return Ends(input=found[0], outputs={found[1]: 1, found[2]: 2})

    def _carry(self, line: socket.socket, ends: Ends, status: int) -> None:
        try:
            if self.terminal:
                terminal.resize(ends.input)
            self.told(status)
            line.sendall(b"\0")  # now it may begin
            why = terminal.relay(ends, stopped=lambda: self.stopped)
        finally:
            ends.close_all()
        if why != "ended":
            line.shutdown(socket.SHUT_WR)  # so that the program inside ends it all
        ended = line.recv(4)
        if len(ended) == 4:
            self.status = struct.unpack("i", ended)[0]

    def require(self, what: str) -> int:
        """The exit status of what was run; BuildError where nothing was."""
        if self.status is None:
            return 128 + 9  # ended with its sandbox, by whoever it was
        if self.status >= NO_PROGRAM:
            reason = os.strerror(self.status - NO_PROGRAM)
            names = " and no ".join(argv[0] for argv in self.programs)
            raise BuildError(
                f"{what}: the tree has no {names} that can be run: {reason}",
                "add bash, or a package that has /bin/sh, to its packages",
            )
        return self.status


def seen_env(person: bool) -> dict[str, str]:
    """What a program at a terminal has to know of it: its kind, and nothing else of ours."""
    kind = os.environ.get("TERM", "")
    if not person:
        return {"TERM": "dumb"}
    return {"TERM": kind if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}", kind) else "linux"}
