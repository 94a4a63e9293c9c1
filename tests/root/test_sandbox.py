"""host.sandbox and the program inside it, directly: what each field does, and what is in there."""

from __future__ import annotations

import marshal
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.sandboxes import enter
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.host import sandbox_confine, toolroot
from tasks.host.log import Log
from tasks.host.process import LINE_LIMIT
from tasks.host.sandbox import DPKG_CAPABILITIES, Overlay, Sandbox, Step, step
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


# ---------------------------------------------------------------- the filter of system calls


def answer(program: bytes, arch: int, number: int, *arguments: int) -> str:
    """What a kernel that runs this classic BPF would answer: the few instructions that it uses."""
    words = arguments + (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, arch, 0, *words)
    at = value = 0
    while True:
        code, true, false, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, k)
        elif code == 0x06:
            return {0x7FFF0000: "allow", 0x50001: "EPERM", 0x50026: "ENOSYS",
                    0x50061: "EAFNOSUPPORT", 0x5005D: "EPROTONOSUPPORT",
                    0x5005E: "ESOCKTNOSUPPORT"}[k]  # fmt: skip
        elif code == 0x05:
            at += k
        elif code == 0x54:
            value &= k
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
            at += true if holds else false


@pytest.mark.parametrize("arch", sandbox_confine.CALLS)
def test_filter_of_each_abi(arch: int) -> None:
    program = sandbox_confine.call_filter("little")
    assert len(program) // 8 < 4096
    unshare, clone, sock, pair, *others = sandbox_confine.CALLS[arch]
    user = sandbox_confine.CLONE_NEWUSER
    flags = (0, user | 17) if arch == 0x80000016 else (user | 17, 0)
    harmless = (0, 0x1200011) if arch == 0x80000016 else (0x1200011, 0)
    assert answer(program, arch, unshare, user | 0x20000) == "EPERM"
    assert answer(program, arch, unshare, 0x20000) == "allow"
    assert answer(program, arch, clone, *flags) == "EPERM"
    assert answer(program, arch, clone, *harmless) == "allow"
    for number in (sock, pair):
        # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; the kernel takes the low half of a family.
        known = [family for family in range(64)
                 if answer(program, arch, number, family, 2 | 0o2004000) == "allow"]  # fmt: skip
        assert known == [1, 2, 10, 16]
        assert {answer(program, arch, number, family) for family in range(64) if family not in known
                } == {"EAFNOSUPPORT"}  # fmt: skip
        assert answer(program, arch, number, 40 | 7 << 32, 1) == "EAFNOSUPPORT"
        assert answer(program, arch, number, 1 | 7 << 32, 1) == "allow"
        assert answer(program, arch, number, 1, 5, 1) == "allow"
        for family in (2, 10):
            assert [one for one in range(300) if answer(program, arch, number, family, 1, one)
                    == "allow"] == [0, 1, 6, 17, 58]  # fmt: skip
            # MPTCP, SCTP and L2TP, by the half that the kernel takes; DCCP by its type.
            for one in (262, 132, 115 | 7 << 32, 0xFFFFFFFF):
                assert answer(program, arch, number, family, 2, one) == "EPROTONOSUPPORT"
            for kind in (0, 4, 5, 6 | 0o2000000, 10):
                assert answer(program, arch, number, family, kind) == "ESOCKTNOSUPPORT"
        got = [one for one in range(64) if answer(program, arch, number, 16, 3, one) == "allow"]
        assert got == [0, 9, 15]
        assert answer(program, arch, number, 16, 3, 16) == "EPROTONOSUPPORT"
    for request in (0x5423, 0x8982, 0x8983 | 7 << 32, 0x8940, 0x8941, 0x89A0, 0x89A1):
        assert answer(program, arch, sandbox_confine.IOCTL[arch], 3, request) == "EPERM"
    for request in (0x5401, 0x5413, 0x8912, 0x8914, 0x8933, 0x40086602):
        assert answer(program, arch, sandbox_confine.IOCTL[arch], 3, request) == "allow"
    for number in (*others, sandbox_confine.QUOTACTL_FD):
        assert answer(program, arch, number) == "EPERM"
    for number in (
        sandbox_confine.CLONE3,
        sandbox_confine.IO_URING_SETUP,
        sandbox_confine.X32,
        sandbox_confine.X32 | unshare,
    ):
        assert answer(program, arch, number, user) == "ENOSYS"
    known_calls = {number for calls in sandbox_confine.CALLS.values() for number in calls}
    known_calls |= {
        sandbox_confine.CLONE3,
        sandbox_confine.IO_URING_SETUP,
        sandbox_confine.QUOTACTL_FD,
    }
    for number in set(range(470)) - known_calls:
        assert answer(program, arch, number, user, user) == "allow"


