"""Disks that nothing boots, of a small tree: other tables, sources, names, shared caches."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.disk_looks import (
    MIB,
    causes_of,
    cut,
    kinds,
    partitions,
    redone,
    run,
    sha256,
)
from support.disk_worlds import FIRMWARE, PLAIN
from support.file_server import Server
from support.repository import Repository
from support.trees import decompress
from support.world import World, says, stocked

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def plain_built(
    tmp_path_factory: pytest.TempPathFactory,
    site: tuple[Repository, Server],
    fast_scratch: dict[str, str],
) -> World:
    root = tmp_path_factory.mktemp("plain")
    site[1].faults.clear()
    world = stocked(root / "checkout", *site, root, fast_scratch, PLAIN)
    world.build()
    return world


@pytest.fixture
def plain(plain_built: World) -> Iterator[World]:
    """The checkout with the spec PLAIN, built: each test writes a spec of its own from it."""
    yield plain_built
    plain_built.write("web.yaml", PLAIN)
    assert plain_built.leftovers() == []


def part(files: str, partitions: str = "", **fields: str) -> str:
    """The disk `server` of PLAIN with other files, partitions and fields."""
    rows = (
        partitions or "[{name: boot, mount: /boot, size: 8M}, {name: root, mount: /, size: rest}]"
    )
    fields = {"size": "64M", "loader": "none", "partitions": rows, "files": files, **fields}
    return "".join(f"    {name}: {value}\n" for name, value in fields.items())


def with_disks(world: World, **disks: str) -> None:
    head = PLAIN.partition("disks:")[0]
    world.write("web.yaml", head + "disks:\n" + "".join(f"  {one}:\n{text}" for one, text in disks.items()))  # fmt: skip


def test_the_same_bytes_from_the_lock_alone(plain: World, tmp_path: Path) -> None:
    told = plain.doit("reproduce", "spec=web").out
    says(told, "reproduced out/web/: 2 files")
    decompress(plain.root / "out/web/a.img.zst", tmp_path / "raw")
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", tmp_path / "raw",
        plain.root / "out/web/a.qcow2")  # fmt: skip
    parts = partitions(tmp_path / "raw")
    for name in ("boot", "root"):
        run("e2fsck", "-fn", cut(tmp_path / "raw", parts[name], tmp_path / name))


@pytest.mark.nightly
def test_what_follows_from_a_filesystem_that_varies_is_no_difference(
    plain: World, tmp_path: Path
) -> None:
    """Of btrfs the files are compared, and a disk that holds one has other bytes by that."""
    alone = plain.clone(tmp_path / "alone")
    rows = "[{name: root, mount: /, format: btrfs, size: rest}]"
    files = "{a.img: {format: raw, bmap: true}}"
    with_disks(alone, server=part(files, rows, size="256M"))
    alone.build()
    told = alone.doit("reproduce", "spec=web").out
    says(told, "the same files; btrfs has other bytes each time",
         "a.img has other bytes, which follows from filesystem /",
         "a.img.bmap has other bytes, which follows from filesystem /", "reproduced out/web/: 2 files")  # fmt: skip
    (alone.root / "out/web/a.img").unlink()
    said = alone.doit("reproduce", "spec=web", check=False)
    assert said.code != 0
    says(said.err, "file:a.img: a.img is missing")


def test_a_shared_cache_has_all_but_the_disk(plain: World, tmp_path: Path) -> None:
    cache = f"cache=file://{tmp_path}/shared"
    said = plain.doit("push", "spec=web", cache).text
    says(said, "filesystem /", "sent", "file a.qcow2", "sent")
    assert "disk server" not in said
    other = plain.clone(tmp_path / "other")
    shutil.copy(plain.root / "specs/web.lock", other.root / "specs")
    found = other.build(cache, "cache_trust=any")
    assert found["a.qcow2"] == found["a.img.zst"] == "pulled"
    assert {*found.values()} <= {"pulled", "skipped"}
    assert other.json()["files"]["a.qcow2"] == plain.json()["files"]["a.qcow2"]
    # What is pulled by hand has the parts as well.
    pulled = plain.clone(tmp_path / "third")
    says(pulled.doit("pull", "spec=web", cache, "cache_trust=any").text, "filesystem /boot")
    (path,) = pulled.root.glob("cache/images/file-*.qcow2")
    path.with_suffix(".json").unlink()
    path.unlink()
    assert pulled.build()["a.qcow2"] == "built"
    assert pulled.json()["files"]["a.qcow2"] == plain.json()["files"]["a.qcow2"]


def test_what_no_lock_needs_is_pruned(plain: World) -> None:
    plain.edit("size: 64M", "size: 72M")
    plain.build()
    says(plain.doit("prune").out, "pruned 2 entries")
    assert plain.doit("why", "spec=web").code == 0
    plain.write("web.yaml", PLAIN)
    found = plain.build()
    assert (found["/"], found["/boot"], found["a.qcow2"]) == ("hit", "hit", "built")


def test_two_disks_of_one_tree(plain: World) -> None:
    root = "[{name: boot, mount: /boot}, {name: root, mount: /}]"
    with_disks(plain, server=part("{a.qcow2: {format: qcow2}}"),
               small=part("{b.img: {format: raw}}", root, size="fit", slack="0"))  # fmt: skip
    found = [one for one in kinds(plain.json()["stages"]) if one[0] == "disk"]
    plain.build()
    stages = kinds(plain.json()["stages"])
    assert [one for one in stages if one[0] == "disk"] == [
        ("disk", "server", "skipped"), ("disk", "small", "built")], found  # fmt: skip
    assert [one[2] for one in stages if one[0] == "filesystem"] == ["hit", "hit"]
    raw = plain.root / "out/web/b.img"
    assert raw.stat().st_size < 24 * MIB
    assert [*partitions(raw)] == ["boot", "root"]
    run("sfdisk", "-V", raw)


def test_files_with_one_key_are_made_once(plain: World) -> None:
    """A file is of what it holds, and so is its block map: not of what they are called."""
    with_disks(plain, server=part("{d.img: {format: raw, bmap: true}, d.img.gz: {format: raw, container: "
                                  "gzip, bmap: true}, e.img.gz: {format: raw, container: gzip, bmap: true}}"))  # fmt: skip
    said = plain.doit("build", "spec=web").out
    says(said, "5 of 11 stages to build")
    names = ["d.img", "d.img.bmap", "d.img.gz", "d.img.gz.bmap", "e.img.gz", "e.img.gz.bmap"]
    found = {name: result for _kind, name, result in kinds(plain.json()["stages"])}
    assert sorted(found[one] for one in names) == ["built"] * 4 + ["hit"] * 2, found
    sums = plain.json()["files"]
    assert {*names} <= {*sums}
    assert sums["d.img.gz"] == sums["e.img.gz"]
    assert sums["d.img.bmap"] == sums["d.img.gz.bmap"] == sums["e.img.gz.bmap"]
    for name in names:
        assert sha256(plain.root / "out/web" / name) == sums[name]
    assert plain.doit("why", "spec=web").code == 0
    says(plain.doit("graph", "spec=web").out, "d.img.gz.bmap, e.img.gz.bmap")
    says(plain.doit("reproduce", "spec=web").out, "reproduced out/web/: 6 files")
    plain.doit("info", "file:d.img.gz.bmap", "spec=web")
    plain.doit("clean", "spec=web")
    assert not (plain.root / "out/web").exists()
    assert {result for one, result in plain.build().items() if one in names} == {"hit"}


@pytest.mark.nightly
def test_a_fleet_makes_what_has_one_key_once(plain: World) -> None:
    with_disks(plain, server=part("{f.img.gz: {format: raw, container: gzip, bmap: true}, g.img.gz: {format: "
                                  "raw, container: gzip, bmap: true}}", size="68M"))  # fmt: skip
    plain.doit("lock", "spec=web")
    said = plain.doit("fleet", "spec=web", "workers=2").out
    says(said, "2 to be made", "built 2 stages")
    sums = plain.json()["files"]
    assert sums["f.img.gz.bmap"] == sums["g.img.gz.bmap"]


def test_an_image_of_a_disks_mount_point_may_be_too_large(plain: World) -> None:
    with_disks(plain, server=part("{a.qcow2: {format: qcow2}}"))
    spec = plain.root / "specs/web.yaml"
    images = """\
