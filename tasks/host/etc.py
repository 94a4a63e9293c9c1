"""/etc as the host's tools see it: only what finds programs and libraries, no one's choices.

A configuration of the host's (mtools.conf, e2fsck.conf, apt.conf.d) would show in no key.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

NEEDED = ("alternatives", "debian_version", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
          "login.defs", "os-release", "lsb-release")  # fmt: skip
"""What mmdebstrap, debootstrap, apt and dpkg read of the host's; nothing else of it is there."""


OWN = {
    # tar gives files of .debs to the accounts of these names, if there are such: the host's own
    # could have other numbers than Debian's, which the .debs hold as well.
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "hostname": "localhost\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "resolv.conf": "",
}
"""The rest, the same on every host."""


BIND = 'mount --bind "$0" /etc && exec "$@"'


def make(folder: Path) -> Path:
    """Fill a folder, new or empty, as such an /etc; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, folder / name)
    for name, text in OWN.items():
        (folder / name).write_text(text)
    return folder


def mount(folder: Path) -> list[str]:
    """The sandbox's mount entry that puts it over the host's, where the host's tree stays."""
    return ["bind-ro", str(folder), "/etc", ""]


def argv(folder: Path, command: Sequence[str]) -> list[str]:
    """The command that runs another with this /etc, in a mount namespace of its own."""
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "/bin/sh",
        "-c",
        BIND,
        str(folder),
        *command,
    ]
