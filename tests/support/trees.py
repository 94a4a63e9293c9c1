"""What is in a layer or an image, and builds of one spec as root."""

from __future__ import annotations

import lzma
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.world import World


def tree_of(world: World, tmp_path: Path, spec: str = "web") -> Any:
    """The image of `/`, mounted: as it was published if that is a raw one."""
    point = tmp_path / "tree"
    if point.exists():
        point.rmdir()
    published = world.root / f"out/{spec}/{spec}.img"
    if published.exists():
        return mounted(published, point)
    raw = tmp_path / "tree.img"
    raw.unlink(missing_ok=True)
    decompress(published.with_name(f"{spec}.img.gz"), raw)
    return mounted(raw, point)


def only_root(world: World) -> None:
    """Let the spec have one image, so that the whole tree is in it, and a raw one.

    To compress it, and to take it apart again, is half of what a change of a layer takes.
    """
    world.edit("""\
  /: {file: web.img.gz, format: ext4}
  /boot: {file: web-boot.img.gz, format: ext2}
""", "  /: {file: web.img, format: ext4, container: raw}\n")  # fmt: skip


@contextmanager
def mounted(image: Path, point: Path) -> Iterator[Path]:
    """An image file mounted read-only."""
    point.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def decompress(path: Path, to: Path) -> None:
    """Decompress by the libraries that users have; gzip with one object, as provisioners do."""
    if path.suffix == ".gz":
        one = zlib.decompressobj(31)
        to.write_bytes(one.decompress(path.read_bytes()) + one.flush())
        assert one.eof
        assert one.unused_data == b""
    elif path.suffix == ".xz":
        to.write_bytes(lzma.decompress(path.read_bytes()))
    elif path.suffix == ".zst":
        subprocess.run(["zstd", "-q", "-d", path, "-o", to], check=True)
    else:
        to.write_bytes(path.read_bytes())
