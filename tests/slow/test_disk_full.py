"""Full disks: each stage meets one, says which it is and what is free, and harms nothing.

STRATA_TEST_SWEEP sets how many sizes are tried of each filesystem (12 by default).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.debs import make_deb
from support.full_disks import (
    KEEP,
    KIB,
    MIB,
    attempt,
    fails,
    filled,
    forget,
    grow,
    random_bytes,
    recovers,
    small,
    small_disk,
)
from support.tally import TALLY
from support.world import World

pytestmark = pytest.mark.root


SWEEP = int(os.environ.get("STRATA_TEST_SWEEP", "12"))


# ---------------------------------------------------------------- worlds


@pytest.fixture(scope="module")
def references() -> dict[str, dict[str, str]]:
    """The outputs of specs where there was room, made once."""
    return {}


@pytest.fixture
def bulky(tiny: World, tmp_path: Path) -> World:
    """The spec `tiny` with 4 MiB that cannot be compressed, and a scratch of its own."""
    tiny.env["STRATA_SCRATCH"] = str(tmp_path / "scratch")
    data = random_bytes(4 * MIB)
    # They do not say what they install: no check before a stage hides what happens in it.
    tiny.add(make_deb(tiny.debs, "beta", "2", files={"/usr/data": data}))
    return tiny


@pytest.fixture
def reference(bulky: World, references: dict[str, dict[str, str]]) -> dict[str, str]:
    """What the spec's images are with room; nothing is left of it."""
    if "bulky" not in references:
        bulky.doit("build", "spec=web")
        references["bulky"] = bulky.outputs()
        forget(bulky, "cache", "out", ".doit")
        (bulky.root / "specs/web.lock").unlink()
    return references["bulky"]


@pytest.fixture
def locked(bulky: World, reference: dict[str, str]) -> World:
    """The same spec with a lock that is kept, and nothing built."""
    bulky.doit("lock", "spec=web")
    return bulky


# ---------------------------------------------------------------- lock


def test_lock_cache_full(bulky: World, reference: dict[str, str]) -> None:
    with small(bulky.root / "cache", MIB) as cache:
        with filled(cache):
            fails(bulky, cache, "cache", "lock: failed")
        grow(cache)
        recovers(bulky, reference)


def test_lock_scratch_full(bulky: World, reference: dict[str, str], tmp_path: Path) -> None:
    with small(tmp_path / "scratch", MIB) as scratch:
        for left in (0, 24 * KIB, 100 * KIB):
            with filled(scratch, left):
                fails(bulky, scratch, "scratch", "lock: failed")
        grow(scratch)
        recovers(bulky, reference)


@pytest.mark.parametrize("old", [False, True])
def test_lock_file_is_never_half_written(
    bulky: World, reference: dict[str, str], old: bool
) -> None:
    if old:
        bulky.doit("lock", "spec=web")
        bulky.edit("beta]", "beta, gamma]")
        bulky.add(make_deb(bulky.debs, "gamma", files={"/usr/gamma": "1\n"}))
    with small(bulky.root / "specs", MIB) as specs:
        with filled(specs):
            fails(bulky, specs, "specs", "lock: failed")
            assert (specs / "web.lock").exists() == old
        if old:
            bulky.edit("beta, gamma]", "beta]")
        recovers(bulky, reference)


# ---------------------------------------------------------------- .debs


@pytest.mark.parametrize("place", ["cache", "scratch"])
def test_fetching_needs_room(
    locked: World, reference: dict[str, str], tmp_path: Path, place: str
) -> None:
    folder = locked.root / "cache" if place == "cache" else tmp_path / "scratch"
    with small(folder, 3 * MIB):
        fails(locked, folder, place, f"fetching 2 packages needs 4.0 MiB in {place}:",
              "MiB free", words=[KEEP])  # fmt: skip
        grow(folder)
        recovers(locked, reference, KEEP)


# ---------------------------------------------------------------- base


def test_base_needs_room(bulky: World, tmp_path: Path) -> None:
    size = {"Installed-Size": str(40 * 1024)}
    bulky.add(make_deb(bulky.debs, "beta", "3", files={"/usr/data": "1\n"}, extra=size))
    bulky.doit("lock", "spec=web")
    with small(tmp_path / "scratch", 30 * MIB) as scratch:
        fails(bulky, scratch, "scratch", "installing 2 packages needs 40.0 MiB in scratch:",
              "has 30.0 MiB free")  # fmt: skip
        grow(scratch)
        bulky.doit("build", "spec=web")


@pytest.mark.parametrize("disk", ["tmpfs", pytest.param("ext4", marks=pytest.mark.nightly)])
def test_scratch_fills_while_bootstrapping(
    locked: World, reference: dict[str, str], tmp_path: Path, disk: str
) -> None:
    scratch = tmp_path / "scratch"
    # The .debs' copy for the bootstrap takes 4 MiB, and the tree does not fit.
    with small(scratch, 9 * MIB) if disk == "tmpfs" else small_disk(scratch, 11 * MIB):
        fails(locked, scratch, "scratch", "mmdebstrap of the base", words=[KEEP])
    recovers(locked, reference, KEEP)


