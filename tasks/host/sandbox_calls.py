"""The C library's calls that all parts of the program in a sandbox use, and what it is doing."""

from __future__ import annotations

import ctypes
import os

# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8

MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18

MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


doing = ""
"""What is tried now, by its name in tasks/host/trials.py."""


def now(what: str) -> None:
    """Note what is tried from here on."""
    global doing
    doing = what


def check(result: int, what: str) -> None:
    """Raise OSError with libc's errno when a call that returns -1 on failure failed."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    check(result, f"mount {kind} on {target}")
