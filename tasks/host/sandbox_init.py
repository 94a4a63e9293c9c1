"""The program that runs inside a stage's namespaces: mounts, confines itself, runs commands.

`tasks.host.sandbox` starts it as PID 1 of new mount, PID, network, IPC and UTS namespaces, so that
its end, however it comes, is the end of every process and every mount of the stage. It imports
nothing of Strata and needs only the standard library: it must also work after pivot_root, when no
file of the host can be opened any more. The plan is on standard input (see `given`):

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
    visit     null, or what a person is given here (see `receive`), by standard input, a socket
              then: {"programs": [argv, ...], "env": {}, "failed": only where a step fails,
              "terminal": by one, or by pipes}
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
import resource
import select
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any, NoReturn

# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8

MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18

MNT_DETACH = 2


# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38


# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


# linux/capability.h; the names are in the order of their numbers
CAPABILITY_VERSION_3 = 0x20080522

CAPABILITIES = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
]


# What no capability guards. The root of a user namespace has every capability in it again, and
# with them the kernel's whole surface. Keyrings, quotas and the kernel's log know of no namespace,
# a file handle of no root, and fanotify counts what it gives against all of root's processes.
# docs/design.md goes through the rest of the kernel's table.
# Numbers: Linux, arch/*/syscall*.tbl; those from 424 on are everyone's.
REFUSED = ("unshare", "clone", "socket", "socketpair", "add_key", "request_key", "keyctl", "syslog",
           "bpf", "perf_event_open", "userfaultfd", "fanotify_init", "open_by_handle_at",
           "quotactl")  # fmt: skip


# By linux/audit.h's AUDIT_ARCH of each ABI that an image's programs may have.
CALLS: dict[int, tuple[int, ...]] = {
    # x86-64, i386, aarch64, arm, riscv64, ppc64le, s390x
    0xC000003E: (272, 56, 41, 53, 248, 249, 250, 103, 321, 298, 323, 300, 304, 179),
    0x40000003: (310, 120, 359, 360, 286, 287, 288, 103, 357, 336, 374, 338, 342, 131),
    0xC00000B7: (97, 220, 198, 199, 217, 218, 219, 116, 280, 241, 282, 262, 265, 60),
    0x40000028: (337, 120, 281, 288, 309, 310, 311, 103, 386, 364, 388, 367, 371, 131),
    0xC00000F3: (97, 220, 198, 199, 217, 218, 219, 116, 280, 241, 282, 262, 265, 60),
    0xC0000015: (282, 120, 326, 333, 269, 270, 271, 103, 361, 319, 364, 323, 346, 131),
    0x80000016: (303, 120, 359, 360, 278, 279, 280, 103, 351, 331, 355, 332, 336, 131),
}


SOCKETCALL = {0x40000003: 102, 0xC0000015: 102, 0x80000016: 102}
"""The call that has all of the socket calls behind it, their arguments in memory (net/socket.c)."""


SYS_SOCKET, SYS_SOCKETPAIR = 1, 8

IOCTL = {0xC000003E: 16, 0x40000003: 54, 0xC00000B7: 29, 0x40000028: 54, 0xC00000F3: 29,
         0xC0000015: 54, 0x80000016: 54}  # fmt: skip


IO_URING_SETUP, CLONE3, QUOTACTL_FD, X32 = 425, 435, 443, 0x40000000

CLONE_NEWUSER = 0x10000000


# socket.h's AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Any other loads a module into the host's kernel
# for the asking, and some, like AF_VSOCK, a virtual machine's line to its host, know no namespace.
AF_UNIX, AF_NETLINK = 1, 16

FAMILIES = (AF_UNIX, 2, 10, AF_NETLINK)


# Nor does the kernel ask for any capability when it loads what it lacks for a protocol, or for a
# type (DCCP's is 6). socket.h's SOCK_STREAM, SOCK_DGRAM, SOCK_RAW; linux/in.h's IP, ICMP, TCP, UDP,
# ICMPV6; linux/netlink.h's ROUTE, AUDIT, KOBJECT_UEVENT: SOCK_DIAG and GENERIC load more, by name.
TYPES, PROTOCOLS, NETLINK = (1, 2, 3), (0, 1, 6, 17, 58), (0, 9, 15)


# asm/ioctls.h's TIOCSETD (a terminal's line discipline), linux/sockios.h's SIOCGIFVLAN,
# SIOCSIFVLAN, SIOCGIFBR, SIOCSIFBR, SIOCBRADDBR, SIOCBRDELBR: a module first, then who asks.
IOCTLS = (0x5423, 0x8982, 0x8983, 0x8940, 0x8941, 0x89A0, 0x89A1)

NAMESPACES = {"mount": 0x20000, "PID": 0x20000000, "network": 0x40000000, "IPC": 0x8000000,
              "UTS": 0x4000000, "cgroup": 0x2000000}  # fmt: skip
"""linux/sched.h: what tasks.host.sandbox asks unshare(1) for."""


PER_LINUX, PER_LINUX32 = 0, 8  # linux/personality.h

LIMITS = {resource.RLIMIT_NOFILE: (1024, 524288), resource.RLIMIT_STACK: (8 << 20, -1),
          resource.RLIMIT_MEMLOCK: (8 << 20, 8 << 20), resource.RLIMIT_NPROC: (8192, 8192),
          resource.RLIMIT_SIGPENDING: (8192, 8192), resource.RLIMIT_MSGQUEUE: (819200, 819200),
          resource.RLIMIT_NICE: (0, 0), resource.RLIMIT_RTPRIO: (0, 0),
          resource.RLIMIT_FSIZE: (-1, -1), resource.RLIMIT_AS: (-1, -1),
          resource.RLIMIT_DATA: (-1, -1), resource.RLIMIT_RSS: (-1, -1),
          resource.RLIMIT_CPU: (-1, -1), resource.RLIMIT_RTTIME: (-1, -1),
          10: (-1, -1)}  # fmt: skip
"""Much as Debian's own: those of the builder's shell, some made of its memory, are in no key.

