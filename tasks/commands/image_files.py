"""An image file as it is, wherever it is from: its filesystem, and a tar of what is in that.

The host's kernel reads it, mounted read-only in a sandbox: so this needs root, as a build does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import BuildError, printable
from ..formats import compress
from ..formats.filesystem import Filesystem
from ..formats.table import FILESYSTEMS
from ..host import etc, safe
from ..host.files import remove
from ..host.log import Log
from ..host.process import capture, run
from ..host.sandbox import Sandbox, step
from ..host.tools import tool

BEGINNINGS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
"""What a file of each begins with: RFC 1952, RFC 8878, and the .xz file format 1.2."""


def container_of(path: Path) -> str:
    """How an image is packed, by what it begins with: a container of the spec's, or raw."""
    with open(safe.named(path), "rb") as file:
        head = file.read(6)
    return next((name for magic, name in BEGINNINGS.items() if head.startswith(magic)), "raw")


def filesystem_of(raw: Path, name: str) -> Filesystem:
    """The filesystem that is in a raw image; BuildError, which calls it `name`, for another."""
    found = {}
    for line in capture([tool("blkid"), "-p", "-o", "export", str(raw)])[1].splitlines():
        field, _, value = line.partition("=")
        found[field] = value
    if found.get("TYPE") in FILESYSTEMS:
        return FILESYSTEMS[found["TYPE"]]
    if "PTTYPE" in found:
        said, remedy = "it is a disk with partitions", "compare images of its filesystems"
    else:
        said = f"it holds {printable(found.get('TYPE', '')) or 'nothing that blkid knows'}"
        remedy = f"an image is one of {', '.join(FILESYSTEMS)}, plain or in gzip, zstd or xz"
    raise BuildError(f"{name}: {said}", remedy)


def unpack(source: Path, target: Path, container: str, log: Log) -> None:
    """Write the raw filesystem of an image that the user names; BuildError if it is damaged."""
    log.step(f"decompressing {source.name}")
    with open(safe.named(source), "rb") as packed:
        compress.decompress(packed, source.name, target, container)


@contextlib.contextmanager
def tar_of(raw: Path, kind: Filesystem, scratch: Path, log: Log) -> Iterator[Path]:
    """A sorted tar of the files in a raw image, beside it for as long as the block is run."""
    target = raw.with_suffix(".tar")
    folder = scratch / "files"
    folder.mkdir()
    tar = ["tar", "--create", "--file", str(target), "--sort=name", "--numeric-owner",
           "--format=posix", "--pax-option=delete=atime,delete=ctime",
           "--xattrs", "--xattrs-include=*", "--directory", str(folder), "."]  # fmt: skip
    try:
        try:
            if not kind.mounted_as:
                read = ["mcopy", "-s", "-m", "-n", "-i", str(raw), "::", str(folder)]
                private = etc.make(scratch / f"{raw.stem}.etc")
                run(etc.argv(private, read), log=log)
                run(tar, log=log)
            else:
                Sandbox(
                    base=scratch,
                    mounts=[[f"loop:{kind.mounted_as}", str(raw), "files", kind.read_options]],
                ).run(step(*tar), log=log, what=f"reading {raw.name}")
        finally:
            remove(folder)
        yield target
    finally:
        target.unlink(missing_ok=True)
