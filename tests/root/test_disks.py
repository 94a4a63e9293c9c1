"""Whole disks by way of `build`: what is published, what a change redoes, what other commands say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.boot_trees import LOADERS
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
from support.disk_worlds import BOOTED, FIRMWARE, disk_world
from support.lacking import without
from support.trees import decompress
from support.world import World, says

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Built:
    """The checkout with the spec BOOTED, and what its first build said of each stage."""

    world: World
    first: Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def server_built(
    tmp_path_factory: pytest.TempPathFactory, closure: list[Path], fast_scratch: dict[str, str]
) -> Iterator[Built]:
    """Built once; whoever changes it leaves its spec as it was."""
    with disk_world(tmp_path_factory.mktemp("disk"), closure, fast_scratch) as world:
        world.build()
        yield Built(world, world.json()["stages"])


@pytest.fixture
def server(server_built: Built) -> Iterator[World]:
    """The same, as BOOTED has it; its cache has all of that, at least."""
    yield server_built.world
    server_built.world.write("web.yaml", BOOTED)


FILES = ["a.img", "a.img.bmap", "a.img.gz", "a.qcow2", "a.vhd", "a.vmdk"]


# ---------------------------------------------------------------- what is made


def test_all_stages_of_a_disk_are_told(server_built: Built) -> None:
    tree = [("base", "base"), ("layer", "packages"), ("layer", "loader"), ("layer", "app"),
            ("layer", "settings")]  # fmt: skip
    above = [("filesystem", "/"), ("image", "/"), ("esp", "server"), ("bios", "server"),
             ("disk", "server"), *(("file", name) for name in FILES)]  # fmt: skip
    assert kinds(server_built.first) == [(*one, "built") for one in (*tree, *above)]
    logs = {path.name for path in (server_built.world.root / "out/web/log").glob("*.log")}
    assert {"filesystem-root.log", "esp-server.log", "disk-server.log", "file-a.img.log"} <= logs


def test_each_file_is_the_same_disk(server_built: Built, tmp_path: Path) -> None:
    out = server_built.world.root / "out/web"
    raw = out / "a.img"
    assert raw.stat().st_size == 128 * MIB
    whole = sha256(raw)
    decompress(out / "a.img.gz", tmp_path / "raw")
    assert sha256(tmp_path / "raw") == whole
    for name, kind in (("a.qcow2", "qcow2"), ("a.vmdk", "vmdk")):
        run("qemu-img", "check", "-f", kind, out / name)
        run("qemu-img", "convert", "-f", kind, "-O", "raw", out / name, tmp_path / name)
        assert sha256(tmp_path / name) == whole, name
    vhd = out / "a.vhd"
    with vhd.open("rb") as file:
        assert hashlib.sha256(file.read(128 * MIB)).hexdigest() == whole
        footer = file.read()
    assert (len(footer), footer[:8]) == (512, b"conectix")
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums["a.img"] == whole
    assert {*FILES, "web.img.gz", "web.yaml", "packages.txt"} == {*sums}
    assert all(sha256(out / name) == digest for name, digest in sums.items())


def test_others_find_nothing_wrong_with_the_disk(server_built: Built, tmp_path: Path) -> None:
    out = server_built.world.root / "out/web"
    raw = out / "a.img"
    assert "No problems found" in run("sgdisk", "-v", raw)
    run("sfdisk", "-V", raw)
    parts = partitions(raw)
    assert [*parts] == ["bios", "esp", "swap", "firmware", "data", "root"]
    assert parts["esp"]["size"] * 512 == 34 * MIB
    assert all(one["start"] * 512 % MIB == 0 for one in parts.values())
    root = cut(raw, parts["root"], tmp_path / "root")
    run("e2fsck", "-fn", root)
    esp = cut(raw, parts["esp"], tmp_path / "esp")
    run("fsck.vfat", "-n", esp)
    config = run("mtype", "-i", esp, "::EFI/debian/grub.cfg")
    fields = dict(line.split("=", 1) for line in
                  run("blkid", "-p", "-o", "export", root).splitlines() if "=" in line)  # fmt: skip
    assert f"search.fs_uuid {fields['UUID']} root" in config
    fstab = run("debugfs", "-R", "cat /etc/fstab", root)
    assert fields["UUID"] in fstab
    says(fstab, "/boot/efi", "swap")
    menu = run("debugfs", "-R", "cat /boot/grub/grub.cfg", root)
    says(menu, f"root=UUID={fields['UUID']}", "quiet")
    swap = cut(raw, parts["swap"], tmp_path / "swap")
    assert "swap" in run("blkid", "-p", "-o", "value", "-s", "TYPE", swap)
    firmware = cut(raw, parts["firmware"], tmp_path / "firmware").read_bytes()
    assert firmware[: len(FIRMWARE)] == FIRMWARE
    assert not any(firmware[len(FIRMWARE) :])
    assert not any(cut(raw, parts["data"], tmp_path / "data").read_bytes())
    core = cut(raw, parts["bios"], tmp_path / "core").read_bytes()
    assert core.startswith(b"core")
    assert fields["UUID"].encode() in core
    assert raw.read_bytes()[:4] == b"boot"


def test_an_image_is_the_filesystem_of_the_disk(server_built: Built, tmp_path: Path) -> None:
    """Made once: for the partition, and packed for `images`."""
    out = server_built.world.root / "out/web"
    decompress(out / "web.img.gz", tmp_path / "image")
    image = (tmp_path / "image").read_bytes()
    root = cut(out / "a.img", partitions(out / "a.img")["root"], tmp_path / "root").read_bytes()
    assert root[: len(image)] == image
    assert not root[len(image) :].strip(b"\0")
    assert len(root) > len(image)


def test_the_block_map_is_of_the_disk(server_built: Built) -> None:
    out = server_built.world.root / "out/web"
    text = (out / "a.img.bmap").read_text()
    assert f"<ImageSize> {128 * MIB} </ImageSize>" in text
    mapped = int(text.partition("<MappedBlocksCount>")[2].partition("<")[0])
    # Zeros of a partition are mapped, too: a device may hold something else there.
    assert 80 * MIB < mapped * 4096 < 104 * MIB


def test_metadata_has_the_disk(server_built: Built) -> None:
    world = server_built.world
    told = yaml.safe_load((world.root / "out/web/web.yaml").read_text())
    (disk,) = told["disks"]
    assert (disk["name"], disk["table"], disk["loader"]) == ("server", "gpt", "grub")
    assert [one["name"] for one in disk["files"]] == [name for name in FILES if "bmap" not in name]
    for one in disk["files"]:
        path = world.root / "out/web" / one["name"]
        assert (one["size"], one["sha256"]) == (path.stat().st_size, sha256(path))
    assert disk["key"] == told["keys"]["disk:server"]
    assert {"mke2fs", "mkfs.vfat", "mcopy", "qemu-img", "isal"} <= {*told["tools"]}


# ---------------------------------------------------------------- what other commands say


def test_what_is_there_is_not_made_again(server: World) -> None:
    """A disk is in no cache: nothing asks for it as long as its files are there."""
    assert server.doit("why", "spec=web").code == 0
    found = server.build()
    assert found.pop("server") in ("hit", "skipped")
    assert {*found.values()} == {"hit"}
    assert ("disk", "server", "skipped") in kinds(server.json()["stages"])
    assert server.json()["published"] is False
    assert ", 0 bad" in server.doit("verify").out


def test_commands_know_the_stages_above_the_tree(server: World) -> None:
    says(server.doit("list", "--all", "spec=web").out, "bios:server", "disk:server", "esp:server",
         "file:a.qcow2", "filesystem:/")  # fmt: skip
    keys = {one["stage"]: one["key"] for one in server.json()["stages"]}
    told = server.doit("keys", "spec=web").out
    assert all(key in told for key in keys.values())
    # A disk is never up to date: doit's own status of that.
    info = server.doit("info", "disk:server", "spec=web", check=False).out
    says(info, "disk:server", "filesystem:/", "esp:server", "bios:server")
    drawn = server.doit("graph", "spec=web").out
    says(drawn, "filesystem /", "esp server", "disk server", "file a.qcow2")
    for form in ("dot", "mermaid", "svg"):
        says(server.doit("graph", "spec=web", f"format={form}").out, "disk server")
    says(server.doit("sizes", "spec=web").out, "web:", "layer loader")
    server.doit("report", "spec=web")
    page = (server.root / "report/web.html").read_text()
    assert all(name in page for name in ("a.qcow2", "a.img.gz", "esp", "filesystem"))
    says(server.doit("check", "spec=web").out, "right")
    says(server.doit("show", "spec=web").out, "disks:", "a.vmdk:")
    says(server.doit("sbom", "spec=web").out, "shim-signed")


def test_one_task_alone(server: World) -> None:
    server.doit("file:a.qcow2", "spec=web")
    server.doit("esp", "spec=web")
    assert server.leftovers() == []


# ---------------------------------------------------------------- what a change redoes


def drop(world: World, name: str) -> None:
    """Take a stage's entry from the cache."""
    (key,) = (one["key"] for one in world.json()["stages"] if one["name"] == name)
    found = [*world.root.glob(f"cache/images/*-{key}.*")]
    assert len(found) == 2
    for path in found:
        path.unlink()


