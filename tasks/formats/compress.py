"""Compress a raw image and take all its digests in one read.

    source ─ blocks ─┬─ MD5, SHA-256                       → Packed.raw
                     └─ gzip | zstd | xz | raw ─┬─ target
                                                └─ MD5, SHA-256 → Packed.container

Every digest has its thread and so has every block being deflated; hashlib, isal and zlib_ng let go
of the interpreter lock. What is written depends on the source and the level only, never on
the number of threads or on timing. At most a few tens of blocks are in memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib
from zlib_ng import zlib_ng

from ..errors import BuildError
from ..host import safe
from ..host.process import PIPE, check_signal, popen, running

CONTAINERS = ("gzip", "zstd", "xz", "raw")

DECOMPRESS = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"], "xz": ["xz", "-dc"]}

LEVELS = ("fast", "default", "best")

BLOCK = 1 << 20  # bytes; part of the gzip format written here, another value is other output

WINDOW = 32 << 10  # bytes deflate can look back

HOLE = 64 << 10  # bytes of zeros that are worth a hole

AHEAD = 8  # blocks a reader may be ahead of the digests

MOST_THREADS = 16  # unless asked for more: MD5 cannot keep up, and xz takes 225 MB for each

ZEROS = bytes(BLOCK)


# Mtime 0, no name, unknown system; the method of compression is the 8.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


# ISA-L is four times as fast as zlib-ng's level 3, and writes 7 % more. Its level 3 writes other
# bytes on other CPUs; 0 to 2 do not, nor does zlib-ng.
GZIP_LEVELS = {"fast": (isal_zlib, 1), "default": (isal_zlib, 2), "best": (zlib_ng, 9)}

# ISA-L that is given no window before a block wrote other bytes about once in 60,000 blocks, on a
# loaded machine: what it looks matches up in is not cleared then. So no block is its without one.
FIRST = {"fast": (zlib_ng, 1), "default": (zlib_ng, 2), "best": (zlib_ng, 9)}

ZSTD_LEVELS = {"fast": 1, "default": 3, "best": 19}


# A plain -9 has a 64 MiB dictionary, which takes 700 MB a thread.
XZ_PRESETS = {"fast": "preset=0", "default": "preset=6", "best": "preset=9,dict=16MiB"}


Write = Callable[[bytes], None]


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What identifies one file: two digests in hexadecimal and its size in bytes."""

    md5: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The image as it was read and the file it was written to."""

    raw: Digests
    container: Digests


def compress(
    source: Path,
    target: Path,
    *,
    container: str,
    level: str = "default",
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Write the image `source` to the file `target`, compressed, reading it once.

    `container` is one of CONTAINERS and `level` one of LEVELS (without effect on "raw", a copy
    that keeps holes). `threads` compress, by default one for each CPU; they do not change the
    output. `progress` gets the number of bytes of `source` read so far, after every block.

    On any exception all threads and processes are gone, and what `target` holds is the caller's
    to remove. Raises OSErrors of reading and writing (a full disk), BuildError if a command fails,
    ValueError for an unknown container or level.
    """
    if container not in CONTAINERS or level not in LEVELS:
        raise ValueError(f"{container!r}, {level!r}: not one of {CONTAINERS} and {LEVELS}")
    if threads is None:
        threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    with (
        open(safe.reading(source), "rb") as image,
        target.open("wb", buffering=BLOCK) as out,
        Digester() as raw,
        Digester() as packed,
    ):

        def emit(data: bytes) -> None:
            out.write(data)
            packed.update(data)

        writer: AbstractContextManager[Write]
        if container == "gzip":
            writer = gzip_member(emit, level, threads)
        elif container == "raw":
            writer = sparse_copy(out)
        else:
            writer = piped(emit, compressor_argv(container, level, threads))
        done = 0
        with writer as write:
            for block in blocks(image):
                check_signal()
                raw.update(block)
                write(block)
                done += len(block)
                if progress:
                    progress(done)
        of_raw = raw.digests()
        of_container = of_raw if container == "raw" else packed.digests()
    return Packed(raw=of_raw, container=of_container)


def digests(path: Path) -> Digests:
    """Return the digests of one file, from one read of it. Raises OSError."""
    with path.open("rb") as file, Digester() as digester:
        for block in blocks(file):
            digester.update(block)
        return digester.digests()


def compressor_argv(container: str, level: str, threads: int) -> list[str]:
    """Return the command that compresses its input to its output as "zstd" or "xz".

    Never fewer than two threads: with one, both write another format than with several (an xz
    block without its sizes; zstd, from some versions on, one without jobs).
    """
    workers = f"-T{max(2, threads)}"
    if container == "zstd":
        return ["zstd", "-q", "-c", workers, f"-{ZSTD_LEVELS[level]}", "--check"]
    lzma2 = f"--lzma2={XZ_PRESETS[level]}"
    return ["xz", "-q", "-c", workers, lzma2, "--block-size=24MiB", "--check=crc64"]


