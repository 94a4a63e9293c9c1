"""Every command, namespace, lock and scratch folder: what touches the host goes through here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from tasks import cachedir, room, safe
from tasks.errors import BuildError, printable

# What each command is for, and the Debian package that has it. `./doit` installs the first group
# on a fresh machine, `./doit test` both; a build only asks for what it is about to run.
TOOLS: dict[str, str] = {
    "apt-get": "apt", "apt-helper": "apt", "dpkg-deb": "dpkg", "gpgv": "gpgv",
    "mmdebstrap": "mmdebstrap", "debootstrap": "debootstrap", "apt-ftparchive": "apt-utils",
    "tar": "tar", "zstd": "zstd", "xz": "xz-utils", "mount": "mount", "unshare": "util-linux",
    "setpriv": "util-linux", "mke2fs": "e2fsprogs", "e2fsck": "e2fsprogs", "debugfs": "e2fsprogs",
    "resize2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "dumpe2fs": "e2fsprogs",
    "taskset": "util-linux", "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs", "mkfs.vfat": "dosfstools",
    "mcopy": "mtools", "iconv": "libc-bin",
}  # fmt: skip
TEST_TOOLS: dict[str, str] = {
    "gpg": "gpg", "gpgconf": "gpgconf", "gpg-agent": "gpg-agent",
    "qemu-system-x86_64": "qemu-system-x86", "git": "git",
    "pigz": "pigz", "locale-gen": "locales", "ps": "procps",
    # gencat comes with libc6-dev, which gcc only recommends.
    "gcc": "gcc", "gencat": "libc6-dev",
}  # fmt: skip
# What the rivals of `doit bench` need beside those.
BENCH_TOOLS: dict[str, str] = {"pigz": "pigz", "mkosi": "mkosi"}
LIBEXEC = {"apt-helper": "/usr/lib/apt/apt-helper"}

# Whatever the user's shell says, tools speak English, see UTC and find the same programs.
ENV: dict[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent", "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip

PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
"""For `popen`: no other file imports subprocess."""

LOG_LIMIT = 64 << 20
"""Characters of a log file: what a package prints without end does not fill the disk."""
LINE_LIMIT = 1 << 16
"""Bytes of a line of output; a longer one is taken apart, since it has to be held in memory."""
POLL = 0.05
"""Seconds between two looks at a lock that another process holds."""

TAIL = 12
"""Lines of a failed command's output that are shown."""


def tool(name: str) -> str:
    """The path of a host command; BuildError names the package to install when it is missing."""
    path = LIBEXEC.get(name) or shutil.which(name, path=ENV["PATH"])
    if path is None or not os.access(path, os.X_OK):
        package = {**TOOLS, **TEST_TOOLS, **BENCH_TOOLS}.get(name, name)
        raise BuildError(f"the host has no command {name}", f"apt-get install {package}")
    return path


def apt_tool(name: str) -> str:
    """The same of a command of apt's, which `run` starts in a PID namespace where it may."""
    if _may_unshare():
        tool("unshare")
    return tool(name)


def stand_streams() -> None:
    """Open what the caller closed of standard input, output and error, before anything else is.

    The next file to be opened would have that number, and a command would write its complaints
    into it. Errors go to standard output if they have no place of their own.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            if number == 2 and sys.stdout is not None:
                os.dup2(1, 2)
            else:
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
                os.set_inheritable(number, True)
    # Python has none for what was closed when it began; these stay for as long as it runs.
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    buffer = io.FileIO(number, mode, closefd=False)
    buffered = io.BufferedReader(buffer) if mode == "r" else io.BufferedWriter(buffer)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="backslashreplace",
                            line_buffering=True)  # fmt: skip


def speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where the locale has another encoding.

    Names in a checkout are UTF-8; ISO-8859-1 can neither open nor tell most of them. What is shown
    keeps the locale's encoding.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is meant


def need_root(what: str) -> None:
    """BuildError unless this process may make mounts and namespaces."""
    if os.geteuid() != 0:
        raise BuildError(f"{what} needs root", "run the same command with sudo")


STEP_MARK = "\x01"
"""Begins a line of a sandbox's output that says what it does next."""