SHIM = {
    "shim-signed": {f"/{name}": f"{name} 2" * 100 for name in LOADERS[:-1]},
}

LAYERS = ["layer loader", "layer app"]

FEW = "".join(line for line in BOOTED.splitlines(keepends=True)
              if "qcow2" in line or not line.startswith("      a."))  # fmt: skip
"""With one file alone."""


def test_a_file_that_is_gone_is_made_again_of_the_parts(server: World) -> None:
    server.write("web.yaml", FEW)
    server.build()
    before = server.json()["files"]
    drop(server, "a.qcow2")
    found = redone(server)
    assert found == {
        "disk server": [AGAIN],
        "file a.qcow2": ["not in the cache any more"],
    }
    assert server.json()["files"] == before


OTHER = BOOTED.partition("  server:\n")[2].partition("    files:\n")[0].replace("128M", "120M")


def test_two_disks_with_the_same_loader(server: World) -> None:
    """Their EFI system partitions and GRUB's cores have one key each, and are made once."""
    two = FEW + f"  other:\n{OTHER}    files: {{b.qcow2: {{format: qcow2}}}}\n"
    assert two.count("34M") == two.count("cmdline: quiet") == 2
    server.write("web.yaml", two.replace("34M", "35M"))
    server.build()
    stages = kinds(server.json()["stages"])
    for kind in ("esp", "bios"):
        found = {name: result for one, name, result in stages if one == kind}
        assert {*found} == {"server", "other"}
    assert sorted(result for kind, _name, result in stages if kind == "esp") == ["built", "hit"]
    assert [result for kind, _name, result in stages if kind == "disk"] == ["built", "built"]
    assert {"a.qcow2", "b.qcow2"} <= {*server.json()["files"]}
    server.doit("clean", "spec=web")
    assert not (server.root / "out/web/b.qcow2").exists()
    assert {*server.build().values()} <= {"hit", "skipped"}


