"""host.sandbox and the program inside it, directly: rights, what is in there, what is mounted, limits."""

from __future__ import annotations

import marshal
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.sandboxes import enter
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.host import sandbox_confine, toolroot
from tasks.host.log import Log
from tasks.host.sandbox import DPKG_CAPABILITIES, Overlay, Sandbox, step
from tasks.host.tools import ENV

root_only = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to mount in, with `root`, a tree that has the host's programs bound in it."""
    toolroot.skeleton(tmp_path / "root")
    return tmp_path


def field(status: str, name: str) -> str:
    match = re.search(rf"^{name}:\s*(.*)$", status, re.M)
    assert match, status
    return match[1]


def names(mask: str) -> set[str]:
    """The capabilities of a mask of /proc/self/status."""
    bits = int(mask, 16)
    return {name for number, name in enumerate(sandbox_confine.CAPABILITIES) if bits >> number & 1}


# ---------------------------------------------------------------- rights


@root_only
@pytest.mark.parametrize("keep", [DPKG_CAPABILITIES, (), ("chown",)])
def test_capabilities_are_exactly_those_kept(place: Path, keep: Sequence[str]) -> None:
    status = "\n".join(enter(place, "cat /proc/self/status", keep=keep))
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert names(field(status, name)) == set(keep), name
    for name in ("CapInh", "CapAmb"):
        assert names(field(status, name)) == set(), name
    assert field(status, "NoNewPrivs") == "1"
    assert field(status, "Seccomp") == "2"
    assert field(status, "Uid").split() == ["0"] * 4


@root_only
def test_a_full_inheritable_set_is_emptied(place: Path) -> None:
    """Some container engines start their processes with it full."""
    code = f"""
import sys; sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}]
from pathlib import Path
from support.sandboxes import enter
print(*enter(Path({str(place)!r}), "cat /proc/self/status"), sep="\\n")
"""
    status = subprocess.run(["setpriv", "--inh-caps", "+chown,+net_raw,+sys_chroot", sys.executable,
                             "-c", code], check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert names(field(status, "CapInh")) == set()
    assert names(field(status, "CapEff")) == set(DPKG_CAPABILITIES)


@root_only
def test_what_the_caller_does_with_signals_and_machines_does_not_show(place: Path) -> None:
    """As nohup(1), a daemon that waits for nobody, and setarch(8) do."""
    code = f"""
import ctypes, signal, sys; sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}]
from pathlib import Path
from support.sandboxes import enter
for one in (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
    signal.signal(one, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
ctypes.CDLL(None).personality(ctypes.c_ulong({sandbox_confine.PER_LINUX32} | 0x0040000))
print(*enter(Path({str(place)!r}), "cat /proc/self/status; uname -m",
             "cat /proc/self/personality"), sep="\\n")
"""
    text = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    *status, machine, personality = text.stdout.splitlines()
    for name in ("SigIgn", "SigBlk"):
        assert int(field("\n".join(status), name), 16) == 0, name
    assert machine == os.uname().machine
    assert int(personality, 16) == 0


@root_only
def test_keep_null_keeps_all(place: Path) -> None:
    mine = Path("/proc/self/status").read_text()
    status = "\n".join(enter(place, "cat /proc/self/status", root=None, mounts=[]))
    assert field(status, "CapEff") == field(mine, "CapEff")
    assert field(status, "Seccomp") == field(mine, "Seccomp")


# ---------------------------------------------------------------- what is in there


@root_only
def test_dev_proc_sys_and_the_rest(place: Path) -> None:
    lines = enter(place, """
        find /dev -mindepth 1 -maxdepth 1 -printf '%f %y %l\\n' | sort; echo --
        cat /proc/self/mounts; echo --
        ls /; ls -A /tmp /run /root; echo --
        ls /sys/class/net; ls /sys/firmware /sys/kernel/debug /sys/fs/cgroup 2> /dev/null; echo --
        cat /proc/kcore /proc/keys /proc/kallsyms /proc/timer_list 2> /dev/null | wc -c
        readlink /proc/self/fd/0; ps -e -o pid=,args= | grep -v ps
        cat /proc/sys/kernel/pid_max /proc/1/oom_score_adj
        """)  # fmt: skip
    dev, mounts, top, system, rest = "\n".join(lines).split("\n--\n")
    assert dev.splitlines() == [
        ".strata d ", "fd l /proc/self/fd", "full c ", "null c ", "ptmx l pts/ptmx", "pts d ",
        "random c ", "shm d ", "stderr l /proc/self/fd/2", "stdin l /proc/self/fd/0",
        "stdout l /proc/self/fd/1", "tty c ", "urandom c ", "zero c ",
    ]  # fmt: skip
    points = {line.split()[1]: line.split() for line in mounts.splitlines()}
    nodes = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    for point, (_source, _point, kind, options, *_) in points.items():
        flags = options.split(",")
        assert "nodev" in flags or point in nodes or kind == "devpts", point
        assert "nosuid" in flags or point in ("/", "/usr"), point
        if re.match(r"/(sys|proc/.+|usr)$", point) or point.startswith("/sys/"):
            assert "ro" in flags, point
    assert set(top.split()) >= {"usr", "proc", "target"}
    assert "strata" not in top
    assert system.split() == ["lo", "/sys/firmware:", "/sys/fs/cgroup:", "/sys/kernel/debug:"]
    size, stdin, *rest_of = rest.splitlines()
    assert (size, stdin) == ("0", "/dev/null")
    processes = [line.split() for line in rest_of[:-2]]
    assert processes[0][0] == "1"
    assert len(processes) <= 3, processes
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 14):
        assert rest_of[-2] == str(sandbox_confine.PROCESSES)
    assert rest_of[-1] == "500"


