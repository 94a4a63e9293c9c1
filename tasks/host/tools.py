"""The host's commands: which Debian package has each, and where it is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from ..errors import BuildError

# What each command is for, and the Debian package that has it. `./doit` installs the first group
# on a fresh machine, `./doit test` both; a build only asks for what it is about to run.
TOOLS: dict[str, str] = {
    "apt-get": "apt", "apt-helper": "apt", "dpkg-deb": "dpkg", "gpgv": "gpgv",
    "mmdebstrap": "mmdebstrap", "debootstrap": "debootstrap", "apt-ftparchive": "apt-utils",
    "tar": "tar", "zstd": "zstd", "xz": "xz-utils", "mount": "mount", "unshare": "util-linux",
    "setpriv": "util-linux", "mke2fs": "e2fsprogs", "e2fsck": "e2fsprogs", "debugfs": "e2fsprogs",
    "resize2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "dumpe2fs": "e2fsprogs",
    "taskset": "util-linux", "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs", "mkfs.vfat": "dosfstools",
    "mcopy": "mtools", "iconv": "libc-bin",
}  # fmt: skip


# What disks and exports need beside those: a spec without them needs none of it.
DISK_TOOLS: dict[str, str] = {
    "qemu-img": "qemu-utils", "veritysetup": "cryptsetup-bin",
    "mksquashfs": "squashfs-tools", "mkfs.erofs": "erofs-utils", "cpio": "cpio",
}  # fmt: skip


EMULATORS: dict[str, str] = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
}  # fmt: skip
"""What boots disks, for tests of them and for `boot`."""


TEST_TOOLS: dict[str, str] = {
    "gpg": "gpg", "gpgconf": "gpgconf", "gpg-agent": "gpg-agent",
    "qemu-system-x86_64": "qemu-system-x86", "git": "git", "ssh": "openssh-client",
    "pigz": "pigz", "jq": "jq", "locale-gen": "locales", "ps": "procps",
    # gencat comes with libc6-dev, which gcc only recommends.
    "gcc": "gcc", "gencat": "libc6-dev",
    # What shared caches are kept in.
    "nginx": "nginx", "docker-registry": "docker-registry",
    # No command stands for it: UEFI of machines that boot disks.
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
    # The tree's own, of trees that are made of the host's programs.
    "grub-mkimage": "grub-common", "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
    # What looks at disks and exports.
    "skopeo": "skopeo", "umoci": "umoci", "sgdisk": "gdisk", "sfdisk": "fdisk",
    "fsck.vfat": "dosfstools",
    "mkswap": "util-linux", "unsquashfs": "squashfs-tools", "mdir": "mtools",
    "bmaptool": "bmap-tools",
}  # fmt: skip


# What `doit test all=1` needs beside those: nobody waits for its installation by day.
NIGHTLY_TOOLS: dict[str, str] = {"chromium": "chromium", "podman": "podman"}

# What the rivals of `doit bench` need beside those.
BENCH_TOOLS: dict[str, str] = {"pigz": "pigz", "mkosi": "mkosi"}

LIBEXEC = {"apt-helper": "/usr/lib/apt/apt-helper"}


# Whatever the user's shell says, tools speak English, see UTC and find the same programs.
ENV: dict[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent", "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip


def tool(name: str) -> str:
    """The path of a host command; BuildError names the package to install when it is missing."""
    path = LIBEXEC.get(name) or shutil.which(name, path=ENV["PATH"])
    if path is None or not os.access(path, os.X_OK):
        package = {
            **TOOLS, **DISK_TOOLS, **EMULATORS, **TEST_TOOLS, **NIGHTLY_TOOLS, **BENCH_TOOLS,
        }.get(name, name)  # fmt: skip
        raise BuildError(f"the host has no command {name}", f"apt-get install {package}")
    return path


def missing_packages(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """Debian packages of the commands of these tables that this host lacks."""
    found = set()
    for name, package in (pair for group in groups for pair in group.items()):
        try:
            if not name.startswith("/"):
                tool(name)
            elif not os.path.exists(name):
                found.add(package)
        except BuildError:
            found.add(package)
    return sorted(found)


if __name__ == "__main__":
    # ./doit asks before there is a .venv: this file needs nothing but the standard library.
    TESTED = [TOOLS, DISK_TOOLS, TEST_TOOLS]
    GROUPS = {
        "disks": [TOOLS, DISK_TOOLS],
        "test": TESTED,
        "nightly": [*TESTED, NIGHTLY_TOOLS],
        "bench": [*TESTED, BENCH_TOOLS],
    }
    print(*missing_packages(GROUPS.get("".join(sys.argv[1:]), [TOOLS])))