def test_a_host_that_cannot_boot_a_disk(server: World) -> None:
    """What boots disks is needed by a test that is run, and by nothing else."""
    server.write("tests/up.sh", "true\n")
    server.write("web.yaml", FEW + "tests: [{script: tests/up.sh}]\n")
    run_without = without("/usr/bin/qemu-system-x86_64", "/usr/share/OVMF")
    told = run_without(server, ["build", "spec=web"])
    assert told.code != 0
    says(told.text, "the host has no command qemu-system-x86_64", "apt-get install qemu-system-x86")
    assert "file a.qcow2" not in told.text, "it is said before anything is made"
    for words in (["build", "spec=web", "test=off"], ["keys", "spec=web"], ["prune", "dry=1"]):
        done = run_without(server, words)
        assert done.code == 0, done.text
    assert server.json()["test"] == "off"
    assert [one[2] for one in kinds(server.json()["stages"]) if one[0] == "test"] == ["skipped"] * 2
    tools = yaml.safe_load((server.root / "out/web/web.yaml").read_text())["tools"]
    assert "qemu-system-x86_64" not in tools
    why = run_without(server, ["why", "spec=web"])
    says(why.text, "test", "server.bios", "a build would end here: the host has no command")
    says(run_without(server, ["doctor", "spec=web"]).text, "ok host tools for all that the spec makes",
         "note what boots its disks", "apt-get install ovmf qemu-system-x86")  # fmt: skip
    doctor = without("/usr/bin/qemu-img")(server, ["doctor", "spec=web"])
    assert doctor.code == 1
    says(doctor.text, "MISS host tools for all that the spec makes: apt-get install qemu-utils")


