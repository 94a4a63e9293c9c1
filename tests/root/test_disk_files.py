"""Disks of parts, and each file that they are published as: read again by the tools of others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support import disks
from support.disks import MIB, SWAP, content, disk, disk_job, file_job, grub, part
from tasks.builder import Builder
from tasks.errors import BuildError, DamagedEntry, NoRoom
from tasks.formats import compress, qcow2
from tasks.host import holes
from tasks.host.log import Log
from tasks.plan.top_jobs import DiskJob
from tasks.spec.disks import CORE
from tasks.stages import disk as stage_disk
from tasks.stages import file as stage_file

ROOT, ESP, DATA = content(9 * MIB + 4096), content(2 * MIB, 2), content(100_001, 3)
"""What lies in the partitions: the first ends with noise, as a filesystem that was shrunk may."""


def server(into: Builder, **fields: Any) -> DiskJob:
    """A disk with one partition of each kind but verity, whose parts are in the cache."""
    given: dict[str, Any] = {"size": 64 * MIB, "firmware": ("uefi", "bios"), **fields}
    made = disk(
        part("bios", MIB, "bios"),
        part("esp", 4 * MIB, "esp", mount="/boot/efi"),
        part("swap", 8 * MIB, "swap"),
        part("data", None, "source"),
        part("free", 3 * MIB, "empty"),
        part("root", rest=True, grow=True, mount="/"),
        **given,
    )
    source = into.reach.root / "data.bin"
    source.write_bytes(DATA)
    parts = {"bios": disks.put(into, "bios", grub()), "esp": disks.put(into, "esp", ESP),
             "root": disks.put(into, "root", ROOT)}  # fmt: skip
    return disk_job(made, parts, sources={"data": source}, uuids={"swap": SWAP})


@dataclass(frozen=True)
class Made:
    """A disk that was built, and all it holds."""

    builder: Builder
    job: DiskJob
    path: Path

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    def file(self, format: str, container: str = "raw") -> tuple[Path, dict[str, Any]]:
        """A file of it, and its record; of a map that of the raw one."""
        job = file_job(self.job, format.replace("bmap", "raw"), container, bmap=format == "bmap")
        stage_file.build(job, self.builder)
        if format == "bmap":
            job = disks.map_job(job)
            stage_file.build(job, self.builder)
        cache = self.builder.cache
        record = json.loads(cache.record(job.stage).read_text())
        assert sorted(one.name for one in self.builder.scratch.iterdir()) == [
            self.path.name, self.path.with_suffix(".spans").name,
        ]  # fmt: skip
        return cache.file(job.stage), record


def made(folder: Path, **fields: Any) -> Made:
    builder = disks.builder(folder)
    job = server(builder, **fields)
    stage_disk.build(job, builder)
    return Made(builder, job, stage_disk.path(builder.scratch, job.stage))


@pytest.fixture
def whole(tmp_path: Path) -> Made:
    return made(tmp_path / "first")


def said(*argv: object) -> str:
    return subprocess.run(
        [str(one) for one in argv], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def test_all_lies_where_the_table_says(whole: Made) -> None:
    found = whole.content
    assert len(found) == 64 * MIB
    assert "No problems found" in said("sgdisk", "-v", whole.path)
    rows = re.findall(r"start= *(\d+), size= *(\d+)", said("sfdisk", "--dump", whole.path))
    places = [(int(first) * 512, int(size) * 512) for first, size in rows]
    assert [(first // MIB, size // MIB) for first, size in places] == [
        (1, 1), (2, 4), (6, 8), (14, 1), (15, 3), (18, 45),
    ]  # fmt: skip
    held = [found[first : first + size] for first, size in places]
    core = grub()[512:]
    assert held[0][:500] == core[:500]
    assert held[0][512 : len(core)] == core[512:]
    assert held[1] == ESP.ljust(4 * MIB, b"\0")
    assert held[2][4086:4096] == b"SWAPSPACE2"
    assert held[3] == DATA.ljust(MIB, b"\0")
    assert held[4] == bytes(3 * MIB)
    assert held[5] == ROOT.ljust(45 * MIB, b"\0")
    assert found[:0x5C] == grub()[:0x5C]
    assert found[510:512] == b"\x55\xaa"
    assert holes.used(whole.path) < 3 * MIB  # noise and tables, and no more
    assert whole.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "fields", [{"table": "mbr"}, {"sector": 4096}, {"size": None, "slack": 5 * MIB}]
)
def test_other_disks_of_the_same_parts(tmp_path: Path, fields: dict[str, Any]) -> None:
    builder = disks.builder(tmp_path / "build")
    job = server(builder, **fields)
    if fields.get("table") == "mbr":  # the core lies in no partition there, and four is the most
        kept = tuple(one for one in job.disk.partitions if one.name not in ("bios", "free"))
        parts = {CORE if name == "bios" else name: one for name, one in job.parts.items()}
        job = replace(job, disk=replace(job.disk, partitions=kept), parts=parts)
    stage_disk.build(job, builder)
    path = stage_disk.path(builder.scratch, job.stage)
    found = path.read_bytes()
    assert found.count(ROOT) == found.count(ESP) == found.count(DATA) == 1
    sector = fields.get("sector", 512)
    told = said("fdisk", "--sector-size", sector, "--list", path)
    (root,) = re.findall(r"disk\d +(?:\* +)?(\d+) +\d+ +\d+ .*(?:Linux|filesystem)\n$", told)
    assert int(root) * sector == found.index(ROOT)
    if fields.get("table") == "mbr":
        assert found[512 + 1024 : 512 + 100 * 1024] == grub()[512 + 1024 : 512 + 100 * 1024]
        assert re.search(r"disk4 +\* ", told)
    if "size" in fields:
        assert len(found) == (18 + 10 + 5 + 1) * MIB


def test_the_same_bytes_and_holes_in_another_folder_from_files_with_other_holes(
    tmp_path: Path, whole: Made
) -> None:
    builder = disks.builder(tmp_path / "second")
    job = server(builder)
    for one in job.parts.values():
        subprocess.run(["fallocate", "--dig-holes", builder.cache.file(one)], check=True)
        builder.cache.memory.forget(builder.cache.file(one))
    stage_disk.build(job, builder)
    again = stage_disk.path(builder.scratch, job.stage)
    stage_disk.build(job, builder)  # in the place of the first
    ranges = []
    for path in (whole.path, again):
        with path.open("rb") as file:
            ranges.append(list(holes.data(file.fileno(), path.stat().st_size)))
    assert again.read_bytes() == whole.content
    assert ranges[0] == ranges[1]
    assert len(ranges[0]) > 8


# ---------------------------------------------------------------- what goes wrong


def test_a_part_that_rotted_is_dropped(tmp_path: Path) -> None:
    for name in ("root", "bios"):
        builder = disks.builder(tmp_path / name)
        job = server(builder)
        path = builder.cache.file(job.parts[name])
        builder.cache.require(job.parts[name])
        known = path.stat()
        flipped = bytearray(path.read_bytes())
        flipped[-1] ^= 1
        path.write_bytes(flipped)
        builder.cache.memory.known[str(path)][0] = builder.cache.memory._mark(path)  # unseen
        assert known.st_size == len(flipped)
        with pytest.raises(DamagedEntry, match=r"its SHA-256 is not its record's"):
            stage_disk.build(job, builder)
        assert not path.exists()
        assert list(builder.scratch.iterdir()) == []
        assert not stage_disk.path(builder.scratch, job.stage).exists()


def test_a_file_of_the_project_is_what_the_plan_saw(tmp_path: Path) -> None:
    builder = disks.builder(tmp_path / "build")
    job = server(builder)
    path = job.sources["data"]
    where = r"^specs/web\.yaml: disks\.server\.partitions\.data\.source: .*data\.bin "
    for other in (DATA[:-1], DATA[:-1] + b"!"):
        path.write_bytes(other)
        with pytest.raises(BuildError, match=where + "was changed since the build began"):
            stage_disk.build(job, builder)
    path.unlink()
    with pytest.raises(BuildError, match=where + "cannot be read: No such file"):
        stage_disk.build(job, builder)
    (tmp_path / "secret").write_bytes(DATA)
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(BuildError, match=where + "cannot be read: it is outside the project"):
        stage_disk.build(job, builder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BuildError, match=where + "cannot be read: it is no regular file"):
        stage_disk.build(job, builder)
    assert list(builder.scratch.iterdir()) == []


def test_what_is_too_small_is_named(tmp_path: Path) -> None:
    builder = disks.builder(tmp_path / "build")
    with pytest.raises(BuildError, match=r"^specs/web\.yaml: disks\.server\.partitions\.root\.size: "
                       r"9 MiB are too small: what is put into it takes 10 MiB\n  make the disk 29 MiB"):  # fmt: skip
        stage_disk.build(server(builder, size=28 * MIB), builder)
    stage_disk.build(server(builder, size=29 * MIB), builder)
    with pytest.raises(BuildError, match=r"^specs/web\.yaml: disks\.server: an MBR has 4"):
        stage_disk.build(server(builder, table="mbr"), builder)
    few = server(builder)
    old = disk(part("root", rest=True), size=64 * MIB, table="mbr")
    core = disks.put(builder, "core", grub(2048))
    with pytest.raises(BuildError, match=r"^specs/web\.yaml: disks\.server\.table: 1023\.5 KiB are too "
                       r"small: GRUB's core, .* takes 1 MiB\n  use a GPT"):  # fmt: skip
        stage_disk.build(disk_job(old, {CORE: core, "root": few.parts["root"]}), builder)
    small = replace(few.disk, partitions=(part("esp", MIB, "esp"), *few.disk.partitions[2:]))
    with pytest.raises(BuildError, match=r"disks\.server\.partitions\.esp\.size: 1 MiB are too"):
        stage_disk.build(replace(few, disk=small), builder)


def test_no_room(tmp_path: Path) -> None:
    """Asked for before anything is written."""
    builder = disks.builder(tmp_path / "build")
    job = server(builder)
    tight = tmp_path / "tight"
    tight.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", tight], check=True)
    try:
        there = replace(builder, scratch=tight, log=Log(None, places={"scratch": tight}))
        with pytest.raises(NoRoom, match=r"^writing disk server needs \d+\.\d MiB in scratch"):
            stage_disk.build(job, there)
        assert list(tight.iterdir()) == []
    finally:
        subprocess.run(["umount", tight], check=True)


def test_what_is_known_of_a_file_is_by_the_disks_parts(tmp_path: Path) -> None:
    builder = disks.builder(tmp_path / "build")
    job = server(builder)
    builder.cache.accepts = lambda _stage, _record: True
    secret = replace(job, parts={**job.parts, "esp": disks.put(builder, "2", ESP, private=True)})
    foreign = replace(job, parts={**job.parts, "esp": disks.put(builder, "3", ESP, doubtful=True)})
    for made, private, trust in ((job, False, None), (secret, True, None), (foreign, False, "any")):
        one = file_job(made, "raw")
        stage_file.build(one, builder)
        record = json.loads(builder.cache.record(one.stage).read_text())
        assert (record["facts"]["private"], record.get("trust")) == (private, trust)


# ---------------------------------------------------------------- files


def info(path: Path, format: str) -> dict[str, Any]:
    found = json.loads(said("qemu-img", "info", "--output=json", "-f", format, path))
    assert isinstance(found, dict)
    return found


def raw_of(path: Path, format: str, folder: Path) -> bytes:
    """What qemu-img reads in a file."""
    there = folder / "again"
    said("qemu-img", "convert", "-f", format, "-O", "raw", path, there)
    return there.read_bytes()


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vpc"])
def test_each_format_holds_the_disk(whole: Made, tmp_path: Path, format: str) -> None:
    path, record = whole.file("vhd" if format == "vpc" else format)
    if format != "vpc":  # which has nothing that can be checked
        said("qemu-img", "check", "-f", format, path)
    assert info(path, format)["virtual-size"] == 64 * MIB
    assert raw_of(path, format, tmp_path) == whole.content
    assert said("qemu-img", "compare", "-f", format, "-F", "raw", path, whole.path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = record["facts"]
    assert facts["raw"] == facts["packed"]
    assert facts["raw"]["sha256"] == record["file"]["sha256"] == digest
    assert facts["disk"] == {"size": 64 * MIB}
    assert (facts["container"], facts["private"]) == ("raw", False)
    if format == "qcow2":
        told = info(path, format)["format-specific"]["data"]
        assert (told["compat"], told["compression-type"]) == ("1.1", "zstd")
        assert "backing-filename" not in info(path, format)


def test_a_vhd_is_qemus_but_for_what_that_draws(whole: Made, tmp_path: Path) -> None:
    path, _record = whole.file("vhd")
    theirs = tmp_path / "theirs"
    said("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on",
         whole.path, theirs)  # fmt: skip
    mine, other = path.read_bytes(), theirs.read_bytes()
    assert len(mine) == len(other) == 64 * MIB + 512
    differ = {at - 64 * MIB for at in range(64 * MIB, len(mine)) if mine[at] != other[at]}
    # Its time, the geometry (there the largest of all), the sum and the UUID.
    assert differ <= {*range(24, 28), *range(56, 60), *range(64, 84)}
    assert mine[: 64 * MIB] == other[: 64 * MIB]
    assert holes.used(path) < 4 * MIB


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("container", ["gzip", "zstd", "xz"])
def test_a_container(whole: Made, format: str, container: str) -> None:
    path, record = whole.file(format, container)
    command = compress.DECOMPRESS[container]
    unpacked = subprocess.run([*command, path], check=True, stdout=subprocess.PIPE).stdout
    plain, _record = whole.file(format)
    assert unpacked == plain.read_bytes()
    assert (unpacked == whole.content) is (format == "raw")
    facts = record["facts"]
    assert facts["raw"]["sha256"] == hashlib.sha256(unpacked).hexdigest()
    assert facts["packed"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts["format"], facts["container"]) == (format, container)


def test_the_same_bytes_from_another_folder_at_another_time(whole: Made, tmp_path: Path) -> None:
    other = made(tmp_path / "elsewhere")
    os.utime(other.path, (1, 1))
    for format in ("raw", "qcow2", "vhd", "vmdk", "bmap"):
        digests = {
            one.file(format)[1]["file"]["sha256"] for one in (whole, other) for _again in (1, 2)
        }
        assert len(digests) == 1, format


def test_a_device_that_held_something_gets_the_disk_by_its_map(whole: Made, tmp_path: Path) -> None:
    """All that belongs to a partition's content, zeros as well; what nobody reads stays as it was."""
    path, record = whole.file("bmap")
    root = ElementTree.fromstring(path.read_text())
    device = bytearray(b"\xa5" * (64 * MIB))
    disk = whole.content
    for one in root.iter("Range"):
        first, _, last = (one.text or "").strip().partition("-")
        begin, end = int(first) * 4096, (int(last or first) + 1) * 4096
        assert hashlib.sha256(disk[begin:end]).hexdigest() == one.attrib["chksum"]
        device[begin:end] = disk[begin:end]
    table = said("sfdisk", "--dump", whole.path)
    starts = [int(one) * 512 for one in re.findall(r"start= *(\d+)", table)]
    held = {1: ESP, 3: DATA, 5: ROOT, 0: disk[MIB : MIB + 200 * 512]}
    for number, data in held.items():
        assert device[starts[number] : starts[number] + len(data)] == data
    assert (
        device[:MIB].rstrip(b"\xa5")
        == disk[: 34 * 512].ljust(36864, b"\0")[: len(device[:MIB].rstrip(b"\xa5"))]
    )
    # Signs of what was there: btrfs and LUKS have theirs beyond the first page, RAID at the end.
    for number, size in ((2, 8 * MIB), (4, 3 * MIB)):
        place = starts[number]
        for begin in (place, place + size - MIB):
            assert device[begin : begin + MIB] == disk[begin : begin + MIB]
        assert device[place + MIB : place + size - MIB].strip(b"\xa5") == b""
    (tmp_path / "device").write_bytes(device)
    assert "No problems found" in said("sgdisk", "-v", tmp_path / "device")
    assert device.count(b"\xa5" * 4096) > 40 * 256
    assert record["facts"]["disk"] == {"size": 64 * MIB}


