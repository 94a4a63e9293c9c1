"""Rot: bytes that change on the disk, found by `doit verify` and by the build that uses them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.disk_worlds import BOOTED, disk_world
from support.tally import TALLY
from support.traces import distrusted, leftovers
from support.world import World, says
from tasks.host.files import remove

pytestmark = pytest.mark.root


def flip(path: Path, where: float) -> None:
    """Flip a bit at a part of the file, in its place; size, mtime and inode stay."""
    content, info = path.read_bytes(), path.stat()
    if content:
        at = min(int(len(content) * where), len(content) - 1)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 0x10]))
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


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
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "folder": folder,
    "dangling link": lambda path: link(path, "/nonexistent"),
    "link to another file": lambda path: link(path, "/etc/passwd"),
    "link to itself": lambda path: link(path, path.name),
}


def stages(world: World) -> dict[str, str]:
    """Each stage's entry, by the stage's name."""
    return {stage["name"]: f"{stage['stage']}-{stage['key']}" for stage in world.json()["stages"]}


def kinds(world: World) -> dict[str, Path]:
    """One file of each kind that a build reads from the cache or from what it remembers."""
    cache, state, entry = world.root / "cache", world.root / ".doit", stages(world)
    base = json.loads((world.root / "specs/web.lock").read_text())["base"]
    snapshot = next(cache.glob("index/snapshot-*"))
    live = next(cache.glob("index/live-*"))
    found = {
        "base": cache / f"layers/{entry['base']}.tar.zst",
        "layer": cache / f"layers/{entry['app']}.tar.zst",
        "image": cache / f"images/{entry['/']}.img.gz",
        "record of base": cache / f"layers/{entry['base']}.json",
        "record of layer": cache / f"layers/{entry['app']}.json",
        "record of image": cache / f"images/{entry['/']}.json",
        ".deb": cache / f"debs/{base[0]['sha256']}.deb",
        "snapshot's Release": next(snapshot.glob("*Release")),
        "snapshot's Packages": next(snapshot.glob("*Packages")),
        "snapshot's digests": snapshot / ".sha256",
        "apt's Release": next(live.glob("*Release")),
        "apt's Packages": next(live.glob("*Packages")),
        "seen.json": state / "seen.json",
        "tools.json": state / "tools.json",
        "doit's state": state / "web.sqlite3",
        "published image": world.root / "out/web/web.img.gz",
        "published metadata": world.root / "out/web/web.yaml",
        "published digests": world.root / "out/web/SHA256SUMS",
        "build.json": world.root / "out/web/build.json",
    }
    assert [path for path in found.values() if not path.is_file()] == []
    return found


def right(world: World, before: dict[str, str]) -> None:
    """All is whole again, and what was published is what it was."""
    assert world.outputs() == before
    assert ", 0 bad" in world.doit("verify").out
    assert distrusted(world) == []
    assert leftovers(world) == []


VERIFIED = ("base", "record of layer", "image", ".deb", "snapshot's Packages")
"""Of each entry one file: `verify` names entries by their records."""


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


def test_verify_names_and_drops_what_rotted(small_built: World) -> None:
    """Each kind of file, harmed in each way: it and nothing else is named, and is gone."""
    before = small_built.outputs()
    kept = small_built.root.parent / "kept"
    subprocess.run(["cp", "-a", f"{small_built.root}/cache", kept], check=True)
    for number, (harm, do) in enumerate(HARMS.items()):
        if number:
            shutil.rmtree(small_built.root / "cache")
            subprocess.run(["cp", "-a", kept, f"{small_built.root}/cache"], check=True)
        found = kinds(small_built)
        victims = [found[name] for name in VERIFIED]
        for victim in victims:
            do(victim)
        TALLY["rot"] += len(victims)
        build = small_built.doit("verify", check=False)
        assert build.code == 1, (harm, build.text)
        assert "Traceback" not in build.text, (harm, build.text)
        named = {line.split(": ")[0] for line in build.out.splitlines() if "; dropped" in line}
        expected = {os.path.relpath(path, small_built.root) for path in victims}
        assert named == {re.sub(r"\.(tar\.zst|img\.gz)$", ".json", name) for name in expected}, harm
        assert f", {len(victims)} bad" in build.out
        assert [path for path in victims if os.path.lexists(path)] == [], harm
        assert list((small_built.root / "cache/index").glob("live-*")) == [], harm
        assert ", 0 bad" in small_built.doit("verify").out, harm
    assert small_built.build()["base"] == "built"
    right(small_built, before)


ROUNDS = (
    ("layer", "record of base", "record of image", "snapshot's Packages", "seen.json"),
    ("base", "record of layer", ".deb", "image", "snapshot's digests", "apt's Release",
     "apt's Packages", "tools.json", "doit's state", "published image", "published metadata",
     "published digests", "build.json"),
)  # fmt: skip
"""What rots at once."""


def test_a_build_finds_what_rotted_and_makes_it_again(small_built: World) -> None:
    """It resolves, bootstraps, unpacks, packs and publishes: one build uses all that rotted."""
    before = small_built.outputs()
    lock = (small_built.root / "specs/web.lock").read_text()
    # What is left out is the same file as apt's.
    assert {name for names in ROUNDS for name in names} == set(kinds(small_built)) - {
        "snapshot's Release"
    }
    seen: set[str] = set()
    # `verify` above tells these from the rest; a build takes too long for each
    harms = [harm for harm in HARMS if harm not in ("dangling link", "link to another file")]
    # Each harm, and each file, in every run; each file in each way at night.
    for number in range(len(harms) if NIGHTLY else 1):
        for names in ROUNDS:
            found = kinds(small_built)
            whole = {name: found[name].read_bytes() for name in ("base", "layer", "image", ".deb")}
            done = {}
            for place, name in enumerate(names):
                harm = harms[(number * 3 + place) % len(harms)]
                # A folder in out/ is somebody's: see below.
                if harm != "folder" or found[name].parent.name != "web":
                    HARMS[harm](found[name])
                    TALLY["rot"] += 1
                    done[name] = harm
            seen |= {*done.values()}
            (small_built.root / "specs/web.lock").unlink()
            build = small_built.doit("build", "spec=web", check=False)
            where = f"{done}\n{build.text}"
            assert "Traceback" not in build.text, where
            assert build.code == 0, where
            results = small_built.results()
            assert (results["base"], results["app"], results["/"]) == ("built",) * 3, where
            assert (small_built.root / "specs/web.lock").read_text() == lock, where
            assert {name: found[name].read_bytes() for name in whole} == whole, where
            assert small_built.outputs() == before, where
            assert distrusted(small_built) == [], where
            assert leftovers(small_built) == [], where
            assert all(path.is_file() for path in kinds(small_built).values())
        assert ", 0 bad" in small_built.doit("verify").out
        assert set(small_built.build().values()) == {"hit"}
    assert seen == {*harms}


def parts_rot(world: World, kinds: Sequence[str], harms: Sequence[str]) -> None:
    """What disks are written of, and a file of one: found by `verify`, by builds, and made again."""
    before = world.json()["files"]
    entry = {one["stage"]: f"{one['stage']}-{one['key']}" for one in world.json()["stages"]}

    def found(kind: str) -> Path:
        names = world.root.glob(f"cache/images/{entry[kind]}.*")
        (path,) = (one for one in names if one.suffix != ".json")
        return path

    for harm in harms:
        victims = [found(kind) for kind in kinds]
        for victim in victims:
            HARMS[harm](victim)
        TALLY["rot"] += len(victims)
        build = world.doit("verify", check=False)
        assert (build.code, build.text.count("; dropped")) == (1, len(victims)), build.text
        assert [path for path in victims if os.path.lexists(path)] == [], harm
        world.build()
        assert world.json()["files"] == before, harm
    # A build that writes the disk meets them without `verify`, one that publishes meets the file.
    for kind in kinds:
        if kind != "file":
            for path in (found("file"), found("file").with_suffix(".json")):
                path.unlink()
        else:
            shutil.rmtree(world.root / "out")
        flip(found(kind), 0.5)
        TALLY["rot"] += 1
        first = world.doit("build", "spec=web", check=False)
        assert "Traceback" not in first.text, kind
        world.build()
        assert world.json()["files"] == before, kind
        assert leftovers(world) == []
    assert ", 0 bad" in world.doit("verify").out
    assert distrusted(world) == []


def test_parts_of_a_disk_that_rotted_are_made_again(plain_disk: World) -> None:
    parts_rot(plain_disk, ("filesystem", "file"), [*HARMS] if NIGHTLY else ["middle"])


@pytest.mark.nightly
def test_parts_of_a_disk_that_boots(
    tmp_path: Path, closure: list[Path], fast_scratch: dict[str, str]
) -> None:
    with disk_world(tmp_path, closure, fast_scratch) as world:
        few = [line for line in BOOTED.splitlines(keepends=True)
               if not any(name in line for name in ("a.img:", "a.vhd", "a.vmdk"))]  # fmt: skip
        world.write("web.yaml", "".join(few))
        world.build()
        parts_rot(world, ("filesystem", "esp", "bios", "file"), ["first byte", "truncated"])


def test_a_folder_in_a_published_files_place_is_left_alone(small_built: World) -> None:
    path = small_built.root / "out/web/web.img.gz"
    folder(path)
    build = small_built.doit("build", "spec=web", check=False)
    assert build.code == 1
    says(build.text, "ERROR: ", "out/web/web.img.gz: a folder is in its place")
    assert "Traceback" not in build.text
    assert (path / "inside").exists()


# ---------------------------------------------------------------- below the filesystem


@dataclass
class Disk:
    """An ext4 in a file, mounted where a cache is to be."""

    backing: Path
    target: Path

    def rot(self, path: Path) -> None:
        """Flip a bit of a file on the disk: stat(2) says after it what it said before."""
        TALLY["rot"] += 1
        before, content = path.stat(), path.read_bytes()
        with path.open("rb") as file:
            os.fsync(file)
            block = fcntl.ioctl(file, 1, struct.pack("I", len(content) // 2 // 4096))  # FIBMAP
        with self.backing.open("r+b") as file:
            at = struct.unpack("I", block)[0] * 4096 + len(content) // 2 % 4096
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
        # Not by umount: another process's new mount namespace would keep the filesystem, and this.
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        after = path.stat()
        assert (after.st_ctime_ns, after.st_mtime_ns, after.st_size, after.st_ino, after.st_dev) == (
            before.st_ctime_ns, before.st_mtime_ns, before.st_size, before.st_ino, before.st_dev)  # fmt: skip
        assert path.read_bytes() != content


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    backing, target = tmp_path / "disk.img", tmp_path / "disk"
    target.mkdir()
    with backing.open("wb") as file:
        file.truncate(192 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-F", backing], check=True)
    device = subprocess.run(["losetup", "--find", "--show", backing], check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()  # fmt: skip
    try:
        subprocess.run(["mount", "-o", "noatime", device, target], check=True)
        try:
            yield Disk(backing, target)
        finally:
            subprocess.run(["umount", target], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_rot_that_no_clock_shows(small_built: World, disk: Disk) -> None:
    """Found by `verify`, and by what uses the bytes; a build that reads none of them trusts stat."""
    world = small_built
    subprocess.run(["cp", "-a", f"{world.root}/cache/.", disk.target], check=True)
    remove(world.root / "cache")
    world.env["STRATA_CACHE"] = str(disk.target)
    (world.root / "cache").symlink_to(disk.target)
    world.build()
    before, lock = world.outputs(), (world.root / "specs/web.lock").read_text()
    found = kinds(world)
    whole = {name: path.read_bytes() for name, path in found.items()}
    for name in ("base", "layer", "image", ".deb", "snapshot's Packages"):
        disk.rot(found[name])
    assert set(world.build().values()) == {"hit"}, "it has nothing to do, and reads nothing"
    build = world.doit("verify", check=False)
    assert (build.code, build.out.count("dropped")) == (1, 5), build.text
    assert set(world.build().values()) == {"built", "hit"}

    # (what rots, what is taken away so that a build uses it)
    cases = (
        ("base", "layer"), ("layer", "image"), (".deb", "base"), ("image", "published image"),
        ("record of layer", "image"), ("snapshot's Packages", "lock"), ("apt's Release", ""),
    )  # fmt: skip
    # By day a tarball, an image and an index.
    for name, taken in cases if NIGHTLY else cases[1:6:2]:
        disk.rot(kinds(world)[name])
        if taken:
            remove({**found, "lock": world.root / "specs/web.lock"}[taken])
        if taken in ("base", "layer"):
            remove(found["image"])
        first = world.doit("build", "spec=web", check=False)
        assert "Traceback" not in first.text, name
        if first.code:
            says(first.text, "ERROR: ", "run the ")
        world.build()
        assert world.outputs() == before, name
        assert (world.root / "specs/web.lock").read_text() == lock, name
        for one in ("base", "layer", "image", ".deb"):
            assert found[one].read_bytes() == whole[one], (name, one)