class Log:
    """One stage's log file: each command as it could be typed, then all of its output.

    `progress` gets what the stage is doing now, in a few words. `mask` takes secrets out of a line.
    `places` are the folders that the stage writes to, by what they are called.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        progress: Callable[[str], None] = lambda _text: None,
        mask: Callable[[str], str] = lambda text: text,
        places: Mapping[str, Path] | None = None,
    ) -> None:
        self.path = path
        self.places = places or {}
        self.began = {name: room.free_bytes(place) for name, place in self.places.items()}
        self.progress = progress
        self.mask = mask
        self.tail: deque[str] = deque(maxlen=400)
        self.room = LOG_LIMIT
        self.file: IO[str] | None = None

    def __enter__(self) -> Log:
        if self.path is not None:
            self.file = open(safe.creating(self.path), "w", encoding="utf-8", errors="replace",
                             buffering=1)  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            # What a full disk did not take was told when it was written.
            with contextlib.suppress(OSError):
                self.file.close()
            self.file = None

    def line(self, text: str) -> str:
        """Add one line; as it is shown, without secrets."""
        text = self.mask(text.rstrip("\n"))
        if text.startswith(STEP_MARK):
            text = "# " + printable(text[len(STEP_MARK) :])
            self.progress(text[2:])
        text = printable(text)
        self.tail.append(text)
        if self.file is not None and self.path is not None and self.room > 0:
            self.room -= len(text) + 1
            with room.placed(self.path):
                self.file.write(text + "\n" if self.room > 0 else "# the rest is left out\n")
        return text

    def step(self, text: str) -> None:
        """Say what the stage does now: a heading in the log, and the running line on the screen."""
        self.line(f"# {text}")
        self.progress(self.mask(text))

    def need_room(self, name: str, size: int, what: str) -> None:
        """BuildError unless the folder `name` of `places` has `size` bytes of room for `what`."""
        if name in self.places:
            room.need_room(self.places, name, size, what)

    def failure(self, what: str, message: str, hint: str = "") -> BuildError:
        """The error of a command that said `message`: a full disk's if that is what stopped it.

        To be asked before anything is removed: it looks at what is free now.
        """
        if full := room.blamed(message, self.places):
            return room.no_room(what, self.places, full, self.began)
        return BuildError(f"{what} {message}", hint)


# Lines like these say why a command failed; what follows them is often noise.
_TELLING = ("E: ", "dpkg: error", "error:", "Error:", "ERROR", "fatal:", "sandbox: ", "Err:", "W: ")

_NOISE = ("#", "+ ", "Get:", "Hit:", "Ign:", "Fetched ", "Reading ", "Building ")


def last_lines(said: Iterable[str]) -> str:
    """The last lines that matter of an output: the telling ones if there are any, and the last."""
    lines = [line for line in said if line.strip() and not line.startswith(_NOISE)]
    telling = [line for line in lines if any(mark in line for mark in _TELLING)][-TAIL // 2 :]
    rest = [line for line in lines if line not in telling][-(TAIL - len(telling)) :]
    chosen = {*telling, *rest}
    return "\n".join("    " + line[:300] for line in lines if line in chosen)


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
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):  # the terminal may be gone; print() may be what was cut
        os.write(2, f"\ninterrupted by {name}; what was whole is kept\n".encode())
    if not _starting:
        _leave()


def _leave() -> NoReturn:
    for process in list(_live):
        _kill(process)
    raise SystemExit(128 + _signal)


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
) -> subprocess.Popen[bytes]:
    """Start a command that dies when the calling thread does, and that no Ctrl-C reaches first."""
    global _starting
    full = [tool("setpriv"), "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _TIED,
            str(os.getpid()), tool(argv[0]), *argv[1:]]  # fmt: skip
    main = threading.current_thread() is threading.main_thread()
    # A signal's SystemExit between fork and our knowing of it would leave a process behind.
    if main:
        _starting = True
    try:
        if not _signal:
            process = subprocess.Popen(
                full, stdin=stdin, stdout=stdout, stderr=stderr,
                env={**ENV, **(env or {})}, cwd=cwd, start_new_session=True,
            )  # fmt: skip
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
    stdin: bytes = b"",
    ok: Sequence[int] = (0,),
    what: str = "",
    quiet: bool = False,
    shown: Callable[[str], str] | None = None,
    blamed: Mapping[str, str] | None = None,
) -> int:
    """Run a command, its whole output line by line into the log; the exit status.

    A status that is not in `ok` is a BuildError with the last lines that matter. `what` says in
    the message what the command was for. `quiet` keeps a very long argument list out of the log.
    `shown` is what becomes of each line. `blamed` says whose fault a failure is, by the title of
    the sandbox's step that failed.
    """
    log = log or Log(None)
    full: list[str] = []
    blame = ""
    # Of this command alone: others may write to the same log meanwhile.
    said: deque[str] = deque(maxlen=400)
    log.line("+ " + (shlex.join(argv) if not quiet else shlex.join(argv[:2]) + " ..."))
    if argv[0] in ("apt-get", "apt-helper") and _may_unshare():
        # Its methods wait for a dead mirror's timeout before they see that apt itself was killed.
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--", tool(argv[0]), *argv[1:]]
    # A file, since a pipe would need a thread to feed it.
    with tempfile.TemporaryFile() as feed:
        feed.write(stdin)
        feed.seek(0)
        process = popen(
            argv, stdin=feed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd
        )
        with running(process):
            assert process.stdout is not None
            while raw := process.stdout.readline(LINE_LIMIT):
                line = raw.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
                line = shown(line) if shown else line
                if line.startswith(STEP_MARK):
                    blame = (blamed or {}).get(line[len(STEP_MARK) :], "")
                    if blame:  # what the steps before it said is not its own
                        said.clear()
                # Now, since many a tool removes what it could not write whole.
                full = full or room.blamed(line, log.places)
                said.append(log.line(line))
            status = process.wait()
    if status not in ok and full:
        raise room.no_room(what or shlex.join(argv[:2]), log.places, full, log.began)
    if status not in ok:
        where = f"the whole output is in {log.path}" if log.path else ""
        lines = last_lines(said)
        raise BuildError(
            f"{what or shlex.join(argv[:2])} failed ({_status(status)}){blame and ': ' + blame}"
            + (f":\n{lines}" if lines else "; it said nothing"),
            where,
        )
    return status


def _may_unshare() -> bool:
    """Whether this process has CAP_SYS_ADMIN (21, linux/capability.h): locking does without."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 21 & 1)


