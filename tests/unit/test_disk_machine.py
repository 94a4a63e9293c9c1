"""Machines that boot disks: QEMU's command line, the agent's words, QMP, consoles, pictures."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from support.world import says
from tasks.errors import BuildError
from tasks.formats import qcow2, vmdk
from tasks.formats.picture import LARGEST_PPM, png_of
from tasks.host import agent, firmware, qemu, qmp
from tasks.host.console import Lines, Shown
from tasks.host.disk_headers import virtual_size
from tasks.host.disk_machine import DiskMachine, argv, disk_nodes, firmware_nodes

RIGHTS = qemu.Rights(user=61200, group=None, kvm=False, why="")


def machine(form: str = "qcow2", name: str = "uefi", arch: str = "amd64") -> DiskMachine:
    return DiskMachine(
        arch=arch, firmware=name, disk=Path("/d"), format=form, memory=512, cpus=1,
        forwards=((2222, 22),),
    )  # fmt: skip


def test_a_disks_machine_has_nothing_of_the_hosts_and_writes_to_the_overlay_alone() -> None:
    nodes = disk_nodes("/dev/fdset/7", "/dev/fdset/8", "qcow2", 1 << 30)
    nodes += firmware_nodes("/dev/fdset/9", "/dev/fdset/10")
    board = ["pflash0=code", "pflash1=variables"]
    words = argv(machine(), RIGHTS, nodes, board, secure=False)
    says(" ".join(words), "-nodefaults", "-machine q35,pflash0=code,pflash1=variables -accel tcg",
         "-sandbox on,", "spawn=deny", "restrict=on", "virtio-blk-pci,drive=overlay")  # fmt: skip
    given = [json.loads(words[at + 1]) for at, word in enumerate(words) if word == "-blockdev"]
    written = {one["node-name"] for one in given if not one.get("read-only")}
    assert written == {"overlay-file", "overlay", "variables"}
    # What a qcow2 names as the file below it is not opened.
    assert next(one for one in given if one["node-name"] == "disk")["backing"] is None
    secure = " ".join(argv(machine(), RIGHTS, nodes, board, secure=True))
    says(secure, "q35,smm=on,pflash0=code", "driver=cfi.pflash01,property=secure,value=on")
    assert "smm" not in " ".join(words)
    assert "block_size" not in " ".join(words)
    large = " ".join(argv(replace(machine(), sector=4096), RIGHTS, nodes, board, secure=False))
    says(large, "drive=overlay,bootindex=0,logical_block_size=4096,physical_block_size=4096")


def test_a_vhd_is_as_large_as_its_footer_says() -> None:
    (disk,) = [one for one in disk_nodes("a", "b", "vhd", 4096) if one["node-name"] == "disk"]
    assert (disk["driver"], disk["size"], disk["read-only"]) == ("raw", 4096, True)


def size_of(path: Path, form: str) -> int:
    with path.open("rb") as file:
        return virtual_size(file.fileno(), path.name, form)


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vhd"])
def test_the_size_of_a_disk_is_what_qemu_says(tmp_path: Path, form: str) -> None:
    """Of the files that QEMU itself makes."""
    path = tmp_path / "disk"
    size = 3 << 20
    options = {"vmdk": ["-o", "subformat=streamOptimized"],
               "vhd": ["-o", "subformat=fixed,force_size=on"]}  # fmt: skip
    raw = tmp_path / "raw"
    raw.write_bytes(b"x" * size)
    driver = "vpc" if form == "vhd" else form
    subprocess.run(
        ["qemu-img", "convert", "-O", driver, *options.get(form, []), raw, path], check=True
    )
    assert size_of(path, form) == size
    if form != "raw":
        for content in (b"", b"QFI\xfb", b"KDMV", b"x" * 4096):
            path.write_bytes(content)
            with pytest.raises(BuildError, match=f"no disk of the format {form}"):
                size_of(path, form)


def made(path: Path, form: str, *words: str | Path) -> Path:
    """A disk of 1 MiB, as QEMU makes it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *words, path, "1M"], check=True)
    return path


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-b", "/dev/null", "-F", "raw", "-u"], "it names a file below it"),
        (["-o", "data_file=data"], "it has the incompatible features 0x4"),
        (["-o", "extended_l2=on"], "it has the incompatible features 0x10"),
        (["-o", "compat=0.10"], "it is of version 2"),
    ],
)  # fmt: skip
def test_a_qcow2_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = made(tmp_path / "disk", "qcow2", *words)
    with pytest.raises(BuildError, match=f"disk is no qcow2 of Strata's: {why}\\n.*build it again"):
        size_of(path, "qcow2")


