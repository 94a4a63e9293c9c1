"""A tree's own kernel and initrd, taken out of its tarballs; nothing else of these is unpacked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import BuildError
from .members import Member, members

FILE = re.compile(r"(?:usr/)?boot/(vmlinu[xz]|initrd\.img)-([^/]+)")
"""Where Debian's and Ubuntu's kernels lie (linux-image's postinst, update-initramfs(8))."""

LINKS = ("vmlinuz", "vmlinux", "boot/vmlinuz")
"""Which of several is the one to boot: as linux-update-symlinks(1) has it."""

LARGEST = 1 << 30
"""Bytes of either; more is no kernel, and would fill scratch."""

MOST = 16
"""Of both, in all trees."""


class Kernel(NamedTuple):
    """Files taken out of a tree, `initrd` None where it has none of that version."""

    version: str
    vmlinuz: Path
    initrd: Path | None


def kernel(tarballs: Sequence[Path], folder: Path) -> Kernel | None:
    """The kernel that a tree boots, of its tarballs from the base up; None where it has none.

    The one that the tree's own link names, else the newest. It and its initrd are in `folder`.
    """
    found: dict[str, Path] = {}
    links: dict[str, str] = {}
    for path in tarballs:
        for member in members(path):
            _note(member, found, links, folder)
    versions = {name.partition("-")[2] for name in found if name.startswith("vmlinu")}
    if not versions:
        return None
    named = [links[name].rpartition("/")[2].partition("-")[2] for name in LINKS if name in links]
    version = next((one for one in named if one in versions), None)
    version = version or max(versions, key=_order)
    vmlinuz = next(found[name] for name in (f"vmlinuz-{version}", f"vmlinux-{version}")
                   if name in found)  # fmt: skip
    return Kernel(version, vmlinuz, found.get(f"initrd.img-{version}"))


def _note(member: Member, found: dict[str, Path], links: dict[str, str], folder: Path) -> None:
    if member.path in ("boot", "usr/boot") and (member.gone or member.opaque):
        found.clear()
    if member.path in LINKS:
        links.pop(member.path, None)
        if member.info.issym():
            links[member.path] = member.info.linkname
    match = FILE.fullmatch(member.path)
    if match is None:
        return
    name = f"{match[1]}-{match[2]}"
    found.pop(name, None)
    if not member.info.isreg():
        return
    if member.info.size > LARGEST or len(found) >= MOST:
        raise BuildError(
            f"/{member.path}: too large, or one of too many, to be a kernel that is booted",
            "remove from the image what it does not boot",
        )
    target = folder / f"boot-{len(list(folder.iterdir()))}"
    source = member.opened()
    assert source is not None
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    found[name] = target


def _order(version: str) -> list[tuple[int, str]]:
    """By the numbers in it: 6.1.0-10 comes after 6.1.0-9."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", version)]