class Digester(AbstractContextManager["Digester"]):
    """MD5 and SHA-256 of a stream, each in a thread of its own; `with` ends the threads."""

    def __init__(self) -> None:
        """Begin an empty stream."""
        self._hashes = (hashlib.md5(usedforsecurity=False), hashlib.sha256())
        self._lanes = tuple(ThreadPoolExecutor(1) for _ in self._hashes)
        self._waiting: deque[Future[None]] = deque()
        self._size = 0

    def __exit__(self, *_: object) -> None:
        """End the threads; what they have not begun is dropped."""
        for lane in self._lanes:
            lane.shutdown(cancel_futures=True)

    def update(self, data: bytes) -> None:
        """Take the next bytes of the stream; wait if the digests are far behind."""
        self._size += len(data)
        for lane, digest in zip(self._lanes, self._hashes, strict=True):
            self._waiting.append(lane.submit(digest.update, data))
        while len(self._waiting) > AHEAD * len(self._lanes):
            self._waiting.popleft().result()

    def digests(self) -> Digests:
        """Return the digests of all that was taken."""
        while self._waiting:
            self._waiting.popleft().result()
        md5, sha256 = (digest.hexdigest() for digest in self._hashes)
        return Digests(md5=md5, sha256=sha256, size=self._size)


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield `file` in BLOCKs, the last one shorter; a whole one of zeros is ZEROS itself."""
    while block := file.read(BLOCK):
        yield ZEROS if block == ZEROS else block


@contextmanager
def gzip_member(emit: Write, level: str, threads: int) -> Iterator[Write]:
    """Take blocks and emit them as one gzip member (RFC 1952).

    Each block is deflated by itself, with the window before it as its dictionary, up to a sync
    flush, so the bytes do not depend on `threads`. One member, because provisioners stop after
    the first.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[int, Future[tuple[bytes, int]]]] = deque()
    zeros: Future[tuple[bytes, int]] | None = None
    before = b""
    crc = size = 0

    def emit_oldest() -> None:
        nonlocal crc, size
        length, deflated = waiting.popleft()
        data, block_crc = deflated.result()
        emit(data)
        crc = zlib_ng.crc32_combine(crc, block_crc, length)
        size += length

    def write(block: bytes) -> None:
        nonlocal before, zeros
        if block is ZEROS and before == ZEROS[:WINDOW]:  # most of an image: deflated once
            deflated = zeros = zeros or pool.submit(deflate, block, before, level)
        else:
            deflated = pool.submit(deflate, block, before, level)
        waiting.append((len(block), deflated))
        before = block[-WINDOW:]
        if len(waiting) > threads + 4:
            emit_oldest()

    try:
        emit(GZIP_HEADER)
        yield write
        while waiting:
            emit_oldest()
        emit(zlib_ng.compress(b"", wbits=-15))  # an empty last block
        emit(crc.to_bytes(4, "little") + (size % (1 << 32)).to_bytes(4, "little"))
    finally:
        pool.shutdown(cancel_futures=True)


def deflate(block: bytes, before: bytes, level: str) -> tuple[bytes, int]:
    """Return `block` as raw deflate that continues after `before`, and its CRC-32."""
    library, number = (GZIP_LEVELS if before else FIRST)[level]
    stream = library.compressobj(number, library.DEFLATED, -15, zdict=before)
    return stream.compress(block) + stream.flush(library.Z_SYNC_FLUSH), zlib_ng.crc32(block)


@contextmanager
def sparse_copy(out: BinaryIO) -> Iterator[Write]:
    """Take blocks and write them to `out`, with a hole for every HOLE of zeros."""
    nothing = ZEROS[:HOLE]

    def write(block: bytes) -> None:
        view = memoryview(block)
        for at in range(0, len(block), HOLE):
            if block.startswith(nothing, at):
                out.seek(HOLE, os.SEEK_CUR)
            else:
                out.write(view[at : at + HOLE])

    yield write
    out.truncate()


def decompress(packed: BinaryIO, name: str, target: Path, container: str) -> None:
    """Write the image that a file has, compressed or not, to `target`, zeros as holes.

    BuildError, which calls it `name`, where it is damaged.
    """
    with (
        target.open("wb", buffering=BLOCK) as file,
        sparse_copy(file) as write,
    ):
        if container == "raw":
            for block in blocks(packed):
                write(block)
            return
        with (
            tempfile.TemporaryFile() as said,
            running(
                popen(DECOMPRESS[container], stdin=packed, stdout=PIPE, stderr=said)
            ) as process,
        ):
            assert process.stdout is not None
            while block := process.stdout.read(BLOCK):
                write(block)
            status = process.wait()
            said.seek(0)
            message = said.read().decode("utf-8", "replace").strip()
    if status:
        raise BuildError(f"{name}: {container} cannot read it: {message[-300:]}")


@contextmanager
def piped(emit: Write, argv: list[str]) -> Iterator[Write]:
    """Take blocks for the input of a command and emit, in a thread, what it puts out.

    Raises BuildError if the command fails or does not read all, and what `emit` raises.
    """
    pipe = PIPE
    # The process goes first, which ends the thread.
    with (
        ThreadPoolExecutor(1) as lane,
        running(popen(argv, stdin=pipe, stdout=pipe)) as process,
    ):
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def drain() -> None:
            with stdout:  # closed when emit fails, or the command would block on a full pipe
                while data := stdout.read(BLOCK):
                    emit(data)

        def finish() -> None:
            with suppress(BrokenPipeError):
                stdin.close()
            drained.result()
            if status := process.wait():
                command = " ".join(argv)
                raise BuildError(f"{command}: exit status {status}", "its message is above")

        def write(block: bytes) -> None:
            try:
                stdin.write(block)
            except BrokenPipeError:
                finish()  # raises the reason, if there is one
                raise BuildError(f"{argv[0]} did not read all of its input") from None

        drained = lane.submit(drain)
        yield write
        finish()
