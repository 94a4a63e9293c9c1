"""The program that runs inside a stage's namespaces: mounts, confines itself, runs commands.

`tasks.host.sandbox` starts it as PID 1 of new mount, PID, network, IPC and UTS namespaces, so that
its end, however it comes, is the end of every process and every mount of the stage. It imports
nothing of Strata but its own parts (`sandbox_*.py`) and needs only the standard library: it must
also work after pivot_root, when no file of the host can be opened any more, so that all of it is
loaded before. Each stage waits for that: what few of them need is loaded where it is asked for.
The plan is on standard input (see `given`):

    mounts    [[kind, source, target, options], ...]   kind: overlay, bind, bind-ro, tmpfs, loop:FS
    root      a mounted directory that becomes /, or null to stay in the host's tree
    binds     [[source, target], ...]                   read-only, below the new root
    writable  [[source, target], ...]                   the same, read-write
    keep      capabilities that stay, by name: the commands then run packages' code, so that system
              calls are filtered and processes and memory bounded, too; null: all of it stays open
    base      the directory to which the mounts' paths are relative: overlay options are short
    hostname  of the UTS namespace
    env       the commands' whole environment
    cwd       their working directory, after root
    chroots   directories of the new root that get a /dev and /proc, too
    seen      {"proc": {path: text}, "real": [path, ...], "sys": {path: text or null}}: what
              programs below the new root find in /proc and /sys, see tasks/host/seen.py
    arch      of the programs, for what a kernel of 64 bits tells those of 32; or null
    socketcall  whether they may ask for sockets by socketcall(2), which no filter can look into
    steps     [[title, [argv, ...]], ...]               pipelines; the first that fails ends it
    fed       whether what follows on standard input is the first step's
    visit     null, or what a person is given here (see sandbox_visit.py), by standard input, which
              is a socket then: {"programs": [argv, ...], "env": {}, "failed": only where a step
              fails, "terminal": by one, or by pipes}
    trial     run nothing, but say as JSON what of all this failed, for tasks/host/trials.py

Exit status: that of the first failing pipeline, 125 when a mount or the like fails. With arguments
it reads no plan: `namespaces` says which of these it may not make, `execute FOLDER` whether the
kernel runs the program there.
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import marshal
import os
import select
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any, NoReturn

from . import sandbox_calls
from .sandbox_calls import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    check,
    libc,
    mount,
    now,
)
from .sandbox_confine import (
    PER_LINUX,
    PER_LINUX32,
    bound_resources,
    drop_capabilities,
    filter_calls,
)
from .sandbox_mounts import enter, mount_one

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

NAMESPACES = {"mount": 0x20000, "PID": 0x20000000, "network": 0x40000000, "IPC": 0x8000000,
              "UTS": 0x4000000, "cgroup": 0x2000000}  # fmt: skip
"""linux/sched.h: what tasks.host.sandbox asks unshare(1) for."""

FLUSH = 0.1
"""Seconds between two write-backs of a filesystem that is being filled."""


def loopback_up() -> None:
    """127.0.0.1 answers, as scripts expect; nothing else is there."""
    # Not `socket`, whose import takes as long as all of this.
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = fcntl.ioctl(sock.fileno(), SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
    flags = struct.unpack("16sH14x", request)[1] | IFF_UP
    fcntl.ioctl(sock.fileno(), SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))
    sock.close()


def run_step(pipeline: list[list[str]], plan: dict[str, Any]) -> int:
    """One pipeline; the first status that is not 0. PID 1 reaps whatever else ends meanwhile."""
    running: list[subprocess.Popen[bytes]] = []
    # None: the first one inherits ours.
    upstream: Any = None if plan["fed"] else subprocess.DEVNULL
    for number, argv in enumerate(pipeline):
        last = number == len(pipeline) - 1
        child = subprocess.Popen(
            argv,
            stdin=upstream,
            stdout=None if last else subprocess.PIPE,
            env=plan["env"],
            cwd=plan["cwd"],
            start_new_session=True,
        )
        if number:
            upstream.close()
        upstream = child.stdout
        running.append(child)
    waiting = {child.pid: child for child in running}
    status: dict[int, int] = {}
    while len(status) < len(running):
        pid, code = os.wait()
        if pid in waiting:
            waiting[pid].returncode = os.waitstatus_to_exitcode(code)
            status[pid] = waiting[pid].returncode
    return next((status[child.pid] for child in running if status[child.pid]), 0)


def killed(number: int) -> str:
    """What is said of a command that a signal ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # one of real time
        name = f"signal {number}"
    more = ", as the kernel does where memory runs out" if number == signal.SIGKILL else ""
    return f"killed by {name}{more}"


class Flushing:
    """Write-back of filesystems that are being filled, beside the filling, by a thread.

    The kernel would begin it after some seconds, or leave all of it to umount(2). Its errors show
    once, to a descriptor that was open before: umount swallows them, and where the disk below a
    loop device is full, e2fsck would mend what is left of the filesystem.
    """

    def __init__(self, targets: list[str]) -> None:
        self.open = {target: os.open(target, os.O_RDONLY) for target in targets}
        self.failed: OSError | None = None
        import threading

        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while self.open and not self.done.wait(FLUSH):
            for target, descriptor in self.open.items():
                try:
                    check(libc.syncfs(descriptor), f"sync {target}")
                except OSError as error:
                    self.failed = self.failed or error

    def end(self) -> None:
        """Write the rest; the first error of any writing."""
        self.done.set()
        self.thread.join()
        for target, descriptor in self.open.items():
            check(libc.syncfs(descriptor), f"sync {target}")
            os.close(descriptor)
        if self.failed is not None:
            raise self.failed


