"""Trees as tarballs: packed in bytes that depend on the tree alone, and unpacked."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shlex
import tempfile
import threading
from pathlib import Path

from ..errors import DamagedEntry
from ..formats import pax
from ..host import toolroot
from ..host.log import Log, last_lines
from ..host.process import PIPE, popen, run, running
from ..host.sandbox import Sandbox, step
from .clean import OVERLAY_OWN, Rare

SPARSE = ("--sparse", "--hole-detection=seek", "--sparse-version=0.0")
"""For GNU tar; of its three formats 0.0 alone has no process number in its names."""


CHECKPOINT = "strata-packed-"
RECORD = 10240
"""Bytes of a record of tar's, which a checkpoint counts."""


RARE = Rare()
"""Of a tree of which nothing is known."""


def pack(tree: Path, target: Path, log: Log, *, rare: Rare = RARE, size: int = 0) -> None:
    """Write a tree as a zstd-compressed tar whose bytes depend on the tree alone.

    Each filesystem lists extended attributes in an order of its own, and GNU tar keeps it. Where
    something has several, what tar writes is put in order on its way. `size` is what is told of it.
    """
    if size:
        log.step(f"packing {size / 1e6:.0f} MB")
    # Never one: newer versions then leave the multi-threaded mode, and with it its bytes.
    compressor = ["zstd", "-3", f"-T{max(2, len(os.sched_getaffinity(0)))}"]
    tar = _argv(tree, rare)
    what = "packing the tree"
    if not rare.several_xattrs:
        # On its way tar says how many records it has written.
        far = ["--checkpoint=200", f"--checkpoint-action=echo={CHECKPOINT}%u"] if size else []
        packed = ["--file", str(target), "--use-compress-program", " ".join(compressor)]
        run(
            [*tar, *far, *packed, "."],
            log=log,
            what=what,
            typed="",
            telling=functools.partial(_packed, log, size),
        )
        return
    argv = [*tar, "--file", "-", "."]
    log.plumbing("+ " + shlex.join(argv) + " | " + shlex.join(compressor))
    with (
        target.open("wb") as file,
        tempfile.TemporaryFile() as said,
        running(popen(argv, stdout=PIPE, stderr=said)) as reader,
        running(popen(compressor, stdin=PIPE, stdout=file, stderr=said)) as writer,
    ):
        assert reader.stdout is not None
        assert writer.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pax.sort_xattrs(reader.stdout, writer.stdin)
            writer.stdin.close()
        reader.stdout.close()
        # Both: where they write in that file is where it is read.
        ended = (writer.wait(), reader.wait())
        status = ended[0] or ended[1]
        said.seek(0)
        for line in said.read().decode("utf-8", "replace").splitlines():
            log.line(line)
        if status:
            raise log.failure(what, f"failed (exit status {status}):\n{last_lines(log.tail)}")


def _argv(tree: Path, rare: Rare) -> list[str]:
    """The tar whose output depends on the tree alone."""
    return [
        "tar",
        "--create",
        "--directory",
        str(tree),
        "--sort=name",
        "--numeric-owner",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--xattrs",
        "--xattrs-include=*",
        *(f"--xattrs-exclude={name}" for name in OVERLAY_OWN),
        *(SPARSE if rare.sparse else ()),
    ]


def _packed(log: Log, size: int, line: str) -> bool:
    """Whether a line of tar's is one of our checkpoints: how far it is, of about `size` bytes."""
    records = line.rpartition(CHECKPOINT)[2]
    if CHECKPOINT not in line or not records.isdecimal() or len(records) > 12:
        return False
    log.count(min(99, 100 * int(records) * RECORD // size), 100, "percent")
    return True


_one = threading.Lock()
"""Several are unpacked at once, in the same root."""

UNPACKS = ("chown", "dac_override", "fowner", "fsetid", "mknod", "setfcap", "sys_admin")
"""What tar needs to make any tree; the last for trusted.overlay.*, by which folders are opaque."""


def unpack(source: Path, sha256: str, target: Path, log: Log) -> None:
    """Extract a layer tarball, checking its SHA-256 on the way: DamagedEntry when it is another.

    It may have been made anywhere, so tar sees the folder that it fills, the host's programs and
    nothing else: whatever names and links are in it, they lead nowhere. `target`'s folder gets a
    root for tar, once.
    """
    root = target.parent / "tool-root"
    with _one:
        if not root.exists():
            toolroot.skeleton(root)
    target.mkdir()
    log.plumbing(f"# unpacking {source.name}")
    sandbox = Sandbox(
        base=target.parent,
        mounts=[["bind-ro", root.name, root.name, ""]],
        root=root.name,
        binds=list(toolroot.programs()),
        writable=[(str(target), "/target")],
        keep=UNPACKS,
    )
    tar = step("tar", "--extract", "--file", "-", "--directory", "/target", "--zstd",
               "--numeric-owner", "--same-permissions", "--xattrs", "--xattrs-include=*",
               "--delay-directory-restore")  # fmt: skip
    digest = hashlib.sha256()
    # A file for what tar says: nobody reads a pipe while the archive is being written to another.
    with tempfile.TemporaryFile() as output, source.open("rb") as file:
        with sandbox.fed(tar, output) as process:
            assert process.stdin is not None
            listening = True
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                # When tar gives up, the digest of the rest tells a damaged file from a full disk.
                if listening:
                    try:
                        process.stdin.write(chunk)
                    except BrokenPipeError:
                        listening = False
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        output.seek(0)
        message = output.read().decode("utf-8", "replace").strip()
    if digest.hexdigest() != sha256:
        raise DamagedEntry(f"{source}: its SHA-256 is not its record's", "run the command again")
    if status:
        raise log.failure(f"unpacking {source.name}", f"failed: {message[-500:]}")
