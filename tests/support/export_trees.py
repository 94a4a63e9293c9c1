"""Three trees, one on the other, with all that an export may lose, and their exports."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

from support.stacks import Stack, gone, opaque, stack
from tasks.spec.disks import Export, OciConfig

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
"""cap_net_raw=ep (capabilities(7), vfs_cap_data of revision 2)."""


ODD = os.fsdecode(b"caf\xe9 \n\\x")


def text(path: Path, content: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(content or f"{path.name}\n"))
    path.chmod(mode)
    return path


def base(tree: Path) -> None:
    tool = text(tree / "usr/bin/tool", mode=0o755)
    os.setxattr(tool, "security.capability", CAPABILITY)
    os.setxattr(text(tree / "usr/bin/ping", mode=0o755), "security.capability", CAPABILITY)
    text(tree / "usr/bin/su", mode=0o4755)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "dangling").symlink_to("/no/such/ö")
    os.link(text(tree / "usr/share/a"), tree / "usr/share/b")
    os.link(tree / "usr/share/a", tree / "opened")
    text(tree / "usr/share" / ODD)
    text(tree / ("long-" * 30) / ("name-" * 30) / ("ü" * 100))
    with (tree / "sparse").open("wb") as file:
        file.seek(4 << 20)
        file.write(b"x" * 5000)
        file.truncate(9 << 20)
    os.mkfifo(tree / "usr/fifo", 0o640)
    os.mknod(tree / "usr/null", 0o20666, os.makedev(1, 3))
    os.chown(text(tree / "var/www/page", mode=0o600), 33, 70_000)
    os.setxattr(tree / "var/www/page", "user.note", b"a\0b=c\n")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    for name in ("one", "two"):
        text(tree / "etc/conf.d" / name)
        text(tree / "opt/gone" / name)
        text(tree / "opt/hidden" / name)
    text(tree / "srv/file")
    (tree / "lib").symlink_to("usr")
    old = text(tree / "old")
    os.utime(old, ns=(0, 1_234_567_890_123_456_789))
    os.utime(tree / "dangling", (0, -7.0), follow_symlinks=False)
    (tree / "empty").touch()


def middle(tree: Path) -> None:
    (tree / "opt").mkdir()
    gone(tree / "opt/gone")
    (tree / "etc/conf.d").mkdir(parents=True)
    gone(tree / "etc/conf.d/one")
    text(opaque(tree / "opt/hidden") / "new")
    text(opaque(opaque(tree / "fresh") / "below") / "file")
    text(tree / "srv", "a file now\n")
    text(opaque(tree / "lib") / "a-folder-now")
    text(tree / "usr/bin/tool", "another\n", 0o700)
    tree.chmod(0o751)


def top(tree: Path) -> None:
    (tree / "opt").mkdir()
    text(opaque(tree / "opt/gone") / "three")
    text(tree / "usr/top")
    gone(tree / "empty")
    tree.chmod(0o755)


def made(folder: Path, **how: Any) -> Stack:
    return stack(folder, base, middle, top, **how)


def export(format: str, container: str = "raw", **fields: Any) -> Export:
    return Export(name=f"web.{format}", format=format, container=container, **fields)


OCI = export("oci", "gzip", config=OciConfig(user="33", cmd=("/bin/tool",), ports=("80/tcp",)))


def said(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, check=False)
    told = done.stdout.decode(errors="replace")
    assert done.returncode == 0, told + done.stderr.decode(errors="replace")
    return told


def unpacked(layout: Path, to: Path, name: str = "web") -> Path:
    """The root of an image, as umoci unpacks it."""
    said("umoci", "unpack", "--image", f"{layout}:{name}", to)
    return to / "rootfs"