@pytest.mark.nightly
def test_a_disk_is_reproduced(server: World) -> None:
    server.write("web.yaml", FEW)
    server.build()
    says(server.doit("reproduce", "spec=web").out, "reproduced out/web/")


DISK = {"disk server", "file a.qcow2"}

TOP = {"layer settings", "filesystem /", "image /", *DISK}


AGAIN = "no cache keeps it: it is written for its files"


@pytest.mark.nightly
def test_what_a_change_of_the_spec_redoes(server: World) -> None:
    """One change after the other; all of them undone, nothing of the tree is made again."""
    server.write("web.yaml", FEW)
    server.build()
    for old, new, expected, causes in (
        ("{format: qcow2}", "{format: qcow2, container: gzip}", DISK,
         {"file a.qcow2": ["file: container raw → gzip"], "disk server": [AGAIN]}),
        ("size: 128M", "size: 136M", DISK, {"disk server": ["disk: size 128M → 136M"]}),
        ("size: 34M", "size: 36M", {"esp server", *DISK},
         {"esp server": ["esp: size 34M → 36M"],
          "disk server": ["disk: partition esp: size 34M → 36M"]}),
        ("cmdline: quiet", "cmdline: splash", TOP,
         {"layer settings": ["settings: /boot/grub/grub.cfg is another",
                             "settings: /etc/default/grub.d/strata.cfg is another"]}),
    ):  # fmt: skip
        server.edit(old, new)
        found = redone(server)
        assert {*found} == expected, new
        assert causes_of(found) == causes
    server.write("web.yaml", FEW)
    assert {*server.build().values()} <= {"hit", "skipped"}, "the old ones are still there"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shim-signed", {"layer loader", "layer app", "esp server", *TOP}),
        ("alpha", {"layer app", *TOP}),
    ],
)
def test_what_a_new_version_of_a_package_redoes(
    server: World, name: str, expected: set[str]
) -> None:
    """Last of all: the repository has them from then on."""
    server.write("web.yaml", FEW)
    server.build()
    files = {f"/usr/share/{name}": "2", **SHIM.get(name, {})}
    server.add(server.deb(name, "2", files=files))
    found = redone(server)
    assert {*found} == expected
    first = next(one for one in LAYERS if one in expected)
    assert causes_of(found) == {first: [f"packages: {name} 1 → 2 (from main)"]}


# ---------------------------------------------------------------- disks of other kinds


# ---------------------------------------------------------------- what is refused


def test_a_file_below_the_esp_is_refused(server: World) -> None:
    """The loader alone is there: what the tree has would be hidden once it is mounted."""
    script = "#!/bin/sh\nset -e\nmkdir -p /boot/efi/EFI\necho x > /boot/efi/EFI/mine\n"
    server.write("scripts/efi.sh", script, 0o755)
    server.edit("packages: [alpha]}", "packages: [alpha], script: scripts/efi.sh}")
    server.refused("ERROR: ", "the tree has /boot/efi/EFI", "loader alone")
