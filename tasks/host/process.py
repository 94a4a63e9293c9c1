"""Starting, watching and ending commands of the host, and the signals that end a build."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, NoReturn

from ..errors import BuildError, CommandFailed
from . import space
from .log import STEP_MARK, Log, last_lines
from .tools import ENV, tool

if TYPE_CHECKING:
    import socket

PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
"""For `popen`: no other file imports subprocess."""

Process = subprocess.Popen[bytes]


LINE_LIMIT = 1 << 16
"""Bytes of a line of output; a longer one is taken apart, since it has to be held in memory."""


POLL = 0.05
"""Seconds between two looks at a lock that another process holds."""


def apt_tool(name: str) -> str:
    """The same of a command of apt's, which `run` starts in a PID namespace where it may."""
    if _may_unshare():
        tool("unshare")
    return tool(name)


def need_root(what: str) -> None:
    """BuildError unless this process may make mounts and namespaces."""
    if os.geteuid() != 0:
        raise BuildError(f"{what} needs root", "run the same command with sudo")


# PDEATHSIG counts from the moment it is set: a parent that died before that is seen by its number.
_TIED = 'test "$PPID" = "$0" && exec "$@"'


_live: set[subprocess.Popen[bytes]] = set()


_signal = 0


_starting = _closing = False


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_signal(number: int, _frame: FrameType | None) -> None:
    """The handler of SIGINT and its kin: ends every command, then unwinds as SystemExit does.

    SIGTERM's own default would run no context manager. Only the first signal counts: the clean-up
    that it begins is not to be cut short by a second one; SIGKILL is always left.
    """
    global _signal
    if _signal or _closing:
        return
    _signal = number
    begin = "\n"
    if _before is not None:
        _before()
        begin = ""
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):  # the terminal may be gone; print() may be what was cut
        os.write(2, f"{begin}interrupted by {name}; what was whole is kept\n".encode())
    if not _starting:
        _leave()


_hooks: list[Callable[[], None]] = []
_before: Callable[[], None] | None = None


def before_signal(hook: Callable[[], None]) -> None:
    """Have this called before a signal's own line is written: what takes a bar off the screen."""
    global _before
    _before = hook


def at_signal(hook: Callable[[], None]) -> None:
    """Have a signal call this, too, in whichever thread: what ends waits that are no command's."""
    if hook not in _hooks:
        _hooks.append(hook)


def _leave() -> NoReturn:
    for process in list(_live):
        _kill(process)
    for hook in list(_hooks):
        hook()
    raise SystemExit(128 + _signal)


def interrupted() -> bool:
    """Whether a signal is ending this process."""
    return bool(_signal)


def check_signal() -> None:
    """End a thread's work, too, once a signal has come: only the main thread is told of it."""
    if _signal:
        _leave()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started in its session, unless it has been waited for."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def closing() -> None:
    """End every command that still runs; from now on no signal cuts the clean-up short."""
    global _closing
    _closing = True
    for number in SIGNALS:
        if signal.getsignal(number) is on_signal:
            signal.signal(number, signal.SIG_IGN)  # python, as it ends, sets others to default
    for process in list(_live):
        with contextlib.suppress(OSError), running(process):
            _kill(process)