@root_only
def test_the_hosts_tree_is_gone(place: Path) -> None:
    secret = place / "secret"
    secret.write_text("secret\n")
    lines = enter(place, f"""
        cat {secret} 2> /dev/null || echo no file
        cat /../../..{secret} 2> /dev/null || echo no way up
        ls /proc/1/root/ 2> /dev/null || echo no root of PID 1
        wc -l < /proc/self/mountinfo
        grep -c ' {place} ' /proc/self/mountinfo || true
        """)  # fmt: skip
    assert lines[:3] == ["no file", "no way up", "no root of PID 1"]
    assert lines[4] == "0"


@root_only
def test_limits_of_memory_and_processes(place: Path) -> None:
    """A fork bomb meets its own wall; nothing of it is left."""
    before = Path("/proc/sys/kernel/pid_max").read_text()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bomb = """
        $SIG{ALRM} = sub { exit 3 }; alarm 60;
        my $count = 0;
        while (1) {
            my $pid = fork;
            if (!defined $pid) { print "$count\\n"; exit 0 }
            if (!$pid) { sleep 600; exit 0 }
            exit 4 if ++$count > 8000;
        }
    """
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 14):
        (count,) = enter(place, step("perl", "-e", bomb))
        assert 1000 < int(count) < sandbox_confine.PROCESSES
    assert Path("/proc/sys/kernel/pid_max").read_text() == before
    sizes = enter(place, "df --output=size -B1 /dev/shm /run /dev/.strata | tail -n 3")
    assert all(int(size) <= memory * 0.11 for size in sizes)


@root_only
def test_no_core_is_dumped_and_limits_are_not_the_shells(place: Path) -> None:
    import resource

    code = "cat /proc/self/limits; ulimit -c 0; ulimit -c 1 || echo no more"
    usual = enter(place, code)
    # Soft ones of all kinds, which anybody may raise again; SIGPENDING and the like have no other.
    low = {resource.RLIMIT_NOFILE: 777, resource.RLIMIT_FSIZE: 4 << 30, resource.RLIMIT_AS: 8 << 30,
           resource.RLIMIT_DATA: 8 << 30, resource.RLIMIT_RSS: 8 << 30, resource.RLIMIT_CPU: 5000,
           resource.RLIMIT_RTTIME: 5000000, resource.RLIMIT_MSGQUEUE: 4096,
           resource.RLIMIT_SIGPENDING: 500, 10: 999}  # fmt: skip
    old = {limit: resource.getrlimit(limit) for limit in low}
    for limit, soft in low.items():
        resource.setrlimit(limit, (soft, old[limit][1]))
    try:
        lines = enter(place, code)
    finally:
        for limit, both in old.items():
            resource.setrlimit(limit, both)
    assert lines == usual
    assert set(sandbox_confine.LIMITS) | {resource.RLIMIT_CORE} == set(range(16))  # RLIM_NLIMITS
    limits = {line[:25].strip(): line[25:].split()[:2] for line in lines}
    assert limits["Max core file size"] == ["1", "1"]
    assert limits["Max open files"][0] == "1024"
    assert lines[-1].endswith("no more")