def test_a_qcow2_that_is_encrypted_is_refused(tmp_path: Path) -> None:
    """By its header: LUKS itself, as qemu-img makes it, first measures how fast an idle host is."""
    path = made(tmp_path / "disk", "qcow2")
    content = path.read_bytes()
    path.write_bytes(content[:32] + struct.pack(">I", 2) + content[36:])
    with pytest.raises(BuildError, match=r"disk is no qcow2 of Strata's: it is encrypted"):
        size_of(path, "qcow2")


def test_stratas_own_qcow2_and_vmdk_are_taken(tmp_path: Path) -> None:
    for form, options in (("qcow2", qcow2.OPTIONS), ("vmdk", vmdk.OPTIONS)):
        path = made(tmp_path / f"disk.{form}", form, "-o", ",".join(options))
        assert size_of(path, form) == 1 << 20


def test_a_vmdk_that_names_other_files_is_refused(tmp_path: Path) -> None:
    """Without a capacity QEMU itself takes its descriptor for a list of files: any of the host's."""
    parent = made(tmp_path / "parent", "vmdk")
    child = made(tmp_path / "child", "vmdk", "-b", parent, "-F", "vmdk")
    whole = bytearray(made(tmp_path / "disk", "vmdk").read_bytes())
    assert size_of(tmp_path / "disk", "vmdk") == 1 << 20
    line = re.search(rb'(?m)^RW [0-9]+ SPARSE ".*"\n', whole)
    assert line is not None
    two = whole.replace(line[0], line[0] + b'RW 8 FLAT "/etc/shadow" 0\n', 1)
    empty = whole[:12] + bytes(8) + whole[20:]
    moved = whole[:28] + struct.pack("<Q", 40) + whole[36:]
    for content, why in (
        (child.read_bytes(), "names a file below it"), (two, "has 2 extents"),
        (empty, "holds nothing itself"), (moved, "has its descriptor elsewhere"),
        (whole[:512], "has 0 extents"),
    ):  # fmt: skip
        path = tmp_path / "tried"
        path.write_bytes(content)
        with pytest.raises(BuildError, match=f"tried is no vmdk of Strata's: it {why}\n.*again"):
            size_of(path, "vmdk")


