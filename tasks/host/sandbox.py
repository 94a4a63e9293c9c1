"""Namespaces in which a stage's commands run: what they see and what they may."""

from __future__ import annotations

import contextlib
import marshal
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import CommandFailed
from .log import Log
from .process import PIPE, STDOUT, Process, popen, run, running
from .tools import ENV

if TYPE_CHECKING:
    import socket

    from .visit import Visit

# ---------------------------------------------------------------- sandbox

# What dpkg and maintainer scripts use. Without sys_admin, sys_module, sys_rawio, sys_time, net_*
# and the rest, root inside can own files and start processes, and nothing else.
DPKG_CAPABILITIES = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "net_bind_service", "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip


COMMAND_MARK = "\x02"
"""Begins a line of a sandbox's output that says which of its steps begins, by number."""


PROGRAM = (
    sys.executable, "-I", "-S", "-c",
    "import sys; host = sys.modules['host'] = type(sys)('host'); "
    "host.__path__ = [sys.argv.pop(1)]; from host.sandbox_init import start; start()",
    str(Path(__file__).parent),
)  # fmt: skip
"""sandbox_init.py, which runs in a sandbox before all else: as a module, since Python compiles a
program that it is given anew each time, which takes longer than the rest of its start. It finds its
parts beside it and, by a package that is nothing but this folder, no other file of Strata's."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """An overlay mount: lower directories from the top one down; with no upper it is read-only."""

    lower: Sequence[str]
    target: str
    upper: str = ""
    work: str = ""

    def mount(self) -> list[str]:
        """The entry for the sandbox's plan."""
        # volatile: no fsync reaches the disk. A crash throws the directories away in any case.
        options = ["lowerdir=" + ":".join(self.lower), "redirect_dir=nofollow", "metacopy=off"]
        if self.upper:
            options += [f"upperdir={self.upper}", f"workdir={self.work}", "index=off", "volatile"]
        return ["overlay", "overlay", self.target, ",".join(options)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of a sandbox, or a pipeline of several; `title` says what it does.

    `blame` is what a failure of it is blamed on, up to the next step that has a title. `shown` is
    how the log has it, None for its commands, "" for what is Strata's own and nobody would type.
    """

    pipeline: Sequence[Sequence[str]]
    title: str = ""
    blame: str = ""
    shown: str | None = None

    def tell(self, log: Log) -> None:
        """Write into the log that it begins."""
        whole = " | ".join(shlex.join(argv) for argv in self.pipeline)
        if self.shown != whole:
            (log.line if self.shown is None else log.plumbing)(f"+ {whole}")
        if self.shown:
            log.line(f"+ {self.shown}")


def step(*argv: str, title: str = "", blame: str = "", shown: str | None = None) -> Step:
    """A step that is one command."""
    return Step(pipeline=[argv], title=title, blame=blame, shown=shown)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Where and with what rights commands run; see sandbox_init.py for each field's meaning."""

    base: Path
    mounts: Sequence[Sequence[str]] = ()
    root: str | None = None
    chroots: Sequence[str] = ()
    binds: Sequence[tuple[str, str]] = ()
    writable: Sequence[tuple[str, str]] = ()
    keep: Sequence[str] | None = None
    hostname: str = "localhost"
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    network: bool = False
    """Whether they see the host's network, as a script does whose spec says so."""
    arches: Sequence[str] = ("",)
    """Debian's names of the architectures whose programs run in `root`, its own first."""

    def command(self) -> list[str]:
        """The program inside, in new namespaces; it reads the plan."""
        from . import sandbox_init

        names = {
            "mount": "--mount",
            "PID": "--pid",
            "network": "--net",
            "IPC": "--ipc",
            "UTS": "--uts",
            "cgroup": "--cgroup",
        }
        # A kernel may be built without cgroups. Propagation is the program's own first step.
        flags = [
            names[name]
            for name in sandbox_init.NAMESPACES
            if (name != "cgroup" or os.path.exists("/proc/self/ns/cgroup"))
            and not (name == "network" and self.network)
        ]
        return [
            "unshare",
            *flags,
            "--propagation",
            "unchanged",
            "--fork",
            "--kill-child",
            "--",
            *PROGRAM,
        ]

    def plan(
        self,
        *steps: Step,
        trial: bool = False,
        fed: bool = False,
        visit: Mapping[str, Any] | None = None,
    ) -> bytes:
        """What the program inside reads; with `trial` it runs nothing, but says what failed.

        `fed`: what follows is the first step's input. Not JSON, which takes longer to import than
        all the rest; the same Python reads it.
        """
        from . import seen

        plan = {
            "base": str(self.base),
            "mounts": [list(mount) for mount in self.mounts],
            "root": self.root,
            "chroots": list(self.chroots),
            "binds": list(self.binds),
            "writable": list(self.writable),
            "hostname": self.hostname,
            "keep": None if self.keep is None else list(self.keep),
            # One that is empty here is not set there.
            "env": {name: text for name, text in {**ENV, **self.env}.items() if text},
            "cwd": self.cwd,
            "trial": trial,
            "fed": fed,
            "visit": visit,
            "arch": self.arches[0],
            "seen": seen.content(self.arches[0]),
            # Debian's libc for these has no other way to a socket.
            "socketcall": bool({"i386", "s390x"}.intersection(self.arches)),
            "steps": [[one.title, [list(argv) for argv in one.pipeline]] for one in steps],
        }
        text = marshal.dumps(plan)
        return b"%08x" % len(text) + text

    @contextlib.contextmanager
    def fed(self, one: Step, output: IO[bytes]) -> Iterator[Process]:
        """A step that reads what is written to the process's stdin; what it says is in `output`."""
        process = popen(self.command(), stdin=PIPE, stdout=output, stderr=STDOUT)
        with running(process):
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(self.plan(one, fed=True))
                process.stdin.flush()
            yield process

    def run(
        self,
        *steps: Step,
        log: Log,
        what: str = "",
        shown: Callable[[str], str] | None = None,
        visit: Visit | None = None,
        telling: Callable[[str], bool] | None = None,
    ) -> None:
        """Run each step in new namespaces; BuildError for the first that fails.

        `shown` is what becomes of each line that they print, `telling` takes those that only say
        how far a step is. A `visit` is a person's, when a step fails or when all are done; only
        where root inside is confined.
        When this process dies, by SIGKILL too, PDEATHSIG ends unshare(1) and --kill-child the
        namespaces' PID 1; with it go all processes and mounts of the stage.
        """

        def taken(line: str) -> bool:
            if not line.startswith(COMMAND_MARK):
                return telling is not None and telling(line)
            number = line[len(COMMAND_MARK) :]
            # Whatever runs inside can write such a line: no more comes of it than one in the log.
            if number.isdecimal() and len(number) < 6 and int(number) < len(steps):
                steps[int(number)].tell(log)
            return True

        with contextlib.ExitStack() as stack:
            feed: bytes | socket.socket = b""
            if visit is None or self.root is None or self.keep is None:
                feed = self.plan(*steps)
            else:
                env = {name: text for name, text in {**ENV, **self.env}.items() if text}
                given = {**visit.plan, "env": {**without_secrets(env), **visit.plan["env"]}}
                feed = stack.enter_context(visit.expected(self.plan(*steps, visit=given)))
            try:
                run(
                    self.command(),
                    log=log,
                    stdin=feed,
                    what=what,
                    quiet=True,
                    typed="",
                    telling=taken,
                    shown=shown,
                    blamed={one.title: one.blame for one in steps if one.title},
                )
            except CommandFailed as error:
                error.inside = self.root is not None and self.keep is not None
                raise


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a person is shown: no address that has a password in it."""
    return {
        name: text for name, text in env.items() if not (name.endswith("_proxy") and "@" in text)
    }
