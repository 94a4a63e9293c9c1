"""Rot: bytes that change on the disk, found by `doit verify` and by the build that uses them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Build, World

pytestmark = pytest.mark.root


def own(path: Path) -> bytes:
    """Give a file of the cache an inode of its own, which the caches of other tests share."""
    content = path.read_bytes()
    if path.stat().st_nlink > 1:
        info = path.stat()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return content


def flip(path: Path, where: float) -> None:
    """Flip a bit at a part of the file, in its place; size, mtime and inode stay."""
    content = own(path)
    info = path.stat()
    at = min(int(len(content) * where), len(content) - 1)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 0x10]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def cut(path: Path, size: int) -> None:
    own(path)
    os.truncate(path, min(size, path.stat().st_size - 1))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


HARMS: dict[str, Callable[[Path], None]] = {
    "first byte": lambda path: flip(path, 0),
    "middle": lambda path: flip(path, 0.5),
    "last byte": lambda path: flip(path, 1),
    "truncated": lambda path: cut(path, path.stat().st_size // 2),
    "emptied": lambda path: cut(path, 0),
    "folder": folder,
    "dangling link": lambda path: link(path, "/nonexistent"),
    "link to another file": lambda path: link(path, "/etc/passwd"),
    "link to itself": lambda path: link(path, path.name),
}


def kinds(world: World) -> dict[str, Path]:
    """One file of each kind that the cache has; all of the kinds are there."""
    cache = world.root / "cache"
    stages = {stage["name"]: f"{stage['stage']}-{stage['key']}" for stage in world.json()["stages"]}
    beta = next(record["sha256"] for record in locked(world) if record["package"] == "beta")
    found = {
        "base": cache / f"layers/{stages['base']}.tar.zst",
        "layer": cache / f"layers/{stages['app']}.tar.zst",
        "image": cache / f"images/{stages['/']}.img.gz",
        "record of base": cache / f"layers/{stages['base']}.json",
        "record of layer": cache / f"layers/{stages['app']}.json",
        "record of image": cache / f"images/{stages['/']}.json",
        ".deb": cache / f"debs/{beta}.deb",
    }
    for name, pattern in (("Release", "*Release"), ("Packages", "*Packages"), ("seal", ".sha256")):
        found[name] = next(path for folder in cache.glob("index/snapshot-*")
                           for path in folder.glob(pattern))  # fmt: skip
    assert [path for path in found.values() if not path.is_file()] == []
    return found


def locked(world: World) -> Iterator[dict[str, str]]:
    document = json.loads((world.root / "specs/web.lock").read_text())
    for layer in document["layers"]:
        yield from layer["records"]


def use_all(world: World) -> None:
    """Have the next build read every kind of file: it must resolve, unpack, install and copy."""
    for name in ("specs/web.lock", "out/web/web.img.gz"):
        (world.root / name).unlink(missing_ok=True)


@pytest.mark.parametrize("harm", HARMS)
def test_verify_names_and_drops_each_kind_of_file(built: World, harm: str) -> None:
    """One harmed file of each kind at once: each is named, nothing else; then there is none."""
    before = built.outputs()
    entries = {path.with_name(path.name.partition(".")[0]) if path.parent.name in
               ("layers", "images") else path for path in kinds(built).values()}  # fmt: skip
    victims = kinds(built)
    # A record and its file are one entry; of a snapshot the first broken file is named.
    chosen = [victims[name] for name in ("base", "record of layer", "image", ".deb", "Packages")]
    chosen.append(built.root / "out/web/web-boot.img.gz")
    for path in chosen:
        HARMS[harm](path)
    build = built.doit("verify", check=False)
    assert build.code == 1, build.text
    assert "Traceback" not in build.text
    named = [line.split(": ")[0] for line in build.out.splitlines() if ": " in line]
    listed = [os.path.relpath(path, built.root).replace(".tar.zst", ".json").replace(
        ".img.gz", ".json") if path.parent.name != "web" else os.path.relpath(path, built.root)
        for path in chosen]  # fmt: skip
    if harm in ("folder", "dangling link", "link to itself"):
        listed.pop()  # out/ is asked of the build, which publishes what is missing there
    assert sorted(named) == sorted(listed), build.text
    assert f", {len(listed)} bad" in build.out
    assert not any(os.path.lexists(path) for path in chosen if path.parent.name != "web")
    assert entries
    assert ", 0 bad" in built.doit("verify").out
    if harm == "folder":
        shutil.rmtree(chosen[-1])
    results = built.build()
    assert results["base"] in ("built", "skipped")
    assert built.outputs() == before