@pytest.mark.parametrize("form", ["qcow2", "vmdk"])
def test_what_lies_below_a_disk_is_not_opened(tmp_path: Path, form: str) -> None:
    """As QEMU opens what is given to it."""
    below = made(tmp_path / "below", form)
    disk = made(tmp_path / "disk", form, "-b", below, "-F", form)
    below.unlink()
    (node,) = [one for one in disk_nodes("", "", form, 1 << 20) if one["node-name"] == "disk"]
    node |= {"file": {"driver": "file", "filename": str(disk), "read-only": True}}
    done = subprocess.run(["qemu-io", "-r", "-c", "read -P 0 0 512", "json:" + json.dumps(node)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "read 512/512 bytes" in done.stdout


def test_firmware_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = firmware.Firmware(package="ovmf", files=(("/nowhere/code.fd", "/nowhere/vars.fd"),))
    monkeypatch.setitem(firmware.FIRMWARE, ("amd64", "uefi"), missing)
    with pytest.raises(BuildError, match=r"no firmware uefi for amd64.*\n.*apt-get install ovmf"):
        firmware.find("amd64", "uefi", "here")
    with pytest.raises(
        BuildError, match=r"here: bios: no machine of arm64(.|\n)*uefi, uefi-secure"
    ):
        firmware.find("arm64", "bios", "here")
    with pytest.raises(BuildError, match="s390x can be neither"):
        firmware.find("s390x", "uefi", "here")


def test_kvm_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_KVM", "off")
    found = qemu.rights(qemu.MACHINES["amd64"])
    assert (found.kvm, found.why) == (False, "STRATA_KVM=off")


# ---------------------------------------------------------------- the agent


def test_the_credential_is_small_and_makes_a_unit_that_a_device_wants() -> None:
    option, words = agent.smbios()
    assert option == "-smbios"
    # systemd 252 reads one page of what the firmware has.
    assert len(words) < 3500
    text = base64.b64decode(words.partition("tmpfiles.extra=")[2]).decode()
    unit, folder, link = text.splitlines()
    content = base64.b64decode(unit.split()[-1]).decode()
    says(
        content,
        "ConditionPathExists=!/etc/initrd-release",
        "ExecStart=/bin/sh -c 'exec 3<>/dev/virtio-ports/strata.test",
        '"$$n"',
    )
    says(folder, r"/run/systemd/system/dev-virtio\\x2dports-strata.knock.device.wants")
    says(link, "../strata-test.service")
    # Nothing outside of /run, which no disk has.
    assert {line.split()[1].split("/")[1] for line in text.splitlines()} == {"run"}


def test_answers_are_found_wherever_they_are_cut() -> None:
    stream = b"hello 252\nstate degraded 6\nunits\nresult 3 4\nno\n\xffresult 0 0\n"
    for step in (1, 2, 7, len(stream)):
        answers = agent.Answers()
        found = [
            one for at in range(0, len(stream), step) for one in answers.add(stream[at : at + step])
        ]
        assert [(one.kind, one.word, one.text) for one in found] == [
            ("hello", "252", b""), ("state", "degraded", b"units\n"), ("result", "3", b"no\n\xff"),
            ("result", "0", b""),
        ]  # fmt: skip
    assert found[2].number == 3
    assert found[1].number == -1


@pytest.mark.parametrize(
    "stream",
    [b"hi\n", b"x" * 300, b"result 0 99999999\n", b"result 0 1048577\n", b"result -1 0\n",
     b"state ../x 1\n", b"hello \x1b[2J\n", b"\0\n"],
)  # fmt: skip
def test_what_is_no_agents_answer(stream: bytes) -> None:
    with pytest.raises(agent.BadAnswer):
        agent.Answers().add(stream)


def test_the_agent_runs_scripts_and_tells_what_they_said(tmp_path: Path) -> None:
    """The very agent, by a shell of this host: dash, as in a machine of Debian's."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "systemctl").write_text(
        "#!/bin/sh\ncase $* in *--version*) echo 'systemd 252 (252.39)' ;;\n"
        "*is-system-running*) echo running ;;\nesac\n"
    )
    (binaries / "systemctl").chmod(0o755)
    work = tmp_path / "work"
    text = agent.AGENT.read_text().replace("/dev/shm/strata-test", str(work))
    program = tmp_path / "agent"
    program.write_text(f"exec 3<&0 4>&1\n{text.replace('>&3', '>&4').replace('3>&-', '3>&- 4>&-')}")
    orders = (
        agent.wait_order(5)
        + agent.run_order(b"echo $STRATA_STATE; echo no >&2; exit 3", 5)
        + agent.run_order(b"#!/bin/sh\nyes | head -c 2000000", 30)
        + b"run 0.1 8\nsleep 30"
        + agent.run_order(b"cat", 5)
        + agent.END_ORDER
    )
    done = subprocess.run(["dash", program], input=orders, capture_output=True, check=False,
                          env={"PATH": f"{binaries}:/usr/bin:/bin"})  # fmt: skip
    found = agent.Answers().add(done.stdout)
    assert [(one.kind, one.word) for one in found] == [
        ("hello", "252"), ("state", "running"), ("result", "3"), ("result", "0"), ("result", "124"),
        ("result", "0"),
    ], done.stderr  # fmt: skip
    assert found[2].text == b"running\nno\n"
    assert len(found[3].text) == agent.OUTPUT_LIMIT
    # A script does not read what is for the agent.
    assert found[5].text == b""


# ---------------------------------------------------------------- QMP, consoles, pictures


def test_qmp_is_lines_of_json() -> None:
    order = json.loads(qmp.order("device_del", mark="knock", id="knock"))
    assert order == {"execute": "device_del", "arguments": {"id": "knock"}, "id": "knock"}
    messages = qmp.Messages()
    event = b'{"event": "VSERPORT_CHANGE", "data": {"open": true, "id": "port"}}\r\n'
    assert messages.add(event[:20]) == []
    (found,) = messages.add(event[20:])
    assert qmp.port_opened(found, "port") is True
    assert qmp.port_opened(found, "knock") is None
    for line in (b"[]\n", b"nothing\n", b"x" * (qmp.LINE_LIMIT + 1)):
        with pytest.raises(qmp.BadMessage):
            qmp.Messages().add(line)


def test_a_console_is_lines_and_what_a_machine_dies_by() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    for part in (
        b"\x1b[0;32m  OK  \x1b[0m Started\r",
        b"\n[    1.0] Kernel pa",
        b"nic - not syncing: VFS\n",
    ):
        lines.add(part)
    assert seen == ["  OK   Started", "[    1.0] Kernel panic - not syncing: VFS"]
    assert lines.dead == "Kernel panic - not syncing"
    prompt = Lines(seen.append)
    prompt.add(b"\r\n(initramfs) ")
    assert prompt.dead == "(initramfs)"
    harmless = Lines(seen.append)
    harmless.add(b"GNU GRUB  version 2.06\r\nthe (initramfs) is unpacked\r\n")
    assert harmless.dead == ""
    harmless.add(b"x" * 100_000)
    assert max(map(len, seen)) <= 4096
    seen.clear()
    menu = Lines(seen.append)
    menu.add(b"\x1b[01;01H\x1b[0mGNU GRUB\x1b[2;1")
    menu.add(b"HDebian\x1b[3;1H   \x1b[4;1H")
    assert seen == ["GNU GRUB", "Debian"]
    assert Shown(b"login: ").add(b"\x1b[1mlog\x1b[0min: ")


@pytest.mark.parametrize(
    "text",
    [
        b"[   12.345678] Kernel panic - not syncing: Attempted to kill init!\n",
        b"[    1.1][    T1] Kernel panic - not syncing: VFS\r\n",
        b"Kernel panic - not syncing: VFS\r\n",
        b"\r\nweb-1 login: [   99.100000] Kernel panic - not syncing: sysrq\r\n",
        b"23%\rKernel panic - not syncing: sysrq\r\n",
        b"[DEPEND] Dependency failed.\r\n\x1b[?7h\x1b[1G\x1b[0JYou are in emergency mode. After logging in\r\n",
        b"Starting\x1b[1GYou are in rescue mode. After",
        b"\x1bP+q544e\x1b\\You are in emergency mode. After\r\n",
        b"\r\n\r\nEntering emergency mode. Exit the shell to continue.\r\n",
        b"\r\ngrub rescue> ",
        b"Boot failed: not a bootable disk\r\n\r\nNo bootable device.\r\n",
        b"BdsDxe: failed to load\r\nBdsDxe: No bootable option or device was found.\r\n",
    ],
)
def test_what_a_machine_dies_by(text: bytes) -> None:
    for step in (1, 3, len(text)):
        lines = Lines(lambda _line: None)
        for at in range(0, len(text), step):
            lines.add(text[at : at + step])
        assert lines.dead
        assert lines.dead.encode() in text


@pytest.mark.parametrize(
    "text",
    [
        b"[   12.3] watch[99]: looks for Kernel panic - not syncing\n",
        b"[   12.3] watch[99]: [   1.1] Kernel panic - not syncing\n",
        b"[   12.3] watch[99]: Kernel panic - not syncing\n",
        b"[  OK  ] Started tell when You are in emergency mode.\r\n",
        b"note: No bootable device, BdsDxe: No bootable option, grub> \r\n",
        b"x" * 5000 + b"\x00" * 3192 + b"Kernel panic - not syncing\n",
    ],
)
def test_what_only_names_it(text: bytes) -> None:
    for step in (1, 4096, len(text)):
        lines = Lines(lambda _line: None)
        for at in range(0, len(text), step):
            lines.add(text[at : at + step])
        lines.end()
        assert lines.dead == ""


def test_a_picture_is_the_same_as_png() -> None:
    assert len(b"P6\n8192 8192\n255\n") + 8192 * 8192 * 3 <= LARGEST_PPM < 1 << 28
    pixels = bytes(range(2 * 3 * 3))
    png = png_of(b"P6\n2 3\n255\n" + pixels)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        name = png[at + 4 : at + 8]
        chunks[name] = png[at + 8 : at + 8 + size]
        (crc,) = struct.unpack_from(">I", png, at + 8 + size)
        assert crc == zlib.crc32(name + chunks[name])
        at += 12 + size
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (2, 3, 8, 2, 0, 0, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert b"".join(rows[at + 1 : at + 7] for at in range(0, 21, 7)) == pixels
    for wrong in (
        b"",
        b"P5\n2 3\n255\n",
        b"P6\n2 3\n255\n123",
        b"P6\n0 3\n255\n",
        b"P6\n99999 9\n255\n",
    ):
        with pytest.raises(ValueError, match=re.compile("picture|PPM")):
            png_of(wrong)
