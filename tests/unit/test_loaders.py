"""What a boot loader needs in the tree, and which stages of the tree its parts are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import disk_specs as disks
from support import samples
from support.disk_specs import esp, filesystem
from support.samples import record
from tasks.plan import loaders
from tasks.plan.lockfile import Lock
from tasks.spec.disks import Disk, Partition

KERNEL = ("linux-image-6.1.0-9-amd64", "initramfs-tools")
GRUB = ("shim-signed", "grub-efi-amd64-signed")
ROOT = filesystem("root", "/", rest=True)
HASHES = Partition(name="root-verity", kind="verity")


def locked(*names: str, systemd: str = "252.1-1") -> Lock:
    return samples.lock(
        [record("base"), record("systemd", systemd)], {"packages": [record(one) for one in names]}
    )


def said(folder: Path, disk: Disk, lock: Lock, **fields: Any) -> tuple[str, str]:
    spec = disks.spec_of(folder, [disk])
    error = loaders.lacking(disk, replace(spec, **fields), lock)
    return ("", "") if error is None else (error.message, error.hint)


@pytest.mark.parametrize(
    ("disk", "names", "systemd", "missing"),
    [
        (disks.disk(), (*KERNEL, *GRUB), "252.1-1", ""),
        (disks.disk(), (*KERNEL, *GRUB), "257.1-1", "systemd-repart"),
        (disks.disk(esp(), ROOT), (*KERNEL, *GRUB), "257.1-1", ""),
        (disks.disk(), (), "252.1-1",
         "linux-image-amd64, initramfs-tools, shim-signed, grub-efi-amd64-signed"),
        (disks.disk(ROOT, firmware=("bios",)), KERNEL, "252.1-1", "grub-pc-bin"),
        (disks.disk(esp(), ROOT, firmware=("uefi", "bios")), (*KERNEL, *GRUB), "252.1-1",
         "grub-pc-bin"),
        (disks.disk(esp(), ROOT, loader="systemd-boot"), KERNEL, "252.1-1", "systemd-boot, systemd-boot-efi"),
        (disks.disk(esp(), ROOT, loader="uki"), KERNEL, "257.1-1",
         "systemd-ukify, systemd-boot-efi"),
        (disks.disk(esp(), ROOT, HASHES, loader="uki", verity=True), KERNEL, "257.1-1",
         "systemd-ukify, systemd-boot-efi, dracut, systemd-cryptsetup"),
        (disks.disk(ROOT, loader="none", firmware=()), (), "252.1-1", ""),
    ],
)  # fmt: skip
def test_all_that_is_lacking_is_said_at_once(
    tmp_path: Path, disk: Disk, names: tuple[str, ...], systemd: str, missing: str
) -> None:
    message, hint = said(tmp_path, disk, locked(*names, systemd=systemd))
    assert hint == (f"add to packages: {missing}" if missing else "")
    if missing:
        assert message.startswith(f"{tmp_path}/web.yaml: disks.server: ")
        assert all(name in message for name in missing.split(", "))


def test_what_a_release_cannot_do_is_refused_with_the_one_that_can(tmp_path: Path) -> None:
    for disk, field in (
        (disks.disk(esp(), ROOT, loader="uki"), "loader: uki"),
        (disks.disk(esp(), ROOT, HASHES, loader="uki", verity=True), "verity"),
    ):
        message, _hint = said(tmp_path, disk, locked(*KERNEL))
        assert f"disks.server.{field}: needs what systemd has since Debian 13" in message
        assert "252.1-1" in message


def test_ubuntus_kernel_has_another_name(tmp_path: Path) -> None:
    repo = replace(locked().repos[0], fields={"Origin": "Ubuntu"})
    lock = replace(locked(*GRUB, "initramfs-tools"), repos=(repo,))
    assert said(tmp_path, disks.disk(), lock)[1] == "add to packages: linux-image-generic"


def test_an_unconfigured_tree_boots_nothing(tmp_path: Path) -> None:
    spec = disks.spec_of(tmp_path, [disks.disk()], base={"variant": "extract", "include": ["dpkg"]})
    error = loaders.lacking(spec.disks[0], spec, locked())
    assert error is not None
    assert "variant: extract" in error.message


def layered(*layers: tuple[str, ...]) -> Lock:
    return samples.lock(
        [record("base")],
        {f"l{number}": [record(*one.split("=")) for one in names]
         for number, names in enumerate(layers, 1)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "files", "esp_at", "bios_at"),
    [
        ((("app",), (*GRUB, "grub-pc-bin"), ("more",)), {}, 3, 3),
        ((GRUB, ("grub-pc-bin",), ("more",)), {}, 2, 3),
        ((GRUB, ("app",), ("shim-signed=2",)), {}, 4, 1),
        ((GRUB, ("app",)), {"l2": [["/usr/lib/shim/shimx64.efi.signed", "file", "", 420, "0:0"]]}, 3, 1),
        # In a tree whose /lib is a link, as /usr/lib/grub.
        ((GRUB, ("app",)), {"l2": [["/lib/grub/i386-pc/boot.img", "file", "", 420, "0:0"]]}, 3, 3),
        ((GRUB, ("app",)), {"l2": [["/etc/motd", "file", "", 420, "0:0"]]}, 2, 1),
    ],
)  # fmt: skip
def test_grubs_parts_stand_on_what_has_its_packages(
    tmp_path: Path, layers: tuple[tuple[str, ...], ...], files: Any, esp_at: int, bios_at: int
) -> None:
    disk, lock = disks.disk(), layered(*layers)
    spec = disks.spec_of(tmp_path, [disk])
    assert loaders.layer_of(disk, spec, lock, "esp", files) == esp_at
    assert loaders.layer_of(disk, spec, lock, "bios", files) == bios_at


def test_what_holds_kernels_stands_on_the_whole_tree(tmp_path: Path) -> None:
    lock = layered(("systemd-boot",), ("app",))
    for loader in ("systemd-boot", "uki"):
        disk = disks.disk(loader=loader)
        assert loaders.layer_of(disk, disks.spec_of(tmp_path, [disk]), lock) is None


def test_a_kernel_is_no_part_of_grubs_partition_and_the_command_line_neither(
    tmp_path: Path,
) -> None:
    found = []
    for words in ("quiet", "debug"):
        disk = disks.disk(cmdline=words)
        spec = disks.spec_of(tmp_path, [disk])
        found.append(loaders.esp_inputs(spec, disk, layered(GRUB), size=1 << 26, serial="0" * 8))
    assert found[0] == found[1]
    disk = disks.disk(loader="systemd-boot", cmdline="quiet")
    spec = disks.spec_of(tmp_path, [disk])
    inputs = loaders.esp_inputs(spec, disk, layered(GRUB), size=1 << 26, serial="0" * 8)
    assert inputs["cmdline"].endswith(" ro quiet")
