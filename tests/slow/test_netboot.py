"""A netboot export, in a machine without a disk: iPXE fetches it, and the system comes up in memory."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from support.file_server import Server
from support.kept_machine import HOST
from support.world import shipped_specs

pytestmark = [pytest.mark.root, pytest.mark.nightly]

SPEC = """\
repos:
  - {name: debian, uri: "${mirror}", suite: SUITE, section: main}
packages: [systemd-sysv, udev, dbus, linux-image-amd64, initramfs-tools, zstd, live-boot]
hostname: netboot
exports:
  netboot: {format: netboot, cmdline: console=ttyS0}
"""

START = """\
#!ipxe
set base BASE
chain ${base}boot.ipxe
"""
"""The iPXE that Debian's QEMU brings is of 2019, and must be told where it is."""

TIMEOUT = 900


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_machine_without_a_disk_boots_from_a_server(
    suite: str, tmp_path: Path, fast_scratch: dict[str, str]
) -> None:
    with shipped_specs(tmp_path, fast_scratch) as world:
        world.write("netboot.yaml", SPEC.replace("SUITE", suite))
        assert world.build(spec="netboot")["netboot"] == "built"
        folder = tmp_path / "served"
        folder.mkdir()
        for path in (world.root / "out/netboot/netboot").iterdir():
            (folder / path.name).symlink_to(path)
    console = tmp_path / "console"
    with Server(folder) as server, console.open("wb") as said:
        base = f"http://{HOST}:{server.url.rpartition(':')[2]}/"
        (folder / "start.ipxe").write_text(START.replace("BASE", base))
        machine = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-m", "2048", "-display", "none",
             "-serial", "stdio", "-no-reboot", "-nic",
             f"user,model=virtio-net-pci,bootfile={base}start.ipxe"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until = time.monotonic() + TIMEOUT
            while machine.poll() is None and time.monotonic() < until:
                if re.search(rb"\rnetboot login: |\nnetboot login: ", console.read_bytes()):
                    break
                time.sleep(1)
            shown = console.read_text(errors="replace")
            assert "netboot login: " in shown, shown[-4000:]
            assert "Kernel panic" not in shown
        finally:
            machine.kill()
            machine.wait()
