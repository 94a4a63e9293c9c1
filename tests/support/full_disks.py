"""Small filesystems that run full, and what a build that meets one must say and leave."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.tally import TALLY
from support.world import Build, World

KIB, MIB = 1 << 10, 1 << 20


@contextlib.contextmanager
def small(folder: Path, size: int, *, inodes: int = 0) -> Iterator[Path]:
    """A tmpfs of so many bytes over a folder, with a copy of what is in it.

    Its end fails if anything still uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=755" + (f",nr_inodes={inodes}" if inodes else "")
    with _over(folder, ["mount", "-t", "tmpfs", "-o", options, "small"]):
        yield folder


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """The same as an ext4 on a loop device, which runs out of room at other moments."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_name(f"{folder.name}.disk")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image], check=True)
    with _over(folder, ["mount", "-o", "loop", image]):
        yield folder
    image.unlink()


@contextlib.contextmanager
def _over(folder: Path, mount: list[str | Path]) -> Iterator[None]:
    was = folder.with_name(f"{folder.name}.was")
    subprocess.run(["cp", "-a", folder, was], check=True)
    subprocess.run([*mount, folder], check=True)
    try:
        for path in was.iterdir():
            subprocess.run(["cp", "-a", path, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        shutil.rmtree(was)


def grow(folder: Path, size: int = 256 * MIB, inodes: int = 100_000) -> None:
    """Give a tmpfs other room, in bytes and in inodes."""
    options = f"remount,size={size},nr_inodes={inodes}"
    subprocess.run(["mount", "-o", options, folder], check=True)


def free(folder: Path) -> int:
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


@contextlib.contextmanager
def filled(folder: Path, left: int = 0) -> Iterator[None]:
    """A filesystem with no more than so many bytes of room."""
    path = folder / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free(folder) - left, 1))
    yield
    path.unlink()


def random_bytes(size: int) -> bytes:
    """What no compressor makes smaller, the same each time."""
    argv = ["openssl", "enc", "-aes-128-ctr", "-pass", "pass:x", "-nosalt", "-pbkdf2"]
    return subprocess.run(argv, input=bytes(size), capture_output=True, check=True).stdout


def forget(world: World, *folders: str) -> None:
    for name in folders:
        shutil.rmtree(world.root / name, ignore_errors=True)


def told(text: str, mount: Path, *places: str) -> None:
    """The message names the filesystem, what of ours is on it, and what is free."""
    on_it = ", ".join(rf"{place} \S+?" for place in places)
    where = rf"the filesystem mounted at {re.escape(str(mount))} \({on_it}\) "
    assert re.search(
        where + r"(has [\d.]+ MiB free|has (no|\d+) inodes left|ran full: [\d.]+ MiB are free now, "
        r"[\d.]+ MiB were when it began, and more are needed|ran full: [\d.]+ MiB are free now)",
        text,
    ), text
    # Nothing else is said to be full.
    assert text.count("the filesystem mounted at") == 1, text


KEEP = "lock=keep"


def fails(world: World, mount: Path, place: str, *parts: str, words: Sequence[str] = ()) -> str:
    """A build meets a full disk: what it says; nothing is changed, left or blamed wrongly."""
    text = world.refused(*parts, words=words)
    TALLY["full disks"] += 1
    told(text, mount, place)
    return text


def attempt(
    world: World, mount: Path, places: Sequence[str], reference: dict[str, str], **env: str
) -> Build:
    """A build that meets a full disk, or makes the right bytes."""
    before = world.kept()
    build = world.doit("build", "spec=web", check=False, **env)
    TALLY["full disks"] += 1
    assert "Traceback" not in build.text
    assert world.leftovers() == []
    if build.code == 0:
        assert world.outputs() == reference
    else:
        assert build.err.count("ERROR: ") == 1, build.text
        told(build.text, mount, *places)
        assert world.kept() == before
    return build


def recovers(world: World, reference: dict[str, str], *words: str) -> None:
    """The next build with room makes the same bytes."""
    world.doit("build", "spec=web", *words)
    assert world.outputs() == reference
    assert world.leftovers() == []
