"""A person in a sandbox: what they talk to is started here, and its far ends are sent to them.

A part of the program inside, see sandbox_init.py, which loads it where a visit is expected.
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os
import select
import signal
import struct
from typing import Any, NoReturn

from .sandbox_calls import check, libc

NO_PROGRAM = 1 << 16
"""Added to the errno where none of the programs can be run; more than any exit status."""


def line_to_parent() -> Any:
    """The socket that standard input was, which nothing that is started here inherits."""
    line = _socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    return line


def pseudo_terminal() -> tuple[int, str]:
    """A new one of this namespace's devpts: its master, and the slave's name.

    By what nobody inside can have replaced: devpts has no name that can be given to another, and
    where it is mounted stays.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    check(libc.unlockpt(master), "unlockpt")
    name = ctypes.create_string_buffer(64)
    if number := libc.ptsname_r(master, name, len(name)):
        raise OSError(number, f"ptsname: {os.strerror(number)}")
    return master, name.value.decode("ascii")


def receive(visit: dict[str, Any], line: Any, status: int, plan: dict[str, Any]) -> None:
    """Run the first of visit's programs that there is, for whoever is at the other end of `line`.

    They get `status`, what became of the steps, with the ends of a terminal or of pipes that are
    made here; when they answer, it begins; its own status is sent in the end. That they hang up
    is the end of all that runs here.
    """
    name, inner = "", []
    if visit["terminal"]:
        master, name = pseudo_terminal()
        outer = [master]
        inner = [os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)]
    else:
        (source, to), (out, printed), (err, complained) = os.pipe(), os.pipe(), os.pipe()
        outer, inner = [to, out, err], [source, printed, complained]
    rights = struct.pack(f"{len(outer)}i", *outer)
    given = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    line.sendmsg([struct.pack("i", status)], given)
    for one in outer:
        os.close(one)
    if not line.recv(1):
        return
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    failed, told = os.pipe()
    child = os.fork()
    if not child:
        become(visit, name, inner, told, plan["cwd"])
    for one in (*inner, told):
        os.close(one)
    found = os.read(failed, 4)
    ended = until_ended(child, line, wake)
    code = 128 - ended if ended < 0 else ended
    line.sendmsg([found or struct.pack("i", code)])


def become(visit: dict[str, Any], name: str, inner: list[int], told: int, cwd: str) -> NoReturn:
    """Be the program, in a session of its own whose terminal is `name`; errno + NO_PROGRAM in
    `told` where that cannot be."""
    number = 0
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        os.setsid()
        if name:  # the first one that a session's leader opens is its own
            inner = [os.open(name, os.O_RDWR)] * 3
        for target, one in enumerate(inner):
            os.dup2(one, target)
        os.closerange(3, told)
        os.closerange(told + 1, 1024)
        os.chdir(cwd)
        for argv in visit["programs"]:
            try:
                os.execve(argv[0], argv, visit["env"])  # noqa: S606 - no shell is meant
            except OSError as error:
                number = error.errno or 0
        os.write(told, struct.pack("i", NO_PROGRAM + number))
    finally:
        os._exit(127)


def until_ended(child: int, line: Any, wake: int) -> int:
    """Reap what ends, until the child has; its status. Where nobody listens any more, all end."""
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return os.waitstatus_to_exitcode(ended[1])
        for descriptor, _events in poll.poll():
            if descriptor == wake:
                os.read(wake, 4096)
            else:
                poll.unregister(line.fileno())
                os.kill(-1, signal.SIGKILL)