All that the kernel has but RLIMIT_CORE; 10 is RLIMIT_LOCKS, which Python has no name for.
"""


PROCESSES = 4096

NO_PROGRAM = 1 << 16  # as tasks/host/visit.py has it

FLUSH = 0.1
"""Seconds between two write-backs of a filesystem that is being filled."""


libc = ctypes.CDLL(None, use_errno=True)


doing = ""
"""What is tried now, by its name in tasks/host/trials.py."""


def now(what: str) -> None:
    """Note what is tried from here on."""
    global doing
    doing = what


def check(result: int, what: str) -> None:
    """Raise OSError with libc's errno when a call that returns -1 on failure failed."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    check(result, f"mount {kind} on {target}")


def bind(source: str, target: str, *, readonly: bool) -> None:
    """Show source at target, which is made when it is missing; a read-only one takes two calls."""
    if not os.path.lexists(target):
        if os.path.isdir(source):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(source, target, "none", MS_BIND)
    flags = MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | (MS_RDONLY if readonly else 0)
    mount("none", target, "none", flags)


def mount_one(kind: str, source: str, target: str, options: str) -> None:
    """One entry of the plan's `mounts`."""
    os.makedirs(target, exist_ok=True)
    if kind == "overlay":
        # nodev: with CAP_MKNOD, which dpkg needs, a package could else read the host's disks.
        mount("overlay", target, "overlay", MS_NODEV, options)
    elif kind == "tmpfs":
        mount("tmpfs", target, "tmpfs", MS_NODEV | MS_NOSUID, options)
    elif kind in ("bind", "bind-ro"):
        bind(source, target, readonly=kind == "bind-ro")
    elif kind.startswith("loop:"):
        # mount(8) sets LO_FLAGS_AUTOCLEAR: the device goes with the mount.
        argv = ["mount", "-t", kind[5:], "-o", f"loop,{options}", source, target]
        subprocess.run(argv, check=True)
    else:
        raise ValueError(f"unknown mount {kind!r}")