def popen(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    files: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command that dies when the calling thread does, and that no Ctrl-C reaches first.

    `files` are descriptors that it gets beside its standard ones.
    """
    global _starting
    full = [
        tool("setpriv"),
        "--pdeathsig",
        "KILL",
        "--",
        "/bin/sh",
        "-c",
        _TIED,
        str(os.getpid()),
        tool(argv[0]),
        *argv[1:],
    ]
    main = threading.current_thread() is threading.main_thread()
    # A signal's SystemExit between fork and our knowing of it would leave a process behind.
    if main:
        _starting = True
    try:
        if not _signal:
            process = subprocess.Popen(
                full,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**ENV, **(env or {})},
                cwd=cwd,
                pass_fds=files,
                start_new_session=True,
            )
            _live.add(process)
    finally:
        if main:
            _starting = False
    if _signal:
        _leave()
    return process


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Wait for the process; end it when the block is left by an exception, an interrupt too."""
    try:
        yield process
        process.wait()
    finally:
        _kill(process)
        process.wait()
        _live.discard(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def run(
    argv: Sequence[str],
    *,
    log: Log | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | socket.socket = b"",
    ok: Sequence[int] = (0,),
    what: str = "",
    quiet: bool = False,
    shown: Callable[[str], str] | None = None,
    blamed: Mapping[str, str] | None = None,
    typed: str | None = None,
    telling: Callable[[str], bool] | None = None,
) -> int:
    """Run a command, its whole output line by line into the log; the exit status.

    A status that is not in `ok` is a CommandFailed with the last lines that matter. `what` says in
    the message what the command was for. `quiet` keeps a very long argument list out of the log.
    `shown` is what becomes of each line. `blamed` says whose fault a failure is, by the title of
    the sandbox's step that failed. `stdin` as a socket is the caller's, who answers on it.
    `typed` is how the command is written in the log, "" for what is Strata's own. `telling` looks
    at each line first: True for one that only says how far it is.
    """
    log = log or Log(None)
    full: list[str] = []
    blame = ""
    # Of this command alone: others may write to the same log meanwhile.
    said: deque[str] = deque(maxlen=400)
    whole = shlex.join(argv) if not quiet else shlex.join(argv[:2]) + " ..."
    if typed != whole:
        (log.line if typed is None else log.plumbing)(f"+ {whole}")
    if typed:
        log.line(f"+ {typed}")
    if argv[0] in ("apt-get", "apt-helper") and _may_unshare():
        # Its methods wait for a dead mirror's timeout before they see that apt itself was killed.
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--", tool(argv[0]), *argv[1:]]
    # A file, since a pipe would need a thread to feed it.
    with tempfile.TemporaryFile() as feed:
        if isinstance(stdin, bytes):
            feed.write(stdin)
            feed.seek(0)
        given = feed if isinstance(stdin, bytes) else stdin.fileno()
        process = popen(
            argv, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd
        )
        with running(process):
            assert process.stdout is not None
            while raw := process.stdout.readline(LINE_LIMIT):
                line = raw.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
                if telling is not None and telling(line):
                    continue
                line = shown(line) if shown else line
                if line.startswith(STEP_MARK):
                    blame = (blamed or {}).get(line[len(STEP_MARK) :], "")
                    if blame:  # what the steps before it said is not its own
                        said.clear()
                # Now, since many a tool removes what it could not write whole.
                full = full or space.blamed(line, log.places)
                said.append(log.line(line))
            status = process.wait()
    if status not in ok and full:
        raise space.no_room(what or shlex.join(argv[:2]), log.places, full, log.began)
    if status not in ok:
        where = f"the whole output is in {log.path}" if log.path else ""
        lines = last_lines(said)
        failure = CommandFailed(
            f"{what or shlex.join(argv[:2])} failed ({_status(status)}){blame and ': ' + blame}"
            + (f":\n{lines}" if lines else "; it said nothing"),
            where,
            status=status,
            output="\n".join(said),
        )
        failure.blamed = blame
        raise failure
    return status


def _may_unshare() -> bool:
    """Whether this process has CAP_SYS_ADMIN (21, linux/capability.h): locking does without."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 21 & 1)


def _status(status: int) -> str:
    from . import sandbox_init

    return f"exit status {status}" if status >= 0 else sandbox_init.killed(-status)


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, as text."""
    code, out, err = filtered(argv, stdin, env=env, cwd=cwd)
    return code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def filtered(
    argv: Sequence[str],
    given: bytes | None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int, bytes, bytes]:
    """Exit status, standard output and standard error of a command that reads `given`."""
    feed = subprocess.DEVNULL if given is None else PIPE
    with running(popen(argv, stdin=feed, stdout=PIPE, stderr=PIPE, env=env, cwd=cwd)) as process:
        out, err = process.communicate(given)
    return process.returncode, out, err


def pause(seconds: float) -> None:
    """Sleep, in any thread, unless a signal ends this process."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check_signal()
        time.sleep(min(left, POLL))