@pytest.mark.parametrize("arch", sandbox_confine.SOCKETCALL)
def test_filter_of_the_call_that_has_all_socket_calls_behind_it(arch: int) -> None:
    """No filter can look at its arguments: no socket, unless the image's programs know no other way."""
    number = sandbox_confine.SOCKETCALL[arch]
    program = sandbox_confine.call_filter("little")
    got = [one for one in range(1, 21) if answer(program, arch, number, one) != "allow"]
    assert got == [1, 8]  # SYS_SOCKET, SYS_SOCKETPAIR
    assert {answer(program, arch, number, one) for one in got} == {"EAFNOSUPPORT"}
    program = sandbox_confine.call_filter("little", socketcall=True)
    assert {answer(program, arch, number, one) for one in range(1, 21)} == {"allow"}
    sock = sandbox_confine.CALLS[arch][2]
    assert answer(program, arch, sock, 40) == "EAFNOSUPPORT"


def test_numbers_of_the_filter_are_the_kernels() -> None:
    """By this host's own headers, where it has them, of the two ABIs that they are of."""
    folder = Path("/usr/include/x86_64-linux-gnu/asm")
    for arch, name in ((0xC000003E, "unistd_64.h"), (0x40000003, "unistd_32.h")):
        if not (folder / name).exists():
            pytest.skip("no kernel headers of x86")
        text = (folder / name).read_text()
        table = {call: int(number) for call, number in re.findall(r"__NR_(\w+) (\d+)", text)}
        assert tuple(table[call] for call in sandbox_confine.REFUSED) == sandbox_confine.CALLS[arch]
        assert table["quotactl_fd"] == sandbox_confine.QUOTACTL_FD
        assert table["ioctl"] == sandbox_confine.IOCTL[arch]
        assert table.get("socketcall") == sandbox_confine.SOCKETCALL.get(arch)


@root_only
def test_sockets_of_each_family(place: Path) -> None:
    """And what the kernel answers for real."""
    code = """
        use Socket;
        for my $family (0 .. 63) {
            print "$family\n" if socket my $s, $family, SOCK_DGRAM, 0;
            print "$family\n" if $!{EPERM};
        }
        print "no $_->[1]\n" for grep { !socket(my $s, 2, $_->[0], $_->[1]) && $!{EPROTONOSUPPORT} }
            [1, 132], [2, 115], [1, 262];
        print "no DCCP\n" if !socket(my $s, 2, 6, 0) && $!{ESOCKTNOSUPPORT};
        print "no generic netlink\n" if !socket(my $t, 16, 3, 16) && $!{EPROTONOSUPPORT};
        socket my $udp, 2, 2, 17;
        my $buffer = "\\0" x 64;
        print "no VLAN\n" if !ioctl($udp, 0x8982, $buffer) && $!{EPERM};
        print "pair\n" if socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, 0;
        print "no other pair\n" if !socketpair($a, $b, 30, SOCK_STREAM, 0) && $!{EAFNOSUPPORT};
    """
    assert enter(place, step("perl", "-MErrno", "-e", code)) == [
        "1",
        "2",
        "10",
        "16",
        "no 132",
        "no 115",
        "no 262",
        "no DCCP",
        "no generic netlink",
        "no VLAN",
        "pair",
        "no other pair",
    ]


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


def test_filter_refuses_an_unknown_abi_and_knows_big_endian() -> None:
    assert answer(sandbox_confine.call_filter("little"), 0x12345678, 1) == "ENOSYS"
    big = sandbox_confine.call_filter("big")
    assert struct.unpack_from(">HBBI", big) == (0x20, 0, 0, 4)
    assert len(big) == len(sandbox_confine.call_filter("little"))


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


# ---------------------------------------------------------------- steps


@root_only
@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ([["sh", "-c", "exit 3"]], "exit status 3"),
        ([["sh", "-c", "exit 3"], ["sh", "-c", "cat; exit 4"]], "exit status 3"),
        ([["true"], ["sh", "-c", "cat > /dev/null; exit 4"], ["cat"]], "exit status 4"),
        ([["sh", "-c", "exit 3"]], "it said nothing"),
        ([["sh", "-c", "kill -9 $$"]], "exit status 137"),
        ([["sh", "-c", "kill -9 $$"]], "killed by SIGKILL"),
        ([["sh", "-c", "kill -40 $$"], ["cat"]], "killed by signal 40"),
        ([["sh", "-c", "kill -9 -1; exit 5"]], "exit status 5"),
        ([["/nonexistent"]], "exit status 125"),
    ],
)  # fmt: skip
def test_the_first_failing_status_is_told_and_ends_it(
    place: Path, pipeline: list[list[str]], code: str
) -> None:
    log = Log(None)
    with pytest.raises(BuildError, match=code):
        enter(place, Step(pipeline=pipeline), "echo went on", log=log)
    assert "went on" not in log.tail


