"""Files put into a disk's file: what they hold is copied, and blocks of zeros are left as holes.

    source ─ data ranges ─┬─ SHA-256, of holes' zeros too (a thread of its own)
                          └─ blocks that hold anything ─→ target, at its offset

Holes of the target are by what the source holds, so they are the same whatever wrote the source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from ..host import holes
from ..host.process import check_signal

BLOCK = holes.BLOCK

_ZEROS = holes.ZEROS


def filled(chunk: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of blocks of a chunk that hold anything but zeros."""
    if chunk == _ZEROS[: len(chunk)]:
        return
    nothing, begin = _ZEROS[:BLOCK], -1
    for at in range(0, len(chunk), BLOCK):
        block = chunk[at : at + BLOCK]
        if block == nothing[: len(block)]:
            if begin >= 0:
                yield begin, at
            begin = -1
        elif begin < 0:
            begin = at
    if begin >= 0:
        yield begin, len(chunk)


def put(source: int, size: int, target: int, offset: int) -> str:
    """Copy `size` bytes of an open file to an offset of another; the SHA-256 of what was read.

    The target must have zeros there. OSError of reading and writing; a source that ends too early
    is taken for one with zeros there, and its digest is another.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(1) as lane:
        for at, chunk in _chunks(source, size):
            check_signal()
            hashed = lane.submit(digest.update, chunk)
            if chunk is not _ZEROS:
                for begin, end in filled(chunk):
                    write(target, chunk[begin:end], offset + at + begin)
            hashed.result()
    return digest.hexdigest()


def write(target: int, content: bytes, offset: int) -> None:
    """Write all of it at an offset of an open file: pwrite(2) may write less."""
    view = memoryview(content)
    while view:
        done = os.pwrite(target, view, offset)
        view, offset = view[done:], offset + done


def _chunks(source: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of all of a file, in order; of a hole `_ZEROS` itself, or a part of it."""
    at = 0
    for begin, end in holes.data(source, size):
        begin = max(at, begin // BLOCK * BLOCK)
        yield from _zeros(at, begin)
        at = begin
        while at < end:
            chunk = os.pread(source, min(holes.CHUNK, end - at), at)
            if not chunk:  # it became shorter meanwhile
                break
            yield at, chunk
            at += len(chunk)
    yield from _zeros(at, size)


def _zeros(at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at < end:
        length = min(len(_ZEROS), end - at)
        yield at, _ZEROS if length == len(_ZEROS) else _ZEROS[:length]
        at += length