def main(plan: dict[str, Any]) -> int:
    """Mount, confine, run."""
    visit = plan["visit"]
    if visit is not None:
        from . import sandbox_visit  # now: see above

        line = sandbox_visit.line_to_parent()
    # The user's own would show in what mounts, tools and scripts make.
    os.umask(0o022)
    # Nor may what it does with signals, how it counts addresses (setarch(8)), and who logged in.
    for number in signal.valid_signals() - {signal.SIGPIPE}:  # which Python ignores, for itself
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # The end of the builder ends unshare(1), its parent; this is for the moment before it.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # PID 1 gets no signal from inside that it has no handler for, and Python has one for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # One that died even before that shows in that nobody reads our output any more.
    poll = select.poll()
    poll.register(1, 0)
    if poll.poll(0):
        return 125
    now("propagation")
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    now("proc")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    libc.sethostname(plan["hostname"].encode(), len(plan["hostname"]))
    with suppress(OSError):  # what needs it says so itself
        loopback_up()
    os.chdir(plan["base"])
    for kind, source, target, options in plan["mounts"]:
        now(kind.partition(":")[0])
        mount_one(kind, source, target, options)
    if plan["keep"] is not None:
        bound_resources()
    if plan["root"] is not None:
        enter(plan)
    if plan["keep"] is not None:
        # uname -m, as on a kernel of 32 bits
        narrow = plan["arch"] in ("i386", "armhf", "armel")
        libc.personality(ctypes.c_ulong(PER_LINUX32 if narrow else PER_LINUX))
        now("capabilities")
        drop_capabilities(plan["keep"])
        now("seccomp")
        filter_calls(socketcall=plan["socketcall"])
    now("")
    if plan["trial"]:
        return 0
    loops = [target for kind, _, target, _ in plan["mounts"] if kind.startswith("loop:")]
    # None where the tree's own programs run: PID 1 has one thread then.
    flushing = Flushing(loops) if plan["root"] is None else None
    status = 0
    for place, (title, pipeline) in enumerate(plan["steps"]):
        if title:
            # \x01 tells tasks.host.log that this is what the stage does now.
            print(f"\x01{title}", flush=True)
        if not plan["fed"]:
            print(f"\x02{place}", flush=True)  # tasks.host.sandbox writes the command
        status = step_status(pipeline, plan)
        if status < 0:
            print(killed(-status), flush=True)  # it may have had no time to say anything
        if status and (visit is None or visit["failed"]):
            break
    if visit is not None and (status or not visit["failed"]):
        sandbox_visit.receive(visit, line, status, plan)
        status = status if visit["failed"] else 0
    if flushing is not None:
        flushing.end()
        for _kind, _source, target, _options in reversed(plan["mounts"]):
            check(libc.umount2(target.encode(), 0), f"umount {target}")
    return status if status >= 0 else 128 - status


def step_status(pipeline: list[list[str]], plan: dict[str, Any]) -> int:
    """The status of a pipeline; with a visitor, of a program that is not there, too."""
    try:
        return run_step(pipeline, plan)
    except OSError as error:
        if plan["visit"] is None:
            raise
        print(f"sandbox: {error}", flush=True)
        return 125


def namespaces() -> int:
    """Say which namespaces this process may not make, a line each: its name and the errno."""
    for name, flag in NAMESPACES.items():
        if not (child := os.fork()):
            os._exit(ctypes.get_errno() if libc.unshare(flag) else 0)
        _pid, status = os.waitpid(child, 0)
        if number := os.waitstatus_to_exitcode(status):
            print(name, number)
    return 0


def execute(folder: str) -> int:
    """Run /program with a folder as the root, and say the errno when it cannot be run."""
    if not (child := os.fork()):
        try:
            if os.geteuid() == 0:
                os.chroot(folder)
                folder = ""
            os.chdir(folder or "/")
            os.execv(f"{folder}/program", ["program"])  # noqa: S606 - there is no shell
        except OSError as error:
            print(error.errno, flush=True)
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    return 1 if status else 0


def given() -> dict[str, Any]:
    """The plan from standard input: as many bytes as eight hex digits before it count.

    What comes after it is the first step's input, of which not a byte may be read here.
    """
    plan: dict[str, Any] = marshal.loads(exactly(int(exactly(8), 16)))  # noqa: S302 - our parent's
    return plan


def exactly(size: int) -> bytes:
    """So many bytes of standard input; ValueError where it ends before."""
    found = b""
    while len(found) < size:
        block = os.read(0, size - len(found))
        if not block:
            raise ValueError("the plan is cut off")
        found += block
    return found


def told(failed: str, number: int, text: str) -> None:
    """The result of a trial, for tasks/host/trials.py."""
    import json

    print(json.dumps({"failed": failed, "errno": number, "text": text}))


def start() -> NoReturn:
    """Do what the arguments or the plan say, and exit."""
    trial = False
    try:
        if sys.argv[1:] == ["namespaces"]:
            sys.exit(namespaces())
        if sys.argv[1:2] == ["execute"]:
            sys.exit(execute(sys.argv[2]))
        plan = given()
        trial = plan["trial"]
        if trial:
            import json  # noqa: F401 - now: after pivot_root nothing of the host can be opened
        status = main(plan)
        if trial:
            told("", 0, "")
        sys.exit(status)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        if trial:
            number = (error.errno or 0) if isinstance(error, OSError) else 0
            told(sandbox_calls.doing, number, getattr(error, "strerror", "") or str(error))
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
        sys.exit(125)
