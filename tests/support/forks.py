"""doit without loading it each time: a process that has loaded it forks for each run.

    Forked ── argv, cwd, environment, three files ──→ the loaded process ─fork→ doit
      ↑                                                     │
      └──────────── its process id, then its exit status ───┘

Loading is a third of what a small build takes, and a run of the tests has thousands. Each of them
is a process of its own all the same, from the loaded modules on: they do nothing when imported.
What concerns the start itself (encodings, signals, closed files, the wrapper, doit in a process
group) is tested by starting Python.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

ALSO = ("doit.cmd_base", "doit.cmd_run", "doit.cmd_list", "doit.doit_cmd", "xxhash", "yaml",
        "sqlite3", "email.parser", "urllib.request")  # fmt: skip
"""What a run loads beside Strata itself."""

START = ("LC_", "LANG", "LOCPATH", "PYTHON")
"""Variables that Python reads as it starts: with them it must be started."""


FIRST = threading.Lock()
"""Of several threads one starts the process."""


def fits(root: Path, more: Mapping[str, str]) -> bool:
    """Whether a run there, with these variables beside the test's own, is as one from the start."""
    return (root / "tasks").resolve() == PROJECT / "tasks" and not any(
        name.startswith(START) for name in more
    )


class Forked:
    """One run of doit, or of `strata`, that goes on beside the test; what it writes is kept in files.

    `group`: in a session and a process group of its own, which can get signals as one.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, program: str = "doit",
        group: bool = False,
    ) -> None:  # fmt: skip
        request = json.dumps([[program, *argv], str(cwd), dict(env), group]).encode()
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as kept:
            kept.enter_context(self._answers)
            self._out = kept.enter_context(tempfile.TemporaryFile())
            self._err = kept.enter_context(tempfile.TemporaryFile())
            self._kept = kept.pop_all()
        with theirs, open(os.devnull, "rb") as nothing:
            files = [nothing.fileno(), self._out.fileno(), self._err.fileno(), theirs.fileno()]
            with FIRST:
                loaded = _loaded()[0]
            socket.send_fds(loaded, [request], files)
        self.pid = int(self._answer())

    def _answer(self) -> bytes:
        if answer := self._answers.recv(16):
            return answer
        raise RuntimeError("the loaded process has ended")

    @property
    def out(self) -> str:
        """What it has written so far."""
        size = os.fstat(self._out.fileno()).st_size
        return os.pread(self._out.fileno(), size, 0).decode()

    def ended(self) -> bool:
        """Whether it has, without waiting for it."""
        return bool(select.select([self._answers], [], [], 0)[0])

    def end(self, seconds: float | None = None) -> tuple[int, str, str]:
        """Its exit status, once it has ended, and all that it wrote; nothing can be asked after it."""
        with self._kept:
            self._answers.settimeout(seconds)
            code = int(self._answer())
            self._err.seek(0)
            return code, self.out, self._err.read().decode()


def run(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, program: str = "doit"
) -> tuple[int, str, str]:
    """The exit status of `python -m doit ARGV`, or `strata`, and what it wrote; nothing is its input."""
    return Forked(argv, cwd, env, program=program).end()


@functools.cache
def _loaded() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], cwd=PROJECT,
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
        )  # fmt: skip
    return ours, process


def close() -> None:
    """End the loaded process: it does when nobody has the other end of its socket."""
    if _loaded.cache_info().currsize:
        ours, process = _loaded()
        ours.close()
        process.wait()
        _loaded.cache_clear()


def _serve(control: socket.socket) -> list[str]:
    """Forks for each request, and returns in the fork, as `python -m doit` is when it starts."""
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for number, _event in poll.poll():
            if number in running:
                pid, answer = running.pop(number)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):  # whoever asked is gone
                    os.write(answer, str(code).encode())
                poll.unregister(number)
                os.close(answer)
                os.close(number)
                continue
            request, files, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not request:
                os._exit(0)
            *standard, answer = files
            pid = os.fork()
            if pid == 0:
                control.close()
                for one in (*running, *(theirs for _pid, theirs in running.values())):
                    os.close(one)
                return _become(request, standard, answer)
            for file in standard:
                os.close(file)
            descriptor = os.pidfd_open(pid)
            running[descriptor] = (pid, answer)
            poll.register(descriptor, select.POLLIN)


def _become(request: bytes, standard: Sequence[int], answer: int) -> list[str]:
    argv, cwd, env, group = json.loads(request)
    if group:
        os.setsid()
    # By the fork itself, so that whoever is told of a group can send it a signal.
    with contextlib.suppress(OSError):
        os.write(answer, str(os.getpid()).encode())
    os.close(answer)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=False)  # as a file's is, whatever this began with
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd if argv[0] == "doit" else str(PROJECT)
    return [str(one) for one in argv]


def _load() -> None:
    from doit import plugin

    sys.path[0] = str(PROJECT)
    package = importlib.import_module("tasks")
    for module in pkgutil.walk_packages(package.__path__, "tasks."):
        if not module.name.endswith(("sandbox_init", "__main__")):
            importlib.import_module(module.name)
    importlib.import_module("tasks.spec.schema").load_jsonschema()
    for name in ALSO:
        importlib.import_module(name)
    # doit looks for plugins among all that is installed, three times in each run.
    plugin.entry_points = functools.cache(plugin.entry_points)
    for category in ("COMMAND", "LOADER", "REPORTER", "BACKEND"):
        plugin.entry_points(group=f"doit.{category}")
    gc.freeze()


if __name__ == "__main__":
    _load()
    import doit
    from doit.doit_cmd import DoitMain

    from tasks.line.leave import exit_with
    from tasks.line.main import strata

    name, *words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if name == "strata":
        sys.argv = ["-c", *words]
        strata()
    sys.argv = [str(Path(doit.__path__[0], "__main__.py")), *words]
    # What is loaded is not taken apart at each end of a run, which took as long as a small one.
    exit_with(lambda: int(DoitMain().run(words) or 0))
