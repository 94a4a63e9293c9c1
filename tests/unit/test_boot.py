"""`boot` and what it needs: QEMU's command line and rights, kernels of trees, a console that is read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import samples
from support.world import says
from tasks.commands.asked_machine import Wanted, need_free
from tasks.commands.boot import boot
from tasks.commands.boot_disk import chosen, firmware_of
from tasks.errors import BuildError
from tasks.host import qemu
from tasks.host.console import Shown
from tasks.host.sandbox_visit import NO_PROGRAM
from tasks.host.terminal import Ends, Escapes, relay
from tasks.host.tools import EMULATORS
from tasks.host.visit import Visit, seen_env
from tasks.rootfs.kernel import kernel
from tasks.spec.disks import Disk, DiskFile
from unit.test_largest import packed

BOOTED = qemu.Booted(arch="amd64", memory=512, cpus=2, kernel="/k", initrd="/i", append="root=x",
                     drives=["/a", "/b"], forwards=[(2222, 22), (8080, 80)])  # fmt: skip


def test_a_machine_reaches_nothing_and_is_reached_by_this_host_alone() -> None:
    words = " ".join(qemu.argv(BOOTED))
    says(words, "-nodefaults", "-machine q35 -accel tcg", "-sandbox on,", "spawn=deny",
         "restrict=on,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80",
         "-kernel /k -initrd /i -append root=x", "file=/a,format=raw", "file=/b,format=raw")  # fmt: skip
    open_one = qemu.Booted(
        **{**vars(BOOTED), "arch": "arm64", "initrd": None, "network": True, "kvm": True}
    )
    words = " ".join(qemu.argv(open_one))
    says(words, "qemu-system-aarch64", "-machine virt -accel kvm -accel tcg", "restrict=off")
    assert "-initrd" not in words
    with pytest.raises(BuildError, match="s390x: boot knows no machine"):
        qemu.machine_of("s390x", "specs/web.yaml")
    # By this table is said which package to install.
    assert {one.program for one in qemu.MACHINES.values()} == set(EMULATORS)


def test_qemu_has_no_rights_of_roots() -> None:
    rights = qemu.Rights(user=61200, group=None, kvm=False, why="")
    command = rights.command(["true"])
    assert {"--no-new-privs", "--clear-groups", "--bounding-set=-all"} <= set(command)
    assert command[command.index("--reuid") + 1] == "61200"
    found = qemu.rights(qemu.MACHINES["amd64"])
    assert (found.user in qemu.USERS) == (os.geteuid() == 0)
    assert found.kvm == (found.why == "")


def test_the_kernel_is_the_one_that_the_tree_names_or_the_newest(tmp_path: Path) -> None:
    base = packed(tmp_path, "base", ("boot", "folder", 0), ("boot/vmlinuz-6.1.0-9-amd64", "file", b"nine"),
                  ("boot/vmlinuz-6.1.0-10-amd64", "file", b"ten"), ("boot/vmlinuz-old", "link", 0),
                  ("boot/initrd.img-6.1.0-10-amd64", "file", b"initrd"))  # fmt: skip
    found = kernel([base], tmp_path)
    assert found is not None
    assert found.initrd is not None
    assert (found.version, found.vmlinuz.read_bytes()) == ("6.1.0-10-amd64", b"ten")
    assert found.initrd.read_bytes() == b"initrd"
    link = packed(tmp_path, "link", ("vmlinuz", "symlink", b"boot/vmlinuz-6.1.0-9-amd64"))
    found = kernel([base, link], tmp_path)
    assert found is not None
    assert (found.vmlinuz.read_bytes(), found.initrd) == (b"nine", None)
    # Above, one is taken away, and another's content is new.
    gone = packed(tmp_path, "gone", ("boot/vmlinuz-6.1.0-10-amd64", "whiteout", 0),
                  ("boot/vmlinuz-6.1.0-9-amd64", "file", b"patched"))  # fmt: skip
    found = kernel([base, gone], tmp_path)
    assert found is not None
    assert found.vmlinuz.read_bytes() == b"patched"
    opaque = packed(tmp_path, "opaque", ("boot", "opaque", 0))
    assert kernel([base, opaque], tmp_path) is None
    # What is no file is not read, and many are not taken for kernels.
    many = packed(tmp_path, "many", *((f"boot/vmlinuz-{one}", "file", b"") for one in range(17)))
    with pytest.raises(BuildError, match="too many"):
        kernel([many], tmp_path)


def test_a_console_is_read_without_its_colours_and_wherever_it_is_cut() -> None:
    shown = Shown(b"web1 login: ")
    assert not any(map(shown.add, (b"\x1b[0;32mweb", b"1 lo\x1b[", b"0mgi", b"n:")))
    assert shown.add(b" ")
    assert not Shown(b"").add(b"anything")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": "12"}, "64 at least"), ({"memory": "lots"}, "expected MiB"), ({"cpus": "0"}, "from 1 to 255"),
        ({"ssh": "22"}, "from 1024"), ({"forward": "8080"}, "expected a port"), ({"forward": "8080:"}, "forward=0"),
        ({"timeout": "0"}, "expected seconds"), ({"timeout": "1e9"}, "expected seconds"),
        ({"ssh": "2222", "forward": "2222:80"}, "cannot lead to two"),
    ],
)  # fmt: skip
def test_what_a_machine_cannot_be(given: dict[str, str], message: str) -> None:
    with pytest.raises(BuildError) as error:
        Wanted(given, 8)
    assert message in str(error.value)


def test_what_a_machine_is_unless_told() -> None:
    wanted = Wanted({}, 8)
    assert (wanted.memory, wanted.cpus, wanted.timeout, wanted.append) == (1024, 2, None, [])
    assert wanted.forwards == [(wanted.ssh, 22)]
    need_free([wanted.ssh])
    wanted = Wanted(
        {"memory": "2G", "forward": "8080:80,8443:443", "append": "quiet init=/bin/sh"}, 1
    )
    assert (wanted.memory, wanted.cpus, wanted.append) == (2048, 1, ["quiet", "init=/bin/sh"])
    assert wanted.forwards[1:] == [(8080, 80), (8443, 443)]


def test_which_disk_is_booted_and_under_what(tmp_path: Path) -> None:
    images = {"/": samples.IMAGE}
    spec = samples.load(tmp_path, repos=[samples.REPO], packages=["one"], images=images)
    spec = replace(spec, arch="amd64")
    with pytest.raises(BuildError, match="there are no disks"):
        chosen(spec, "")
    file = DiskFile(name="a.qcow2", format="qcow2")
    first = Disk(name="a", size=None, firmware=("uefi", "bios"), files=(file,))
    second = Disk(name="b", size=None, firmware=("bios",), files=(file,))
    spec = replace(spec, disks=(first, second))
    assert (chosen(spec, ""), chosen(spec, "b")) == (first, second)
    with pytest.raises(BuildError, match=r"disk=c: .* has no such disk\n.*a, b"):
        chosen(spec, "c")
    assert firmware_of(spec, first, "") == "uefi"
    assert firmware_of(spec, first, "uefi-secure") == "uefi-secure"
    assert firmware_of(spec, second, "") == "bios"
    with pytest.raises(BuildError, match=r"firmware=uefi: disk b .* is not made for it\n.*bios"):
        firmware_of(spec, second, "uefi")
    with pytest.raises(BuildError, match="no machine of arm64 has this firmware"):
        firmware_of(replace(spec, arch="arm64"), second, "")
    # Without a loader, the disk's owner alone knows what starts it.
    bare = replace(first, firmware=(), loader="none")
    assert [firmware_of(spec, bare, one) for one in ("", "uefi", "bios", "uefi-secure")] == [
        "uefi", "uefi", "bios", "uefi-secure"]  # fmt: skip
    with pytest.raises(BuildError, match=r"cbios: no machine of amd64 .*\n.*it has bios, uefi"):
        firmware_of(spec, bare, "cbios")


def test_a_spec_of_exports_alone_has_nothing_to_boot(tmp_path: Path) -> None:
    spec = samples.load(
        tmp_path, repos=[samples.REPO], packages=["one"], exports={"x": {"format": "tar"}}
    )
    session: Any = SimpleNamespace(spec=spec, plan=SimpleNamespace(images=()), variables={})
    with pytest.raises(
        BuildError, match=r"nothing to boot: it has neither images nor disks\n.*add"
    ):
        boot(session)


# ---------------------------------------------------------------- terminals


def test_ctrl_bracket_three_times_at_once_leaves() -> None:
    escapes = Escapes()
    assert not escapes.left(b"\x1d\x1d")
    assert not escapes.left(b"a\x1d\x1d")
    assert escapes.left(b"\x1d")


def test_relay_ends_by_the_text_the_clock_or_the_program() -> None:
    def ends(data: bytes = b"") -> tuple[Ends, int]:
        out, theirs = os.pipe()
        os.write(theirs, data)
        return Ends(input=-1, outputs={out: nowhere}), theirs

    nowhere = os.open(os.devnull, os.O_WRONLY)
    one, theirs = ends(b"something")
    assert relay(one, typed=False, seen=lambda data: b"some" in data) == "seen"
    os.close(theirs)
    one, theirs = ends()
    assert relay(one, typed=False, until=0.0) == "late"
    os.close(theirs)
    one, theirs = ends(b"x" * 60000)
    os.close(theirs)
    assert relay(one, typed=False) == "ended"
    os.close(nowhere)


def test_a_visitor_is_told_their_terminals_kind_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert seen_env(True) == {"TERM": "xterm-256color"}
    monkeypatch.setenv("TERM", "../../etc/x\n")
    assert seen_env(True) == {"TERM": "linux"}
    visit = Visit(terminal=False, env={"PS1": "x"}, status=NO_PROGRAM + 2)
    assert visit.plan["env"] == {"TERM": "dumb"}
    with pytest.raises(
        BuildError, match="no /bin/bash and no /bin/sh that can be run: No such file"
    ):
        visit.require("web.yaml: base")
    assert Visit(terminal=False).require("") == 137
    assert Visit(terminal=False, status=3).require("") == 3
