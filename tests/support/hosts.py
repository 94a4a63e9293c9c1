"""A host whose processes, keys, sockets and files no package may see or change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.world import PROJECT, Build, World

ATTACK = (PROJECT / "tests/support/hostile.pl").read_text()


ATTEMPTS = re.findall(r"^try (\w+)", ATTACK, re.M)


SYSCTLS = ("kernel/hostname", "kernel/domainname", "kernel/core_pattern", "kernel/pid_max",
           "kernel/panic", "kernel/modprobe", "vm/overcommit_memory", "fs/file-max",
           "user/max_user_namespaces", "net/ipv4/ip_forward", "kernel/sysrq")  # fmt: skip


NODES = ("null", "zero", "full", "random", "urandom", "tty")


ENTRIES = (
    "/proc/meminfo",
    "/proc/version",
    "/proc/cpuinfo",
    "/proc/sys/kernel/hostname",
    "/proc/fs",
)


libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Host:
    """What a package must neither see nor change; `mark` stands in all of it."""

    mark: str
    canary: Path
    process: subprocess.Popen[bytes]
    key: int
    shm: int
    servers: list[socket.socket]
    reached: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.servers[0].getsockname()[1])

    def attack(self) -> str:
        """The Perl script, aimed at this host."""
        text = ATTACK
        for name, value in {"MARK": self.mark, "PID": self.process.pid, "PORT": self.port,
                            "CANARY": self.canary, "KEY": self.key, "SHM": 0x57A7A}.items():  # fmt: skip
            text = text.replace(f"%{name}%", str(value))
        assert not re.search(r"'%[A-Z]+%'", text)
        return text

    def state(self) -> dict[str, object]:
        """What may not have changed afterwards."""
        files = {
            str(path): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns,
                        path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b"")
            for folder in (self.canary.parent, Path("/etc/apt"))
            for path in [folder, *sorted(folder.rglob("*"))]
        }  # fmt: skip
        sysctls = {name: Path(f"/proc/sys/{name}").read_text()
                   for name in SYSCTLS if Path(f"/proc/sys/{name}").exists()}  # fmt: skip
        return {
            "files": files,
            "folders": {name: (os.stat(name).st_mode, os.stat(name).st_uid, sorted(os.listdir(name)))
                        for name in ("/", "/etc", "/root", "/usr", "/usr/bin", "/var/lib", "/boot", "/opt")},
            "passwd": [Path(f"/etc/{name}").read_bytes() for name in ("passwd", "shadow", "group")],
            "sysctls": sysctls,
            # Their times are whoever's who wrote to them last.
            "nodes": {path: (os.stat(path).st_mode, os.stat(path).st_uid, os.stat(path).st_gid,
                             os.listxattr(path))
                      for path in [*(f"/dev/{name}" for name in NODES), *ENTRIES]},
            "hostname": socket.gethostname(),
            "mounts": self.own(Path("/proc/self/mounts").read_text().splitlines()),
            "loops": self.own(subprocess.run(["losetup", "--all"], check=True, text=True,
                                             capture_output=True).stdout.splitlines()),
            "clock": round((time.time() - time.monotonic()) / 10),
            "process": self.process.poll(),
            "shm": Path("/proc/sysvipc/shm").read_text(),
            "reached": self.reached,
        }  # fmt: skip

    def doit(self, world: World, *words: str, check: bool = True) -> Build:
        """Run doit with the mark in its environment."""
        return world.doit(*words, check=check, STRATA_TEST_SECRET=self.mark,
                          HTTPS_PROXY=f"http://me:{self.mark}@127.0.0.1:9/",
                          SSH_AUTH_SOCK=f"/{self.mark}")  # fmt: skip

    def own(self, lines: list[str]) -> list[str]:
        """Without what other tests on this machine have there at the moment."""
        own = str(self.canary.parent.parent)
        return sorted(line for line in lines
                      if own in line or not re.search("pytest-of-|strata-test-", line))  # fmt: skip

    def processes(self) -> list[str]:
        """Command lines with the mark, but for the host's own process."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_bytes().decode(errors="replace")
                if self.mark in text and path.parent.name != str(self.process.pid):
                    found.append(text)
        return found


@contextlib.contextmanager
def watched(tmp_path: Path) -> Iterator[Host]:
    """A process, a key, shared memory, sockets and files of the host."""
    mark = f"strata-mark-{os.getpid()}-{time.monotonic_ns()}"
    canary = tmp_path / "canary" / "file"
    canary.parent.mkdir()
    canary.write_text("untouched\n")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", mark])
    key = libc.syscall(248, b"user", f"{mark}-key".encode(), b"secret", 6, -4)
    shm = libc.shmget(0x57A7A, 4096, 0o1600)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{mark}")
        abstract.listen()
        found = Host(mark, canary, process, key, shm, [tcp, abstract])

        def listen(server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                server.accept()[0].close()
                found.reached.append(str(server))

        threads = [threading.Thread(target=listen, args=[server], daemon=True)
                   for server in found.servers]  # fmt: skip
        for thread in threads:
            thread.start()
        yield found
        for server in found.servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
    process.kill()
    process.wait()
    libc.shmctl(shm, 0, None)
    libc.syscall(250, 3, key)  # revoked


@contextlib.contextmanager
def unchanged(host: Host) -> Iterator[None]:
    """The block changes nothing of the host, and leaves no process in it."""
    before = host.state()
    yield
    after = host.state()
    for name, value in before.items():
        assert after[name] == value, name
    deadline = time.monotonic() + 2
    while host.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert host.processes() == []
