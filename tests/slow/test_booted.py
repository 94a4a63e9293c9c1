"""The shipped specs with disks, and an MBR and large sectors, built and booted under each firmware."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator

import pytest

from support.world import PROJECT, World, shipped_specs

pytestmark = [pytest.mark.root, pytest.mark.nightly]

UP = """\
#!/bin/sh
# The system is up and whole; its root has grown to the end of the disk.
set -eu
test "$(systemctl is-system-running)" = running
df -h / | tail -n 1
test "$(df --output=size -B1M / | tail -n 1)" -gt ROOT
GREP
"""

SECURE = """\
#!/bin/sh
set -eu
state=$(od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c)
test $state = 1
grep -q "\\[integrity\\]" /sys/kernel/security/lockdown
"""

DISKS = {
    "disk": (3000, "findmnt /boot/efi", ["bios", "uefi", "uefi-secure"]),
    "vm": (3000, "findmnt /boot/efi", ["bios", "uefi", "uefi-secure"]),
    "mbr": (3000, "! findmnt /boot/efi; test -s /boot/grub/grub.cfg", ["bios"]),
    "sdboot": (3000, "findmnt /boot/efi; bootctl is-installed", ["uefi", "uefi-secure"]),
    "sectors": (3000, "test $(cat /sys/block/vda/queue/logical_block_size) = 4096", ["uefi"]),
    "appliance": (
        100,
        "findmnt -no OPTIONS / | grep -q ^ro; findmnt -no SOURCE / | grep -q /dev/",
        ["uefi"],
    ),
}
"""By spec: MiB that `/` has at the least, what else is to be seen there, firmware."""

SHIPPED = ("disk", "vm", "appliance")


def text_of(name: str) -> str:
    """A shipped spec; `vm` with another loader, or `disk` with another table or sectors."""
    of = name if name in SHIPPED else "vm" if name == "sdboot" else "disk"
    text = (PROJECT / f"specs/{of}.yaml").read_text()
    if name in SHIPPED:
        return text
    if name == "sdboot":
        for old, new in (
            ("grub-efi-amd64-signed, grub-pc-bin, grub2-common",
             "systemd-boot, systemd-boot-efi, systemd-boot-efi-amd64-signed"),
            ("firmware: [uefi, bios]", "loader: systemd-boot"),
            ("disks:\n  vm:", "disks:\n  sdboot:"), ("vm.qcow2", "sdboot.qcow2"),
        ):  # fmt: skip
            assert old in text
            text = text.replace(old, new)
        return text
    text = re.sub(r"      disk\.img\.gz: .*\n", "", text).replace("disk.qcow2", f"{name}.qcow2")
    text = text.replace("disks:\n  disk:", f"disks:\n  {name}:")
    if name == "sectors":
        return text.replace("firmware: [uefi, bios]", "firmware: [uefi]\n    sector: 4096")
    text = text.replace("firmware: [uefi, bios]", "firmware: [bios]\n    table: mbr")
    return re.sub(r"      - \{name: esp, .*\n", "", text).replace(", grow: true", "")


@pytest.fixture(scope="module")
def disks(
    tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]
) -> Iterator[World]:
    """A checkout with these specs, each with boot tests; ${mirror} is the host's own."""
    with shipped_specs(tmp_path_factory.mktemp("disks"), fast_scratch, "files", "keys") as world:
        for name, (size, seen, firmware) in DISKS.items():
            tests = [{"script": f"tests/{name}.sh", "firmware": firmware, "timeout": 900}]
            world.write(
                f"tests/{name}.sh", UP.replace("ROOT", str(size)).replace("GREP", seen), 0o755
            )
            if "uefi-secure" in firmware:
                secure = {"script": "tests/secure.sh", "firmware": ["uefi-secure"], "timeout": 900}
                tests.append(secure)
            world.write(f"{name}.yaml", f"{text_of(name)}tests: {json.dumps(tests)}\n")
        world.write("tests/secure.sh", SECURE, 0o755)
        yield world


@pytest.mark.parametrize("name", DISKS)
def test_shipped_disks_boot_under_each_firmware(disks: World, name: str) -> None:
    results = disks.build(spec=name)
    for firmware in DISKS[name][2]:
        assert results[f"{name}.{firmware}"] == "built"
        assert (disks.root / f"out/{name}/log/test-{name}.{firmware}.png").is_file()
    for path in (disks.root / "cache/images").glob("test-*.tar"):
        with tarfile.open(path) as tar:
            report = tar.extractfile("report.json")
            assert report is not None
            assert json.loads(report.read())["state"] == "running"
    again = disks.build("lock=keep", spec=name)
    assert set(again.values()) <= {"hit", "skipped"}