def test_base_tarball_does_not_fit_into_cache(locked: World, reference: dict[str, str]) -> None:
    forget(locked, "cache")
    with small(locked.root / "cache", 6 * MIB) as cache:
        fails(locked, cache, "cache", "packing the tree", words=[KEEP])
        assert not list(cache.glob("layers/*"))
        grow(cache)
        recovers(locked, reference, KEEP)


# ---------------------------------------------------------------- layers


def test_layer(built: World, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    built.env["STRATA_SCRATCH"] = str(scratch)
    fills = "yes > /usr/share/yes"
    built.add(built.deb("beta", "3", scripts={"postinst": fills}))
    built.doit("lock", "spec=web")
    with small(scratch, 400 * MIB):
        fails(built, scratch, "scratch", "layer:app: failed", "layer app: the filesystem")


@pytest.mark.nightly
def test_layer_whose_room_is_known(built: World, tmp_path: Path) -> None:
    """By what a package says that it installs, and by what a tree is packed into."""
    scratch = tmp_path / "scratch"
    built.env["STRATA_SCRATCH"] = str(scratch)
    said = {"Installed-Size": str(500 * 1024)}
    built.add(built.deb("beta", "2", extra=said))
    built.doit("lock", "spec=web")
    with small(scratch, 400 * MIB):
        fails(built, scratch, "scratch", "layer:app: failed",
              "installing 1 package needs 500.0 MiB in scratch:")  # fmt: skip
    built.add(built.deb("beta", "4", files={"/usr/data": random_bytes(4 * MIB)}))
    built.doit("lock", "spec=web")
    with small(built.root / "cache", 400 * MIB) as cache:
        with filled(cache, 6 * MIB):
            fails(built, cache, "cache", "layer:app: failed", "packing the tree")
        built.doit("layer:app", "spec=web")


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("container", [
    "gzip", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("zstd", "raw"))
])  # fmt: skip
def test_image_does_not_fit_into_cache(
    locked: World, reference: dict[str, str], container: str
) -> None:
    if container != "gzip":
        name = {"zstd": "web.img.zst", "raw": "web.img"}[container]
        locked.edit("file: web.img.gz", f"container: {container}, file: {name}")
    with small(locked.root / "cache", 32 * MIB) as cache:
        locked.doit("build", "spec=web")
        wanted = locked.outputs()
        forget(locked, "cache/images")
        with filled(cache, 3 * MIB):
            fails(locked, cache, "cache", "image /", words=[KEEP])
            assert not list(cache.glob("images/*"))
        recovers(locked, wanted, KEEP)


# ---------------------------------------------------------------- disks


DISK = """\
disks:
  server:
    size: 64M
    loader: none
    partitions:
      - {name: root, mount: /, size: rest}
    files:
      a.qcow2: {format: qcow2}
"""


@pytest.fixture
def with_disk(bulky: World) -> World:
    """The bulky spec with a disk in place of its image, locked, and its tree built."""
    text = (bulky.root / "specs/web.yaml").read_text()
    bulky.write("web.yaml", text.partition("images:")[0] + DISK)
    bulky.doit("lock", "spec=web")
    bulky.doit("layer", "spec=web")
    return bulky


@pytest.mark.parametrize(
    ("place", "room", "drops", "said"),
    [
        ("cache", 3 * MIB, (), "filesystem:/: failed"),
        pytest.param("scratch", 2 * MIB, (), "failed", marks=pytest.mark.nightly),
        pytest.param(
            "cache", 3 * MIB, ("file",), "file:a.qcow2: failed", marks=pytest.mark.nightly
        ),
        ("scratch", 2 * MIB, ("file",), "disk:server: failed"),
        pytest.param("out", 2 * MIB, ("out",), "build: failed", marks=pytest.mark.nightly),
    ],
)
def test_a_disk_that_finds_no_room(
    with_disk: World, tmp_path: Path, place: str, room: int, drops: tuple[str, ...], said: str
) -> None:
    """Its parts, itself, its file, what is published: nothing is left, and then it is the same."""
    world = with_disk
    world.doit("build", "spec=web", KEEP)
    wanted = world.json()["files"]
    kinds = drops or ("filesystem", "file")
    for path in (one for kind in kinds for one in world.root.glob(f"cache/images/{kind}-*")):
        path.unlink()
    folder = {"cache": world.root / "cache", "out": world.root / "out",
              "scratch": tmp_path / "scratch"}[place]  # fmt: skip
    if place == "out":
        forget(world, "out")
    with small(folder, 48 * MIB):
        with filled(folder, room):
            fails(world, folder, place, said, words=[KEEP])
        world.doit("build", "spec=web", KEEP)
        assert world.json()["files"] == wanted
        assert world.leftovers() == []


