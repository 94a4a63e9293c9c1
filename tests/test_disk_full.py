"""Full disks: each stage meets one in turn, says which it is, and harms nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conftest import World
from repository import make_deb

pytestmark = pytest.mark.root

KIB, MIB = 1 << 10, 1 << 20


@contextlib.contextmanager
def small(folder: Path, size: int, *, inodes: int = 0) -> Iterator[Path]:
    """A tmpfs of so many bytes at a folder; its end fails if anything still uses it."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=755" + (f",nr_inodes={inodes}" if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: int, image: Path) -> Iterator[Path]:
    """The same as an ext4 on a loop device, whose blocks run out at other moments."""
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        image.unlink()


def resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def fill(folder: Path, left: int = 0) -> Path:
    """Take all room but so many bytes with a file."""
    path = folder / "filler"
    info = os.statvfs(folder)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(info.f_bavail * info.f_frsize - left, 1))
    return path


def forget(world: World, *folders: str) -> None:
    for name in folders:
        shutil.rmtree(world.root / name, ignore_errors=True)


@pytest.fixture
def bulky(tiny: World) -> World:
    """The spec `tiny` with 4 MiB that no compressor makes smaller, and what a build gives."""
    # Random, but the same each time.
    data = subprocess.run(["openssl", "enc", "-aes-128-ctr", "-pass", "pass:x", "-nosalt", "-pbkdf2"],
                          input=bytes(4 * MIB), capture_output=True, check=True).stdout  # fmt: skip
    tiny.repository.add(make_deb(tiny.debs, "beta", "2", files={"/usr/data": data}))
    tiny.repository.publish()
    return tiny


@pytest.fixture
def reference(bulky: World) -> dict[str, str]:
    """What the spec's images are with room; the cache keeps the .debs alone."""
    bulky.doit("build", "spec=web")
    found = bulky.outputs()
    forget(bulky, "cache/layers", "cache/images", "out")
    return found


def test_sweep(bulky: World, tmp_path: Path, reference: dict[str, str]) -> None:
    bulky.doit("build", "spec=web")
    for disk in ("ext4", "tmpfs"):
        for pack in ("loop", "direct"):
            bulky.write(
                "web.yaml",
                (bulky.root / "specs/web.yaml")
                .read_text()
                .replace("ext2}", f"ext2, pack: {pack}}}"),
            )
            for step in range(16, 80, 2):
                size = step * 256 * KIB
                with (
                    small(tmp_path / "scratch", size)
                    if disk == "tmpfs"
                    else small_disk(tmp_path / "scratch", size + 2 * MIB, tmp_path / "x") as scratch
                ):
                    build = bulky.doit(
                        "build", "spec=web", "lock=keep", check=False, STRATA_SCRATCH=str(scratch)
                    )
                    print(
                        f"== {disk} {pack} {size / MIB:.2f} MiB: {build.code} left {bulky.leftovers()} {os.listdir(scratch)}"
                    )
                    print(build.text[-300:])
                    forget(bulky, "cache/images")
                    if build.code == 0:
                        print(bulky.outputs() == reference)
                        break
    assert 0