def test_bmaptool_believes_a_map(whole: Made, tmp_path: Path) -> None:
    path, _record = whole.file("bmap")
    said("bmaptool", "copy", "--bmap", path, whole.path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == whole.content


def test_a_file_of_a_disk_that_is_not_there_yet_or_too_large(tmp_path: Path) -> None:
    builder = disks.builder(tmp_path / "build")
    job = server(builder)
    assert not stage_disk.path(builder.scratch, job.stage).exists()
    one = file_job(job, "raw")
    stage_file.build(one, builder)
    disk = stage_disk.path(builder.scratch, job.stage)
    assert builder.cache.require(one.stage).path.read_bytes() == disk.read_bytes()
    os.truncate(disk, 3 << 40)
    with pytest.raises(BuildError, match=r"disks\.server: 3072 GiB are more than a VHD holds"):
        stage_file.build(file_job(job, "vhd"), builder)
    assert not any(one.suffix == ".file" for one in builder.scratch.iterdir())


def test_a_tool_that_fails_leaves_nothing(whole: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qcow2, "OPTIONS", ("compression_type=none",))
    with pytest.raises(BuildError, match=r"qemu-img, which makes file server\.qcow2, failed"):
        whole.file("qcow2")
    assert not any(one.suffix == ".file" for one in whole.builder.scratch.iterdir())
    assert not whole.builder.cache.file(file_job(whole.job, "qcow2").stage).exists()
