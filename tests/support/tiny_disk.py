"""A disk that boots in seconds, emulated: Debian's kernel, and busybox in place of all else.

It is one FAT, with what OVMF's shell starts by itself: the kernel with an initramfs, in which a
script does what systemd does of a boot test: it takes the credential from the firmware, waits for
the port that is plugged in, fetches the agent and runs it. `systemctl` says that the system runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("linux-image-cloud-amd64", "busybox-static")

MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_console")  # fmt: skip

INIT = r"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /run /tmp
for one in MODULES; do insmod "/modules/$one.ko"; done
text=$(tr '\0' '\n' < /sys/firmware/dmi/entries/11-0/raw | sed -n 's/.*binary:tmpfiles.extra=//p' | base64 -d)
echo "$text" | grep -o '/run/systemd/system/dev-.*-strata.knock.device.wants/strata-test.service'
unit=$(echo "$text" | sed -n 's,^f~ /run/systemd/system/strata-test.service .* ,,p' | base64 -d)
until cat /sys/class/virtio-ports/*/name 2> /dev/null | grep -q strata.knock; do sleep 0.2; done
mkdir -p /dev/virtio-ports
for one in /sys/class/virtio-ports/*; do ln -s "/dev/${one##*/}" "/dev/virtio-ports/$(cat "$one/name")"; done
echo "$unit" | sed -n "/^ExecStart/,/'$/p" | sed "s/^ExecStart=.bin.sh -c '//; s/'\$//; s/\\\$\\\$/\$/g" > /run/start
sh /run/start
echo "the agent has ended: $?"
poweroff -f
"""

SYSTEMCTL = """#!/bin/sh
case "$*" in *--version*) echo "systemd 252 (tiny)" ;; *is-system-running*) echo running ;; esac
"""


def make(debs: Sequence[Path], folder: Path) -> Path:
    """The disk, raw, made in `folder` of the .debs of PACKAGES."""
    tree, root = folder / "tree", folder / "initramfs"
    for deb in debs:
        if re.match(r"linux-image-\d|busybox-static", deb.name):
            subprocess.run(["dpkg-deb", "-x", deb, tree], check=True)
    for name in ("bin", "proc", "sys", "dev", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(next(tree.glob("**/bin/busybox")), root / "bin/busybox")
    for name in MODULES:
        shutil.copy(next(tree.glob(f"**/{name}.ko*")), root / f"modules/{name}.ko")
    for path, text in ((root / "init", INIT.replace("MODULES", " ".join(MODULES))),
                       (root / "bin/systemctl", SYSTEMCTL)):  # fmt: skip
        path.write_text(text)
        path.chmod(0o755)
    names = "\n".join(sorted(str(one.relative_to(root)) for one in root.rglob("*")))
    packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=root,
                            check=True, capture_output=True).stdout  # fmt: skip
    (folder / "initrd").write_bytes(packed)
    (folder / "startup.nsh").write_text("vmlinuz initrd=\\initrd console=ttyS0 quiet panic=-1\r\n")
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        os.truncate(file.fileno(), 48 << 20)
    subprocess.run(
        ["mkfs.vfat", "-F", "32", "-s", "1", disk], check=True, stdout=subprocess.DEVNULL
    )
    (vmlinuz,) = tree.glob("boot/vmlinuz-*")
    for source, name in ((vmlinuz, "vmlinuz"), (folder / "initrd", "initrd"),
                         (folder / "startup.nsh", "startup.nsh")):  # fmt: skip
        subprocess.run(["mcopy", "-i", disk, source, f"::{name}"], check=True)
    return disk