def _status(status: int) -> str:
    from tasks import sandbox

    return f"exit status {status}" if status >= 0 else sandbox.killed(-status)


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


# ---------------------------------------------------------------- sandbox

# What dpkg and maintainer scripts use. Without sys_admin, sys_module, sys_rawio, sys_time, net_*
# and the rest, root inside can own files and start processes, and nothing else.
DPKG_CAPABILITIES = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "net_bind_service", "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip


PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).with_name("sandbox.py")))
"""tasks/sandbox.py, which runs in a sandbox before all else."""


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

    `blame` is what a failure of it is blamed on, up to the next step that has a title.
    """

    pipeline: Sequence[Sequence[str]]
    title: str = ""
    blame: str = ""


def step(*argv: str, title: str = "", blame: str = "") -> Step:
    """A step that is one command."""
    return Step(pipeline=[argv], title=title, blame=blame)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Where and with what rights commands run; see tasks/sandbox.py for each field's meaning."""

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
    arches: Sequence[str] = ("",)
    """Debian's names of the architectures whose programs run in `root`, its own first."""

    def command(self) -> list[str]:
        """The program inside, in new namespaces; it reads the plan."""
        from tasks import sandbox

        names = {"mount": "--mount", "PID": "--pid", "network": "--net", "IPC": "--ipc",
                 "UTS": "--uts", "cgroup": "--cgroup"}  # fmt: skip
        # A kernel may be built without cgroups. Propagation is the program's own first step.
        flags = [names[name] for name in sandbox.NAMESPACES
                 if name != "cgroup" or os.path.exists("/proc/self/ns/cgroup")]  # fmt: skip
        return ["unshare", *flags, "--propagation", "unchanged", "--fork", "--kill-child", "--",
                *PROGRAM]  # fmt: skip

    def plan(self, *steps: Step, trial: bool = False) -> bytes:
        """What the program inside reads; with `trial` it runs nothing, but says what failed."""
        from tasks import seen

        plan = {
            "base": str(self.base), "mounts": [list(mount) for mount in self.mounts],
            "root": self.root, "chroots": list(self.chroots), "binds": list(self.binds),
            "writable": list(self.writable), "hostname": self.hostname,
            "keep": None if self.keep is None else list(self.keep),
            # One that is empty here is not set there.
            "env": {name: text for name, text in {**ENV, **self.env}.items() if text},
            "cwd": self.cwd, "trial": trial,
            "arch": self.arches[0], "seen": seen.content(self.arches[0]),
            # Debian's libc for these has no other way to a socket.
            "socketcall": bool({"i386", "s390x"}.intersection(self.arches)),
            "steps": [[one.title, [list(argv) for argv in one.pipeline]] for one in steps],
        }  # fmt: skip
        return json.dumps(plan).encode()

    def run(
        self, *steps: Step, log: Log, what: str = "", shown: Callable[[str], str] | None = None
    ) -> None:
        """Run each step in new namespaces with no network; BuildError for the first that fails.

        `shown` is what becomes of each line that they print.
        When this process dies, by SIGKILL too, PDEATHSIG ends unshare(1) and --kill-child the
        namespaces' PID 1; with it go all processes and mounts of the stage.
        """
        for one in steps:
            log.line("+ " + " | ".join(shlex.join(argv) for argv in one.pipeline))
        run(self.command(), log=log, stdin=self.plan(*steps), what=what, quiet=True, shown=shown,
            blamed={one.title: one.blame for one in steps if one.title})  # fmt: skip


