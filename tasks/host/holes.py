"""Holes of files: which there are, as every filesystem of scratch shows them, and what is used.

A file has holes if a program left some (truncate, seek) and they are worth it; then each of its
blocks of zeros is one. What was written or allocated in full stays so, zeros or not: a swap file
may have no hole.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 4096

LEAST = 64 << 10
"""Bytes of holes below which a file gets none: so much the block counts of filesystems differ."""


CHUNK = 1 << 20

ZEROS = bytes(CHUNK)


# linux/falloc.h
KEEP_SIZE, PUNCH_HOLE = 1, 2


def sparse(info: os.stat_result) -> bool:
    """Whether a file has fewer blocks than bytes: what GNU tar asks before it looks for holes."""
    return info.st_blocks * 512 < info.st_size


def used(path: Path) -> int:
    """Bytes that a file takes on the disk; its size at the most."""
    info = path.lstat()
    return min(info.st_size, info.st_blocks * 512)


def data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each range of an open file that is no hole."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # none follows
                raise
            return
        at = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
        if begin < at:
            yield begin, at


def taken(path: str, info: os.stat_result) -> int:
    """Bytes in blocks of 4 KiB that a regular file's data takes on any filesystem with holes."""
    if not sparse(info):
        return _up(info.st_size)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        ranges = data(descriptor, info.st_size)
        return sum(_up(end) - begin // BLOCK * BLOCK for begin, end in ranges)
    finally:
        os.close(descriptor)


def settle(path: str, info: os.stat_result) -> bool:
    """Give a regular file the holes that it has on any filesystem; whether it has some then.

    Its times are the caller's to set again; capabilities and the mode, which writing takes from
    it (the kernel's file_remove_privs), are set again here.
    """
    if not sparse(info):
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        had = _attributes(descriptor)
        found = _settle(descriptor, info.st_size)
        if os.fstat(descriptor).st_mode != info.st_mode:
            os.fchmod(descriptor, stat.S_IMODE(info.st_mode))
        have = _attributes(descriptor)
        for name, value in had.items():
            if have.get(name) != value:
                os.setxattr(descriptor, name, value)
        return found
    finally:
        os.close(descriptor)


def _attributes(descriptor: int) -> dict[str, bytes]:
    return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}


def _settle(descriptor: int, size: int) -> bool:
    holes = list(_between(_full(descriptor, size), _up(size)))
    if sum(end - begin for begin, end in holes) < LEAST:
        for begin, end in holes:
            _fill(descriptor, begin, min(end, size))
        return False
    for begin, end in holes:
        _punch(descriptor, begin, end - begin)
    return True


def _full(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges, in whole blocks, of the blocks that are not all zeros, in order; they may touch.

    No list of them is ever made: a large file has many.
    """
    for first, last in data(descriptor, size):
        for at in range(first // BLOCK * BLOCK, last, CHUNK):
            chunk = os.pread(descriptor, min(CHUNK, _up(last) - at), at)
            if chunk == ZEROS[: len(chunk)]:
                continue
            for start in range(0, len(chunk), BLOCK):
                block = chunk[start : start + BLOCK]
                if block != ZEROS[: len(block)]:
                    yield at + start, at + start + BLOCK


def _between(full: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    at = 0
    for begin, end in full:
        if begin > at:
            yield at, begin
        at = max(at, end)
    if at < size:
        yield at, size


def _fill(descriptor: int, begin: int, end: int) -> None:
    while begin < end:
        begin += os.pwrite(descriptor, ZEROS[: end - begin], begin)


def _punch(descriptor: int, begin: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mode = KEEP_SIZE | PUNCH_HOLE
    if libc.fallocate(descriptor, mode, ctypes.c_int64(begin), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        if number != errno.EOPNOTSUPP:  # what is a hole already stays one
            raise OSError(number, os.strerror(number))


def _up(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
