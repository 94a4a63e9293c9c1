"""What the commands of a sandbox may not: capabilities, system calls, and more than their share.

A part of the program inside, see sandbox_init.py.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from contextlib import suppress
from typing import Any

from .sandbox_calls import check, libc

# linux/prctl.h
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 22, 24, 38


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