# ---------------------------------------------------------------- locks and scratch


def _flocked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    shared: bool = False,
    waiting: Callable[[str], None] = lambda _text: None,
) -> Iterator[None]:
    """Hold a lock on a file or folder, across processes and users; if we die it is free."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    told = False
    while True:
        descriptor = safe.open_lock(path)
        try:
            # Asked again and again: no signal would end a thread that waits in flock(2).
            while not _flocked(descriptor, kind):
                check_signal()
                if not told:
                    waiting("waiting for another build")
                told = True
                time.sleep(POLL)
            # Another process may have removed the file between our open and our lock.
            if safe.still_there(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def try_lock(path: Path, *, make: bool = False) -> int | None:
    """A descriptor that holds an exclusive lock on path, or None: held, or nothing to lock.

    Nothing is made for those who look whether something may be removed, but with `make`.
    """
    try:
        descriptor = safe.open_lock(path, make=make)
    except (OSError, BuildError):
        return None
    if _flocked(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; a missing one is fine."""
    with contextlib.suppress(FileNotFoundError), safe.at(path) as here:
        if stat.S_ISDIR(here.lstat().st_mode):
            _remove_tree(here)
        else:
            here.unlink()


def remove_tree(path: Path) -> None:
    """Delete a folder of a build, whatever modes its directories have; a missing one is fine.

    Once more for what the last processes of a sandbox that was killed still write meanwhile. What
    else is in its place goes as `remove` takes it: rmtree would open a FIFO, and wait.
    """
    remove(path)


def _remove_tree(here: Path) -> None:
    for pause in (0, 0.02, 0.1, 0.5):
        time.sleep(pause)
        with contextlib.suppress(RecursionError):
            shutil.rmtree(here, ignore_errors=True)
        if not os.path.lexists(here):
            return
    # Deeper than Python's stack, or than a path may be long: some package's script did that.
    subprocess.run(["rm", "-rf", "--", here], env=ENV, stderr=subprocess.DEVNULL, check=False)


def scratch_root() -> Path:
    """Where builds unpack trees and make images; it needs room for about twice the tree."""
    return Path(os.environ.get("STRATA_SCRATCH") or ".doit/scratch").absolute()


OWN_SCRATCH = re.compile(r"build-[0-9]+-[0-9a-f]{8}")
"""The folders of builds in scratch, by name."""


@contextlib.contextmanager
def scratch(told: Callable[[str], None] = lambda _text: None) -> Iterator[Path]:
    """A folder for this process alone, in this user's own folder of scratch, removed at the end.

    What a killed build left there is recognised by its free lock, and removed here; `told` hears of
    what is not Strata's.
    """
    root = safe.private(scratch_root() / f"strata-{os.geteuid()}")
    # ext: a folder of another name begins in another block group. In the group of trees that were
    # removed a moment ago, an ext4 without journal looks at each of their inodes for each new one:
    # unpacking took ten times as long. Other filesystems know no such flag.
    with contextlib.suppress(FileNotFoundError):  # no e2fsprogs: `lock` does without
        subprocess.run(["chattr", "+T", root], env=ENV, stderr=subprocess.DEVNULL, check=False)
    # The name comes first: a signal at any moment from here on removes the folder.
    path = root / f"build-{os.getpid()}-{secrets.token_hex(4)}"
    held = None
    try:
        with locked(root / ".lock"):
            foreign = [one for one in root.iterdir() if one.name not in (".lock", cachedir.NAME)
                       and not OWN_SCRATCH.fullmatch(one.name)]  # fmt: skip
            if cachedir.claim(root, foreign):
                _sweep_scratch(root)
            for one in foreign:
                told(f"{one}: it is not Strata's; left alone")
            path.mkdir(mode=0o700)
            held = try_lock(path / ".lock", make=True)
        yield path
    finally:
        remove_tree(path)
        if held is not None:
            os.close(held)