def private_dev(dev: str, *, links: bool = True) -> None:
    """A /dev of the few nodes that maintainer scripts use.

    Each node is the host's own, bound on an empty file: read-only, which keeps its owner, mode and
    times as they are, and lets it be written to all the same. The tmpfs below is nodev, so that no
    node which somebody makes there can be opened.
    """
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    now("dev")
    mount("tmpfs", dev, "tmpfs", flags, "mode=755,size=1m")
    now("nodes")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        mount(f"/dev/{name}", f"{dev}/{name}", "none", MS_BIND)
        mount(
            "none",
            f"{dev}/{name}",
            "none",
            MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC,
        )
    for name in ("pts", "shm", ".strata"):
        os.mkdir(f"{dev}/{name}", 0o755)
    for name, to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("ptmx", "pts/ptmx"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        if links:
            os.symlink(to, f"{dev}/{name}")
    now("devpts")
    mount(
        "devpts",
        f"{dev}/pts",
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620,gid=5",
    )
    now("dev")
    mount("tmpfs", f"{dev}/shm", "tmpfs", flags, "mode=1777,size=10%")
    mount("tmpfs", f"{dev}/.strata", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=10%")


def private_proc(proc: str, given: str, real: list[str]) -> None:
    """/proc of the PID namespace, which can neither change nor reveal the host.

    Each entry that is no process is covered: by what the folder `given` has under its name, by
    nothing, or, if it is `real`, by itself. All are read-only, since an entry's owner and mode are
    one for all instances of /proc, the host's as well.
    """
    now("proc")
    mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in sorted(os.listdir(proc)):
        target = f"{proc}/{name}"
        if name.isdecimal() or name in ("self", "thread-self") or os.path.islink(target):
            continue
        kept = {
            path.partition("/")[2]: f"{proc}/{path}"
            for path in real
            if path.partition("/")[0] == name
        }
        # Opened while they can be seen.
        inner = {
            path: os.open(one, os.O_PATH)
            for path, one in kept.items()
            if path and os.path.exists(one)
        }
        source = f"{given}/proc/{name}"
        if "" in kept:
            source = target
        elif not os.path.exists(source):
            source = f"{given}/{'folder' if os.path.isdir(target) else 'file'}"
        bind(source, target, readonly=True)
        for path, descriptor in inner.items():
            bind(f"/proc/self/fd/{descriptor}", f"{target}/{path}", readonly=True)
            os.close(descriptor)


def private_sys(sys_folder: str, content: dict[str, str | None]) -> None:
    """A /sys of this content alone: no disk, CPU, firmware or loaded module of the host."""
    now("sys")
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("tmpfs", sys_folder, "tmpfs", flags, "mode=555,size=1m")
    fill(sys_folder, content)
    mount("none", sys_folder, "none", flags | MS_REMOUNT | MS_RDONLY)


def fill(folder: str, content: dict[str, str | None]) -> None:
    """Make files of these texts by their paths below a folder, and folders where it is null."""
    for path, text in content.items():
        full = f"{folder}/{path}"
        os.makedirs(full if text is None else os.path.dirname(full), exist_ok=True)
        if text is not None:
            with open(full, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(full, 0o444)


def enter(plan: dict[str, Any]) -> None:
    """Make plan['root'] the root of this namespace and let go of the host's tree."""
    root: str = plan["root"]
    for name in ("dev", "proc", "sys", "tmp", "run"):
        if os.path.islink(f"{root}/{name}"):
            raise ValueError(f"/{name} is a symlink in the tree")
        os.makedirs(f"{root}/{name}", exist_ok=True)
    seen: dict[str, Any] = plan["seen"]
    # What is bound from it stays when it is detached; nobody can write to it then.
    given = root + "/tmp"
    now("dev")
    mount("tmpfs", given, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m")
    fill(given, {"file": "", "folder": None})
    fill(given + "/proc", {**seen["proc"], **dict.fromkeys(seen["real"], "")})
    private_dev(root + "/dev")
    private_proc(root + "/proc", given, seen["real"])
    private_sys(root + "/sys", seen["sys"])
    for chroot in plan["chroots"]:
        # No /sys: a bootstrap tool sets its owner and mode, which a read-only one refuses.
        for name in ("dev", "proc"):
            os.makedirs(f"{root}{chroot}/{name}", exist_ok=True)
        private_dev(f"{root}{chroot}/dev", links=False)  # bootstrap tools make them
        private_proc(f"{root}{chroot}/proc", given, seen["real"])
    check(libc.umount2(given.encode(), MNT_DETACH), "detach what /proc shows")
    now("dev")
    mount("tmpfs", root + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", root + "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=10%")
    now("binds")
    for source, target in plan["binds"]:
        bind(source, root + target, readonly=True)
    for source, target in plan["writable"]:
        bind(source, root + target, readonly=False)
    now("pivot_root")
    os.chdir(root)
    # pivot_root(".", ".") stacks the old root on the new one; the detach then removes it whole.
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "detach the host's tree")
    os.chdir("/")


def loopback_up() -> None:
    """127.0.0.1 answers, as scripts expect; nothing else is there."""
    # Not `socket`, whose import takes as long as all of this.
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = fcntl.ioctl(sock.fileno(), SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
    flags = struct.unpack("16sH14x", request)[1] | IFF_UP
    fcntl.ioctl(sock.fileno(), SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))
    sock.close()


def drop_capabilities(keep: list[str]) -> None:
    """Remove every other capability from the bounding set: an exec'ed root then lacks it too.

    The inheritable set goes first, whole: a root that is exec'ed would get what is in it, whatever
    the bounding set says (capabilities(7)), and some container engines start us with it full.
    """
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    check(libc.capget(header, sets), "capget")
    now = struct.unpack("6I", sets)  # effective, permitted, inheritable; twice
    check(libc.capset(header, struct.pack("6I", *now[:2], 0, *now[3:5], 0)), "capset")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    for number in range(last + 1):
        name = CAPABILITIES[number] if number < len(CAPABILITIES) else ""
        if name not in keep:
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), f"drop capability {number}")


def bound_resources() -> None:
    """Let a package that forks or allocates without end hit its own wall before the host's.

    RLIMIT_NPROC does not bind root. Before Linux 6.14 pid_max is the host's own: left alone.
    No core is dumped: a core_pattern that is a pipe would start the host's handler, as root and out
    of here. It ignores a limit of 0; of 1 it dumps nothing (core(5), fs/coredump.c).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    for limit, (soft, hard) in LIMITS.items():
        try:
            resource.setrlimit(limit, (soft, hard))
        except (OSError, ValueError):  # a container may not raise it
            highest = resource.getrlimit(limit)[1]
            fits = soft != resource.RLIM_INFINITY and soft <= highest
            resource.setrlimit(limit, (soft if fits else highest, highest))
    # logname(1) tells it; where audit has locked it, it stays.
    with suppress(OSError), open("/proc/self/loginuid", "w") as file:
        file.write("4294967295")
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # when memory runs out, this stage goes first
    major, minor = [*os.uname().release.split("."), ""][:2]
    minor = minor.partition("-")[0]
    if major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) >= (6, 14):
        with suppress(OSError), open("/proc/sys/kernel/pid_max", "w") as file:
            file.write(str(PROCESSES))


def call_filter(order: str = sys.byteorder, *, socketcall: bool = False) -> bytes:
    """The seccomp(2) filter, classic BPF (linux/filter.h), that answers REFUSED with EPERM.

    A socket of another family than FAMILIES, or another type or protocol there, is EAFNOSUPPORT,
    ESOCKTNOSUPPORT or EPROTONOSUPPORT, as on a kernel that lacks it: programs go on without. clone3
    and io_uring have their arguments in memory, where a filter cannot look: ENOSYS, and programs go
    back to clone and to plain calls. So has the x32 ABI, and every unknown one. socketcall has them
    there, too: no new socket comes of it unless `socketcall` says so.
    """
    code = "<HBBI" if order == "little" else ">HBBI"
    low = 0 if order == "little" else 4  # where the low half of an argument lies
    load, jump, equal, greater, bits, answer = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
    and_ = 0x54

    def errno_of(number: int) -> tuple[int, int, int, int]:
        return answer, 0, 0, 0x00050000 | number

    def among(values: tuple[int, ...], other: tuple[int, int, int, int]) -> list[Any]:
        return [*((equal, len(values) - at, 0, one) for at, one in enumerate(values)), other]

    eperm, enosys, no_family = errno_of(1), errno_of(38), errno_of(97)
    no_protocol, no_type = errno_of(93), errno_of(94)
    allow = (answer, 0, 0, 0x7FFF0000)
    protocol = (load, 0, 0, 32 + low)
    netlink = [protocol, *among(NETLINK, no_protocol), allow]
    # The type's upper bits are SOCK_CLOEXEC and SOCK_NONBLOCK.
    sockets = [
        (load, 0, 0, 16 + low),
        *among(FAMILIES, no_family),
        (equal, 0, 1, AF_UNIX),
        allow,
        (equal, 0, len(netlink), AF_NETLINK),
        *netlink,
        (load, 0, 0, 24 + low),
        (and_, 0, 0, 15),
        *among(TYPES, no_type),
        protocol,
        *among(PROTOCOLS, no_protocol),
        allow,
    ]
    loading = [
        (load, 0, 0, 24 + low),
        *((equal, len(IOCTLS) - at, 0, one) for at, one in enumerate(IOCTLS)),
        allow,
        eperm,
    ]
    program: list[tuple[int, int, int, int]] = [(load, 0, 0, 4)]
    for arch, (unshare, clone, sock, pair, *others) in CALLS.items():
        block = [(load, 0, 0, 0), (greater, 0, 1, X32), enosys]
        for number in (CLONE3, IO_URING_SETUP):
            block += [(equal, 0, 1, number), enosys]
        for number in (*others, QUOTACTL_FD):
            block += [(equal, 0, 1, number), eperm]
        # s390's clone has the stack first (CONFIG_CLONE_BACKWARDS2).
        flags = 24 if arch == 0x80000016 else 16
        for number, argument in ((unshare, 16), (clone, flags)):
            block += [
                (equal, 0, 3, number),
                (load, 0, 0, argument + low),
                (bits, 0, 1, CLONE_NEWUSER),
                eperm,
                (load, 0, 0, 0),
            ]
        for number in (sock, pair):
            block += [(equal, 0, len(sockets), number), *sockets]
        block += [(equal, 0, len(loading), IOCTL[arch]), *loading]
        if arch in SOCKETCALL and not socketcall:
            block += [
                (equal, 0, 4, SOCKETCALL[arch]),
                (load, 0, 0, 16 + low),
                (equal, 1, 0, SYS_SOCKET),
                (equal, 0, 1, SYS_SOCKETPAIR),
                no_family,
            ]
        # A conditional jump reaches 255 instructions at most, this one any number.
        program += [(equal, 1, 0, arch), (jump, 0, 0, len(block) + 1), *block, allow]
    return b"".join(struct.pack(code, *one) for one in [*program, enosys])


def filter_calls(*, socketcall: bool) -> None:
    """Put the filter over this process and all that it starts; needs no_new_privs."""
    program = call_filter(socketcall=socketcall)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack(
        "HxxxxxxP" if struct.calcsize("P") == 8 else "HxxP",
        len(program) // 8,
        ctypes.addressof(buffer),
    )
    check(libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0), "seccomp")


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


# ---------------------------------------------------------------- a person


def line_of(visit: dict[str, Any] | None) -> Any:
    """The socket to our parent, which nothing that is started here inherits; None for no visit."""
    if visit is None:
        return None
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
    line = line_of(visit)
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
        receive(visit, line, status, plan)
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


def _exit() -> NoReturn:
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
            told(doing, number, getattr(error, "strerror", "") or str(error))
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
        sys.exit(125)


if __name__ == "__main__":
    _exit()
