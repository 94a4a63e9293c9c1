"""What of a finished tree no package ships, and for what of it there is a reason.

`ALLOWED` is the table of docs/design.md, "What no package ships".
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

ALLOWED = {
    "dpkg's and apt's own state": (
        "/var/lib/dpkg/*", "/var/lib/apt/extended_states", "/var/lib/apt/lists/partial",
        "/var/cache/apt/archives/partial", "/var/cache/debconf/*.dat", "/var/lib/pam/*",
        "/var/lib/shells.state", "/var/lib/systemd/deb-systemd-helper-*",
        "/var/lib/ucf/*"),
    "written by base-files, base-passwd, libc-bin, libpam, passwd, tzdata and the like": (
        "/etc/.pwd.lock", "/etc/passwd*", "/etc/group*", "/etc/shadow*", "/etc/gshadow*",
        "/etc/subuid*", "/etc/subgid*", "/etc/environment", "/etc/ld.so.cache", "/etc/localtime",
        "/etc/timezone", "/etc/motd", "/etc/nsswitch.conf", "/etc/pam.d/common-*", "/etc/profile",
        "/etc/rc[0-9S].d/*", "/etc/security/opasswd", "/etc/shells", "/etc/systemd/system/*",
        "/etc/dpkg/origins/default", "/etc/opt", "/root/.bashrc", "/root/.profile",
        "/media", "/mnt", "/opt", "/srv", "/usr/local", "/usr/local/*", "/usr/share/info/dir",
        "/var/mail", "/var/opt", "/var/spool/mail", "/var/local"),
    "empty logs that programs write to only if they are there": (
        "/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog", "/var/log/faillog"),
    "update-alternatives": ("/etc/alternatives/*",),
    "made by both bootstrap tools by themselves": ("/etc/fstab",),
    "made by debootstrap by itself: the method of dselect": ("/var/lib/dpkg/cmethopt",),
    "made by mmdebstrap by itself: the architectures, so that one is no other tree than two": (
        "/var/lib/dpkg/arch",),
    "made by mmdebstrap by itself, empty: where apt would have them (of the variant extract)": (
        "/etc/apt", "/etc/apt/*.d", "/etc/dpkg", "/etc/dpkg/dpkg.cfg.d", "/var/lib/apt",
        "/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apt/archives", "/var/lib/dpkg",
        "/var/cache", "/var/log/apt"),
    "of a filesystem that is mounted": ("/lost+found",),
    "mount points, and links of a merged /usr": (
        "/dev", "/proc", "/run", "/sys", "/tmp", "/bin", "/sbin", "/lib", "/lib32", "/lib64",
        "/libx32", "/boot", "/usr/lib32", "/usr/lib64", "/usr/libx32"),
}  # fmt: skip


def unowned(root: Path, owned: Iterable[str] = ()) -> list[str]:
    """Paths of a tree that no package's list names and no reason allows, sorted."""
    known = set(owned)
    for listed in (root / "var/lib/dpkg/info").glob("*.list"):
        known |= set(listed.read_text().splitlines())
    known |= {
        f"/usr{path}" for path in known if re.match(r"/(bin|sbin|lib|lib32|lib64|libx32)/", path)
    }
    allowed = [pattern for patterns in ALLOWED.values() for pattern in patterns]
    found = []
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = f"/{os.path.relpath(os.path.join(folder, name), root)}"
            link = os.readlink(root / path[1:]) if (root / path[1:]).is_symlink() else ""
            if path in known or link.startswith("/etc/alternatives/"):
                continue
            if not any(fnmatchcase(path, pattern) for pattern in allowed):
                found.append(path)
    return sorted(found)


def shipped(debs: Iterable[Path]) -> set[str]:
    """The paths in .debs, for trees in which dpkg knows of none."""
    found: set[str] = set()
    for deb in debs:
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True)
        names = subprocess.run(["tar", "--list", "--file", "-"], input=tar.stdout, check=True,
                               capture_output=True).stdout.decode()  # fmt: skip
        found |= {"/" + name.removeprefix("./").rstrip("/") for name in names.splitlines()}
    return found