@root_only
def test_pipelines_and_orphans(place: Path) -> None:
    """PID 1 reaps what its children leave, takes no signal from inside, and lives to the end."""
    titles: list[str] = []
    lines = enter(
        place,
        Step(pipeline=[["echo", "b a"], ["tr", " ", "\n"], ["sort"]], title="sorting"),
        "(sh -c 'sleep 0.1 & sleep 600 &' &) ; for i in 1 2 3; do (true &); done; sleep 0.3; "
        "kill -INT 1; kill -TERM 1; kill -KILL 1; kill -STOP 1; ls /proc | grep -c '^[0-9]'; "
        "cat /proc/*/status 2> /dev/null | grep -c 'State:.Z' || true",
        "echo alive",
        log=Log(None, progress=titles.append),
    )
    assert lines[:3] == ["# sorting", "a", "b"]
    assert int(lines[-3]) <= 8
    assert lines[-2:] == ["0", "alive"]
    assert titles == ["sorting"]


@root_only
def test_output_cannot_command_a_terminal_or_fill_memory(place: Path, tmp_path: Path) -> None:
    titles: list[str] = []
    path = tmp_path / "log"
    with Log(path, progress=titles.append) as log:
        with pytest.raises(BuildError) as caught:
            enter(place, "printf '\\001\\033]0;title\\007\\n'; printf 'E: \\033[2J\\302\\233x\\n'; "
                  "head -c 3000000 /dev/zero | tr '\\0' x; exit 1", log=log)  # fmt: skip
        assert max(map(len, log.tail)) <= LINE_LIMIT
    for text in (path.read_text(), str(caught.value), *titles):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "E: ?[2J?x" in str(caught.value)
    assert titles == ["?]0;title?"]


def test_a_log_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.host.log.LOG_LIMIT", 1000)
    with Log(tmp_path / "log") as log:
        for number in range(1000):
            log.line(f"line {number}")
    text = (tmp_path / "log").read_text()
    assert 900 < len(text) < 1100
    assert text.endswith("# the rest is left out\n")
    assert log.tail[-1] == "line 999"


# ---------------------------------------------------------------- the end


KILLED = """
import sys; sys.path[:0] = [{project!r}, {tests!r}]
from pathlib import Path
from support.sandboxes import enter, step
enter(Path({place!r}), step("sh", "-c", "cd {cwd}; echo {mark} > ready; sleep 611 & trap '' TERM; sleep 612"),
      root={root!r}, mounts={mounts!r})
"""


def traces(place: Path) -> list[str]:
    """Processes, mounts and loop devices of a folder, anywhere on the host."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if re.search(rb"sleep\0(611|612)\0", (path / "cmdline").read_bytes()):
                found.append(f"process {path.name}")
            if str(place) in (path / "mountinfo").read_text():
                found.append(f"mount in {path.name}")
        except (OSError, ProcessLookupError):
            continue
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [str(path)] if str(place) in path.read_text() else []
        except OSError:
            continue
    return found


@root_only
@pytest.mark.parametrize("kind", ["root", "loop"])
def test_sigkill_of_the_builder_leaves_nothing(place: Path, kind: str) -> None:
    mounts = [["bind", str(place / "root"), "root", ""]]
    ready = place / "root/root/ready"
    if kind == "loop":
        (place / "raw").write_bytes(b"")
        os.truncate(place / "raw", 4 << 20)
        subprocess.run(["mke2fs", "-q", "-F", place / "raw"], check=True)
        mounts, ready = [["loop:ext2", str(place / "raw"), "filled", "noatime"]], place / "ready"
    code = KILLED.format(project=str(PROJECT), tests=str(PROJECT / "tests"), place=str(place),
                         root="root" if kind == "root" else None, mounts=mounts, mark="mark",
                         cwd="/root" if kind == "root" else shlex.quote(str(place)))  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    try:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        seen = traces(place)
        assert any("process" in one for one in seen)
        assert kind == "root" or any("loop" in one for one in seen)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    while traces(place) and time.monotonic() - began < 5:
        time.sleep(0.02)
    assert traces(place) == []


@root_only
def test_a_loop_mount_is_gone_with_its_step(place: Path) -> None:
    (place / "raw").write_bytes(b"")
    os.truncate(place / "raw", 4 << 20)
    subprocess.run(["mke2fs", "-q", "-F", place / "raw"], check=True)
    for script in ("echo kept > filled/file", "test $(cat filled/file) = kept; rm filled/file"):
        enter(place, script, root=None, cwd=str(place),
              mounts=[["loop:ext2", str(place / "raw"), "filled", "noatime"]])  # fmt: skip
        assert traces(place) == []
    with pytest.raises(BuildError):
        enter(place, "exit 1", root=None, cwd=str(place),
              mounts=[["loop:ext2", str(place / "raw"), "filled", "noatime"]])  # fmt: skip
    assert traces(place) == []


def test_the_plan_is_without_the_builders_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setenv("STRATA_SECRET", "hunter2")
    monkeypatch.setattr("tasks.host.sandbox.run", lambda *_args, stdin, **_more: seen.append(stdin))
    Sandbox(base=Path("/x"), env={"A": "b"}).run(step("true"), log=Log(None))
    plan = marshal.loads(seen[0][8:])
    assert plan["env"] == {**ENV, "A": "b"}
    assert b"hunter2" not in seen[0]