# ---------------------------------------------------------------- out, .doit


def test_out_full_keeps_the_earlier_build(locked: World) -> None:
    with small(locked.root / "out", 32 * MIB) as out:
        with filled(out):
            fails(locked, out, "out", "base: failed")  # its log
        locked.doit("build", "spec=web", KEEP)
        locked.add(make_deb(locked.debs, "beta", "3", files={"/usr/data": random_bytes(5 * MIB)}))
        locked.doit("image", "spec=web")
        (image,) = (path for path in locked.root.glob("cache/images/*.gz")
                    if path.stat().st_size > 5 * MIB)  # fmt: skip
        with filled(out, 3 * MIB):
            fails(locked, out, "out", "build: failed", "publishing 1 image needs 5.",
                  "has 3.0 MiB free", words=[KEEP])  # fmt: skip
        # Room for the image, and not for all of the four small files beside it.
        pages = -(-image.stat().st_size // 4096) * 4096
        for more in (0, 4 * KIB, 12 * KIB):
            with filled(out, pages + more):
                fails(locked, out, "out", "build: failed", words=[KEEP])
        with filled(out, pages + 16 * KIB):
            locked.doit("build", "spec=web", KEEP)
        assert (out / "web/web.img.gz").read_bytes() == image.read_bytes()
        # A first one leaves nothing, rather than all but build.json.
        forget(locked, "out/web")
        with filled(out, pages + 12 * KIB):
            fails(locked, out, "out", "build: failed", words=[KEEP])


def test_state_full(bulky: World, reference: dict[str, str]) -> None:
    """What is below .doit/ is spare: a build does without."""
    with small(bulky.root / ".doit", MIB) as state:
        with filled(state):
            TALLY["full disks"] += 1
            recovers(bulky, reference)
            forget(bulky, "cache/layers", "cache/images", "out")
            TALLY["full disks"] += 1
            recovers(bulky, reference)
        # And with a state that is there, and cannot grow.
        recovers(bulky, reference)
        forget(bulky, "cache/layers", "cache/images", "out")
        with filled(state):
            TALLY["full disks"] += 1
            recovers(bulky, reference)
        recovers(bulky, reference)


# ---------------------------------------------------------------- inodes


@pytest.mark.parametrize("place", ["cache", pytest.param("scratch", marks=pytest.mark.nightly)])
def test_out_of_inodes(
    locked: World, reference: dict[str, str], tmp_path: Path, place: str
) -> None:
    folder = locked.root / "cache" if place == "cache" else tmp_path / "scratch"
    forget(locked, "cache")
    stages = set()
    there = 1 + sum(1 for _ in folder.rglob("*")) if folder.exists() else 1
    with small(folder, 64 * MIB, inodes=there + 1):
        for more in (1, 3, 6, 9, 12, 17, 29, 43):
            grow(folder, 64 * MIB, there + more)
            build = attempt(locked, folder, [place], reference)
            if build.code == 0:
                break
            assert re.search(r"has (no|\d+) inodes left \(df -i\)", build.text)
            stages.add(build.text.partition(": failed")[0].rpartition("\n")[2])
        grow(folder)
        recovers(locked, reference)
    assert {"lock", "base"} <= stages


# ---------------------------------------------------------------- any size


@pytest.mark.parametrize(
    ("places", "again", "sizes", "count"),
    [
        (["scratch"], "debs layers images", (0, 24), max(3, SWEEP // 2)),
        pytest.param(["scratch"], "images", (8, 12), SWEEP, marks=pytest.mark.nightly),
        (["cache"], "debs layers images", (0, 15), SWEEP),
        pytest.param(
            ["cache", "scratch"],
            "debs layers images",
            (0, 30),
            SWEEP // 2,
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["scratch", "scratch-image", "cache", "one-for-both"],
)
def test_sweep(
    locked: World, reference: dict[str, str], tmp_path: Path, places: list[str], again: str,
    sizes: tuple[int, int], count: int,
) -> None:  # fmt: skip
    """With any room a build makes the bytes that it makes with plenty, or says what is full.

    `again` is what the cache lacks; `sizes` in MiB: the least is too little, the most is enough.
    """
    locked.doit("build", "spec=web")
    folder = tmp_path / "small"
    names = {"scratch": "STRATA_SCRATCH", "cache": "STRATA_CACHE"}
    env = {names[place]: str(folder / place) for place in places}
    locked.env |= {name: value for name, value in env.items() if name == "STRATA_SCRATCH"}
    least, most = (size * MIB for size in sizes)
    builds = []
    for number in range(count):
        size = least + (most - least) * (2 * number + 1) // (2 * count)
        with (small_disk, small)[number % 2](folder, size):
            forget(locked, "out", *(f"cache/{name}" for name in again.split()))
            builds.append(attempt(locked, folder, places, reference, **env))
    assert builds[0].code != 0, builds[0].text
    assert builds[-1].code == 0, builds[-1].text
    assert any("ran full" in build.text for build in builds)