# ---------------------------------------------------------------- mounts and fields


@root_only
def test_overlay_upper_takes_what_is_written_and_lower_stays(tmp_path: Path) -> None:
    for name in ("low", "top", "up", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "low/file").write_text("low\n")
    (tmp_path / "top/file").write_text("top\n")
    writable = Overlay(lower=["top", "low"], target="merged", upper="up", work="work").mount()
    out = enter(tmp_path, "cat merged/file; echo new > merged/file; mknod merged/null c 1 3; cat merged/null || echo nodev",
                root=None, mounts=[writable], cwd=str(tmp_path))  # fmt: skip
    assert out[0] == "top"
    assert out[-1] == "nodev"
    assert (tmp_path / "up/file").read_text() == "new\n"
    assert (tmp_path / "top/file").read_text() == "top\n"
    readonly = Overlay(lower=["top", "low"], target="merged").mount()
    out = enter(tmp_path, "(echo x > merged/file) 2> /dev/null || echo read-only", root=None,
                mounts=[readonly], cwd=str(tmp_path))  # fmt: skip
    assert out == ["read-only"]
    assert not os.path.ismount(tmp_path / "merged")


@root_only
def test_binds_writable_hostname_env_cwd(place: Path) -> None:
    for name in ("given", "taken"):
        (place / name).mkdir()
    (place / "given/file").write_text("given\n")
    lines = enter(
        place,
        """
        cat /dev/.strata/given/file
        (echo x > /dev/.strata/given/file) 2> /dev/null || echo read-only
        echo written > /dev/.strata/taken/file
        hostname; pwd; env | sort
        """,
        binds=[(str(place / "given"), "/dev/.strata/given")],
        writable=[(str(place / "taken"), "/dev/.strata/taken")],
        hostname="inside", env={"GIVEN": "a b"}, cwd="/usr",
    )  # fmt: skip
    assert lines[:4] == ["given", "read-only", "inside", "/usr"]
    assert {*lines[4:]} == {*(f"{name}={value}" for name, value in ENV.items()), "GIVEN=a b",
                            "PWD=/usr"}  # fmt: skip
    assert (place / "taken/file").read_text() == "written\n"
    assert os.uname().nodename != "inside"


@root_only
def test_chroots_get_a_dev_and_proc_of_their_own(place: Path) -> None:
    lines = enter(place, "ls /target/dev; head -c 1 /target/dev/zero | wc -c; ls -d /target/proc/1; "
                  "(echo 1 > /target/proc/sys/vm/drop_caches) 2> /dev/null || echo read-only",
                  chroots=["/target"])  # fmt: skip
    assert {"null", "urandom", "shm"} <= set(lines)
    assert lines[-3:] == ["1", "/target/proc/1", "read-only"]
    assert os.listdir(place / "root/target/dev") == []


@root_only
@pytest.mark.parametrize("name", ["dev", "proc", "sys", "tmp", "run"])
def test_a_link_in_the_place_of_a_mount_is_refused(place: Path, name: str) -> None:
    outside = place / "outside"
    outside.mkdir()
    (place / "root" / name).rmdir()
    (place / "root" / name).symlink_to(outside)
    with pytest.raises(BuildError, match=f"/{name} is a symlink in the tree"):
        enter(place, "true")
    assert os.listdir(outside) == []


def test_the_plan_is_without_the_builders_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setenv("STRATA_SECRET", "hunter2")
    monkeypatch.setattr("tasks.host.sandbox.run", lambda *_args, stdin, **_more: seen.append(stdin))
    Sandbox(base=Path("/x"), env={"A": "b"}).run(step("true"), log=Log(None))
    plan = marshal.loads(seen[0][8:])
    assert plan["env"] == {**ENV, "A": "b"}
    assert b"hunter2" not in seen[0]