images:
  /: {file: g.img.gz, format: ext4, max_size: 1M}
  /boot: {file: g-boot.img.gz, format: ext4}
"""
    spec.write_text(spec.read_text().replace("disks:\n", images + "disks:\n"))
    plain.refused("images./.max_size: the filesystem has", "more than the 1.0 MiB",
                  "the largest folders of the image", "make max_size larger")  # fmt: skip


@pytest.mark.parametrize(("sector", "table"), [("512", "mbr"), ("4096", "gpt")])
def test_other_tables(plain: World, tmp_path: Path, sector: str, table: str) -> None:
    plain.write("files/firmware.bin", "").write_bytes(FIRMWARE)
    rows = ("[{name: swap, size: 4M, format: swap}, {name: firmware, source: files/firmware.bin}, "
            "{name: boot, mount: /boot}, {name: root, mount: /, size: rest}]")  # fmt: skip
    files = "{c.img: {format: raw}, c.img.xz: {format: raw, container: xz, level: fast}}"
    with_disks(plain, server=part(files, rows, size="40M", sector=sector, table=table))
    plain.build()
    raw = plain.root / "out/web/c.img"
    decompress(plain.root / "out/web/c.img.xz", tmp_path / "raw")
    assert sha256(tmp_path / "raw") == sha256(raw)
    if table == "mbr":
        run("sfdisk", "--verify", raw)
        found = [*partitions(raw).values()]
        assert [one["type"] for one in found] == ["82", "83", "83", "83"]
    else:
        # sfdisk(8) of Debian 12 reads no other sectors in a file: UEFI 2.10, 5.3.
        table_of = raw.read_bytes()[4096 : 6 * 4096]
        assert table_of[:8] == b"EFI PART"
        ends = [
            struct.unpack_from("<QQ", table_of, 4096 + 128 * number + 32) for number in range(4)
        ]
        found = [{"start": first, "size": last + 1 - first} for first, last in ends]
    root = cut(raw, found[3], tmp_path / "root", int(sector))
    run("e2fsck", "-fn", root)
    firmware = cut(raw, found[1], tmp_path / "firmware", int(sector))
    assert firmware.read_bytes().startswith(FIRMWARE)
    swap = cut(raw, found[0], tmp_path / "swap", int(sector))
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", swap) == "swap\n"


def test_another_content_of_a_source_redoes_the_disk(plain: World) -> None:
    plain.write("files/firmware.bin", "one")
    rows = "[{name: firmware, source: files/firmware.bin}, {name: boot, mount: /boot}, {name: root, mount: /, size: rest}]"
    with_disks(plain, server=part("{c.img: {format: raw}}", rows))
    plain.build()
    plain.write("files/firmware.bin", "two")
    found = redone(plain)
    assert causes_of(found) == {"disk server": ["disk: source of partition firmware changed"]}
    assert {*found} == {"disk server", "file c.img"}


@pytest.mark.parametrize(
    ("rows", "files", "said"),
    [
        ("[{name: root, mount: /, size: 1M}]", "{c.img: {format: raw}}", "too small"),
        ('[{name: "a/../b", mount: /}]', "{c.img: {format: raw}}", "expected a name such as root"),
        ('[{name: "a\\nb", mount: /}]', "{c.img: {format: raw}}", "expected a name such as root"),
        ("[{name: root, mount: /}]", '{"../c.img": {format: raw}}', "c.img"),
        ("[{name: root, mount: /}]", '{"-c.img": {format: raw}}', "-c.img"),
        ("[{name: root, mount: /}, {name: s, source: ../../../../../../etc/passwd}]",
         "{c.img: {format: raw}}", "etc/passwd"),
        ("[{name: root, mount: /}, {name: s, source: files/link}]", "{c.img: {format: raw}}",
         "files/link"),
        ("[{name: root, mount: /}, {name: s, source: files/none}]", "{c.img: {format: raw}}",
         "files/none"),
    ],
)  # fmt: skip
def test_names_and_sources_that_lead_elsewhere(
    plain: World, rows: str, files: str, said: str
) -> None:
    link = plain.root / "specs/files/link"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    with_disks(plain, server=part(files, rows))
    plain.refused(said)


@pytest.mark.parametrize("name", ["Ünïcödé ☃"[:7], "a b.c_d+e-f", "x" * 36])
def test_names_that_a_partition_may_have(plain: World, name: str) -> None:
    rows = f'[{{name: boot, mount: /boot}}, {{name: "{name}", mount: /, size: rest}}]'
    with_disks(plain, server=part("{d.img: {format: raw}}", rows))
    plain.build()
    raw = plain.root / "out/web/d.img"
    assert [*partitions(raw)] == ["boot", name]
    run("sgdisk", "-v", raw)


def test_diff_tells_of_a_disks_files(plain: World, tmp_path: Path) -> None:
    with_disks(plain, server=part("{a.qcow2: {format: qcow2}}"))
    plain.build()
    shutil.copytree(plain.root / "out/web", tmp_path / "before")
    with_disks(plain, server=part("{a.qcow2: {format: qcow2}}", size="60M"))
    plain.build()
    said = plain.doit("diff", f"from={tmp_path}/before", "to=out/web").out
    says(said, "a.qcow2")
    assert "web.yaml" not in said
