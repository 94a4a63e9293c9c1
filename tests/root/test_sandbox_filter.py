"""The sandbox's filter of system calls: of each ABI, of sockets of each family, with the kernel's own numbers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from support.sandboxes import enter
from tasks.host import sandbox_confine, toolroot
from tasks.host.sandbox import step

root_only = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to mount in, with `root`, a tree that has the host's programs bound in it."""
    toolroot.skeleton(tmp_path / "root")
    return tmp_path


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
    """By this host's own headers, of the two ABIs that they are of: gencat's package needs them."""
    folder = Path("/usr/include/x86_64-linux-gnu/asm")
    for arch, name in ((0xC000003E, "unistd_64.h"), (0x40000003, "unistd_32.h")):
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


def test_filter_refuses_an_unknown_abi_and_knows_big_endian() -> None:
    assert answer(sandbox_confine.call_filter("little"), 0x12345678, 1) == "ENOSYS"
    big = sandbox_confine.call_filter("big")
    assert struct.unpack_from(">HBBI", big) == (0x20, 0, 0, 4)
    assert len(big) == len(sandbox_confine.call_filter("little"))
