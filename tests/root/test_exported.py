"""Exports as builds publish them: all forms in one build, what a change redoes, what is damaged."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from support.file_server import Server
from support.repository import Repository
from support.world import SPEC, World, stocked
from tasks.store.record import record_sum

EXPORTS = """\
exports:
  oci: {format: oci, config: {cmd: [/bin/sh]}}
  web.tar.zst: {format: tar, container: zstd}
  web.cpio.gz: {format: cpio, container: gzip}
  web.squashfs: {format: squashfs}
  web.erofs: {format: erofs}
"""

BLOBS = ["base.gzip", "packages.gzip", "app.gzip"]


def spec() -> str:
    return SPEC.partition("images:")[0] + EXPORTS


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory,
    site: tuple[Repository, Server],
    fast_scratch: dict[str, str],
) -> World:
    folder = tmp_path_factory.mktemp("exported")
    made = stocked(folder / "checkout", *site, folder, fast_scratch, spec=spec())
    assert set(made.build().values()) == {"built"}
    return made


@pytest.fixture
def world(first: World) -> World:
    """The same for all, its spec and files as they were in the first build."""
    first.write("web.yaml", spec())
    first.write("files/motd", "hello\n")
    return first


def out(world: World, name: str = "web") -> set[str]:
    """All files of out/, but for logs."""
    top = world.root / "out" / name
    found = {str(one.relative_to(top)) for one in top.rglob("*") if one.is_file()}
    return {one for one in found if not one.startswith("log/")}


def listed(*argv: str | Path) -> set[str]:
    """What a tool says is in an archive: paths without a dot or slash before them."""
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return {line.removeprefix("./").rstrip("/") for line in text.splitlines()} - {".", ""}


def test_all_hold_the_same_tree(world: World, tmp_path: Path) -> None:
    folder = world.root / "out/web"
    tar = listed("tar", "--list", "--zstd", "--file", folder / "web.tar.zst")
    assert {"etc/motd", "boot/kernel", "usr/bin/dpkg"} <= tar
    raw = subprocess.run(["gzip", "-dc", folder / "web.cpio.gz"], check=True, capture_output=True)
    (tmp_path / "cpio").write_bytes(raw.stdout)
    cpio = listed("cpio", "--list", "--quiet", "--file", tmp_path / "cpio")
    squashfs = listed("unsquashfs", "-quiet", "-d", "", "-l", folder / "web.squashfs")
    umoci = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{folder}/oci:web", umoci], check=True)
    oci = {str(one.relative_to(umoci / "rootfs")) for one in (umoci / "rootfs").rglob("*")}
    subprocess.run(["fsck.erofs", f"--extract={tmp_path}/erofs", folder / "web.erofs"], check=True)
    erofs = {str(one.relative_to(tmp_path / "erofs")) for one in (tmp_path / "erofs").rglob("*")}
    assert len(tar) > 500
    assert tar == cpio
    assert tar == {one.removeprefix("/") for one in squashfs}
    assert tar == oci
    assert tar == erofs


def test_nothing_changed_is_nothing_to_do(world: World) -> None:
    world.build()
    assert set(world.build().values()) == {"hit"}
    assert world.json()["published"] is False
    assert world.leftovers() == []


def test_a_file_of_the_top_layer_redoes_one_blob_and_the_exports(world: World) -> None:
    """And what the old ones were published as goes out of out/."""
    world.build()
    before = out(world)
    world.write("files/motd", "another\n")
    results = world.build()
    assert {name for name, what in results.items() if what == "built"} == {
        "app", "app.gzip", "oci", "web.tar.zst", "web.cpio.gz", "web.squashfs", "web.erofs"}  # fmt: skip
    after = out(world)
    # A blob, the config and the manifest are others.
    assert len(before - after) == len(after - before) == 3
    assert all(one.startswith("oci/blobs/sha256/") for one in before ^ after)
    assert set(world.json()["files"]) | {"build.json", "host.json", "SHA256SUMS"} == after
    world.edit("cmd: [/bin/sh]", "cmd: [/bin/bash]")
    results = world.build()
    assert {name for name, what in results.items() if what == "built"} == {"oci"}


def test_another_spec_on_the_same_base_has_its_blob(world: World) -> None:
    world.write("other.yaml", spec().replace("packages: [beta]", "packages: [delta]"))
    results = world.build(spec="other")
    assert results["base.gzip"] == results["packages.gzip"] == "hit"
    assert results["app.gzip"] == "built"
    shared = {one for one in out(world) & out(world, "other") if "/blobs/" in one}
    assert len(shared) == 2


@pytest.mark.nightly
def test_reproduced(world: World) -> None:
    world.build()
    text = world.doit("reproduce", "spec=web").text
    assert text.count("the same bytes") == len(world.json()["stages"]) == 11


def test_a_manifest_of_other_blobs_is_not_taken(world: World, tmp_path: Path) -> None:
    """As a shared cache may have it, where packages drew something in the tree: one key, two blobs."""
    world.build()
    cache = f"cache=file://{tmp_path}/shared"
    world.doit("push", "spec=web", cache)
    keys = {stage["name"]: stage["key"] for stage in world.json()["stages"]}
    path = world.root / f"cache/images/blob-{keys['app.gzip']}.json"
    record = json.loads(path.read_text())
    file = path.with_name(record["file"]["name"])
    # The same tree, as another build might have packed it.
    raw = subprocess.run(["gzip", "-dc", file], check=True, capture_output=True).stdout
    packed = subprocess.run(["gzip", "-nc1"], input=raw, check=True, capture_output=True).stdout
    file.write_bytes(packed)
    digests = {"sha256": hashlib.sha256(packed).hexdigest(), "size": len(packed)}
    record["file"] |= digests
    record["facts"]["packed"] |= {**digests, "md5": hashlib.md5(packed).hexdigest()}
    path.write_text(json.dumps(record | {"sum": record_sum(record)}))
    done = world.doit("build", "spec=web", cache, "cache_trust=any", check=False)
    assert done.code == 0, done.text
    assert {name for name, what in world.results().items() if what == "built"} == {"oci"}
    umoci = ["umoci", "unpack", "--image", f"{world.root}/out/web/oci:web", f"{tmp_path}/bundle"]
    subprocess.run(umoci, check=True)
    # Nor where it is not here at all.
    for one in (world.root / "cache/images").glob(f"export-{keys['oci']}.*"):
        one.unlink()
    world.doit("build", "spec=web", cache, "cache_trust=any")
    assert world.results()["oci"] == "built"
    file.unlink()  # for the next test as it was
    assert {name for name, what in world.build().items() if what == "built"} == {"app.gzip", "oci"}


@pytest.mark.parametrize("kind", ["blob", "export"])
def test_flipped_bits_are_built_again(world: World, kind: str) -> None:
    """What is published is as it was; nothing damaged is ever copied."""
    world.build()
    before = {name: (world.root / "out/web" / name).read_bytes()
              for name in out(world) if "oci/" in name}  # fmt: skip
    keys = {stage["name"]: stage["key"] for stage in world.json()["stages"]}
    name = "oci" if kind == "export" else "app.gzip"
    (path,) = (world.root / "cache/images").glob(f"{kind}-{keys[name]}.tar*")
    content = bytearray(path.read_bytes())
    content[300 if kind == "export" else len(content) // 2] ^= 4
    path.write_bytes(content)
    for one in before:
        (world.root / "out/web" / one).unlink()
    done = world.doit("build", "spec=web", check=False)
    assert done.code == 0, done.text
    assert world.results()[name] == "built"
    after = {one: (world.root / "out/web" / one).read_bytes() for one in before}
    assert after == before
    assert world.leftovers() == []


def test_a_name_that_oci_takes_for_a_mark(world: World) -> None:
    world.edit("{/etc/motd: files/motd}", "{/etc/.wh.motd: files/motd}")
    world.refused("specs/web.yaml: exports: the tree has 'etc/.wh.motd'",
                  "mark what is gone in OCI rename or remove it")  # fmt: skip


def test_clean_removes_the_folder(world: World) -> None:
    world.build()
    (world.root / "out/web/oci/mine").write_text("mine\n")
    world.doit("clean", "spec=web")
    left = {str(one.relative_to(world.root / "out/web"))
            for one in (world.root / "out/web").rglob("*")}  # fmt: skip
    assert left == {"oci", "oci/mine"}
    (world.root / "out/web/oci/mine").unlink()
    world.build()
    world.doit("clean", "spec=web")
    assert not (world.root / "out/web").exists()


def test_an_export_that_is_taken_out_of_the_spec_goes(world: World) -> None:
    world.build()
    world.edit("  oci: {format: oci, config: {cmd: [/bin/sh]}}\n", "")
    world.build()
    assert not (world.root / "out/web/oci").exists()
    assert (world.root / "out/web/web.tar.zst").exists()
    assert world.json()["published"] is True
