"""Another kernel by apt in a machine that Strata's disk runs on: at its next boot, that one runs."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import pytest

from support.file_server import Server
from support.kept_machine import HOST, KeptMachine
from support.repository import Repository
from support.world import PROJECT, World, shipped_specs

pytestmark = [pytest.mark.root, pytest.mark.nightly]

META = "linux-image-cloud-amd64"

NAME = re.compile(r"^Package: (linux-image-\d\S*[\d]\S*-cloud-amd64)$", re.MULTILINE)

INSTALL = """\
set -eu
export DEBIAN_FRONTEND=noninteractive
uname -r
echo KEY | base64 -d > /run/kernel.gpg
echo 'deb [signed-by=/run/kernel.gpg] http://HOST:PORT stable main' > /run/kernel.list
until bash -c ': < /dev/tcp/HOST/PORT' 2> /dev/null; do sleep 2; done
apt='apt-get -q -o Dir::Etc::SourceList=/run/kernel.list -o Dir::Etc::SourceParts=/dev/null'
$apt update
$apt install -y META
"""

LOOK = "uname -r; systemctl is-system-running; df --output=size -B1M / | tail -n 1\n"


GRUB = "shim-signed, grub-efi-amd64-signed, grub-pc-bin, grub2-common"

SYSTEMD_BOOT = "shim-signed, systemd-boot, systemd-boot-efi, systemd-boot-efi-amd64-signed"


def spec(suite: str, loader: str) -> str:
    """The shipped disk on a release of Debian, by this loader, with one file of it."""
    text = (PROJECT / "specs/disk.yaml").read_text()
    text = "".join(line for line in text.splitlines(True) if "disk.img.gz" not in line)
    if suite != "bookworm":
        text = text.replace("bookworm", suite).replace("udev,", "udev, systemd-repart,")
    if loader == "systemd-boot":
        assert GRUB in text
        text = text.replace(GRUB, SYSTEMD_BOOT).replace("size: 64M", "size: 256M")
        text = text.replace("firmware: [uefi, bios]", "loader: systemd-boot")
    return text


def kernels(world: World) -> list[str]:
    """The packages of kernels that the spec's repositories have, the oldest first."""
    found = set()
    for path in (world.root / "cache/index").glob("live-*/*_Packages"):
        found |= set(NAME.findall(path.read_text()))
    return sorted(found, key=lambda name: [int(one) for one in re.findall(r"\d+", name)])


def debs(world: World, folder: Path) -> list[Path]:
    """The .debs that the build of `disk` has installed of its kernel, under their own names."""
    lock = json.loads((world.root / "specs/disk.lock").read_text())
    folder.mkdir()
    records = [one for layer in lock["layers"] for one in layer["records"]]
    for one in records:
        if one["package"].startswith("linux-image-"):
            kept = world.root / f"cache/debs/{one['sha256']}.deb"
            shutil.copy(kept, folder / one["path"].rpartition("/")[2])
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("suite", "loader"), [("bookworm", "grub"), ("trixie", "grub"), ("trixie", "systemd-boot")]
)
def test_a_kernel_that_apt_installs_in_the_machine_runs_after_a_reboot(
    suite: str, loader: str, tmp_path: Path, fast_scratch: dict[str, str]
) -> None:
    """Under Secure Boot, and then, with update-grub's own grub.cfg, under each other firmware."""
    with shipped_specs(tmp_path, fast_scratch, "files", "keys") as world:
        world.write("disk.yaml", spec(suite, loader))
        world.doit("layer:packages", "spec=disk")
        added = debs(world, tmp_path / "added")
        newest = next(one.name for one in added if re.match(r"linux-image-\d", one.name)).split(
            "_"
        )[0]
        world.write("old.yaml", spec(suite, loader).replace(META, kernels(world)[0]))
        assert world.build(spec="old")["disk.qcow2"] == "built"
        repository = Repository(tmp_path / "repository")
        repository.add(*added)
        repository.publish()
        machine = KeptMachine(world.root / "out/old/disk.qcow2", tmp_path)
        with Server(repository.root) as server:
            key = base64.b64encode(repository.keyring.read_bytes()).decode()
            script = INSTALL.replace("KEY", key).replace("META", META)
            port = server.url.rpartition(":")[2]
            said = machine.boot("uefi-secure", script.replace("HOST", HOST).replace("PORT", port))
        old, new = (name.removeprefix("linux-image-") for name in (kernels(world)[0], newest))
        assert old != new
        assert said[0] == old
        if loader == "grub":
            found = f"Found linux image: /boot/vmlinuz-{new}"
            assert any(line.startswith(found) for line in said), said
        for firmware in ("uefi-secure", "uefi", *(["bios"] if loader == "grub" else [])):
            running, state, size = machine.boot(firmware, LOOK)
            assert (running, state) == (new, "running")
            assert int(size) > 3000