def _sweep_scratch(root: Path) -> None:
    """Remove what killed builds left in scratch; with its lock held, who lives has a lock, too."""
    for old in root.iterdir():
        if not OWN_SCRATCH.fullmatch(old.name):
            continue
        try:
            descriptor = safe.open_lock(old / ".lock", make=False)
        except FileNotFoundError:
            remove_tree(old)  # killed before it had one, or while it was removed
            continue
        except (OSError, BuildError):
            continue
        if _flocked(descriptor, fcntl.LOCK_EX):
            remove_tree(old)
        os.close(descriptor)


TEMPORARY = ".strata-*.tmp"
"""How files are called that SIGKILL may leave, where it must leave one at all."""
OWN_TEMPORARY = re.compile(r"\.strata-[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def written(path: Path, *, mode: int = 0o644, sync: bool = True) -> Iterator[Path]:
    """A path to write to, for commands too; what it holds is the file `path` in the end.

    Until then it has no name (O_TMPFILE), so that SIGKILL leaves nothing; on a filesystem that
    cannot, a temporary one, locked while we live, that `sweep` removes later. `sync` makes it last.
    """
    with safe.at(path, make=True) as target:
        name = target.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o600)
            opened = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                error.filename = str(path)
                raise
            descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            opened = name
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with room.placed(path):
                yield opened
                os.fchmod(descriptor, mode)
                if sync:
                    os.fsync(descriptor)
            if opened == name:
                name.replace(target)
            elif not _linked(descriptor, target):
                _linked(descriptor, name)
                name.replace(target)
            if sync:
                sync_folder(target.parent)
        except OSError as error:
            if str(error.filename) == str(opened):
                error.filename = str(path)
            raise
        finally:
            name.unlink(missing_ok=True)
            os.close(descriptor)


def _linked(descriptor: int, path: Path) -> bool:
    """Give an unnamed file its name; False if there is a file of this name."""
    try:
        # Any src_dir_fd makes Python call linkat(2), which alone follows the link in /proc.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    except FileExistsError:
        return False
    return True


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files of a folder whose writers are dead: their locks are free.

    Returns what is called nearly so, or is no file that a build of this folder's users wrote.
    """
    left: list[Path] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), safe.folder(folder) as opened:
        for path in opened.glob(TEMPORARY):
            if not OWN_TEMPORARY.fullmatch(path.name) or not stat.S_ISREG(path.lstat().st_mode):
                left.append(folder / path.name)
                continue
            try:
                descriptor = safe.open_lock(folder / path.name, make=False)
            except FileNotFoundError:
                continue
            except (OSError, BuildError):
                left.append(folder / path.name)
                continue
            if _flocked(descriptor, fcntl.LOCK_EX):
                with contextlib.suppress(PermissionError):  # another user's, and so is the folder
                    path.unlink(missing_ok=True)
            os.close(descriptor)
    return left


def write_text(path: Path, text: str, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace a file's content in one step."""
    with written(path, mode=mode, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_folder(path: Path) -> None:
    """Make a rename in a folder last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pause(seconds: float) -> None:
    """Sleep, in any thread, unless a signal ends this process."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check_signal()
        time.sleep(min(left, POLL))


def now() -> float:
    """Seconds of a clock that only durations are read from."""
    return time.monotonic()


def missing_packages(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """Debian packages of the commands of these tables that this host lacks."""
    found = set()
    for name, package in (pair for group in groups for pair in group.items()):
        try:
            tool(name)
        except BuildError:
            found.add(package)
    return sorted(found)


if __name__ == "__main__":
    # ./doit asks before there is a .venv: this file needs nothing but the standard library.
    GROUPS = {"test": [TOOLS, TEST_TOOLS], "bench": [TOOLS, TEST_TOOLS, BENCH_TOOLS]}
    print(*missing_packages(GROUPS.get("".join(sys.argv[1:]), [TOOLS])))
