"""Partition tables, boot sectors and swap headers: as sgdisk, sfdisk and mkswap read and write them."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from support.disks import GUID, LINUX, MIB, SWAP, TYPES, grub, guid_of
from tasks.errors import BuildError
from tasks.formats import bootsector, gpt, mbr, swap


def entry(name: str, first: int, size: int, **fields: object) -> gpt.Entry:
    given = {"type": LINUX, "guid": guid_of(name), **fields}
    return gpt.Entry(name=name, first=first, size=size, **given)  # type: ignore[arg-type]


def file_of(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, piece in pieces:
            file.seek(offset)
            file.write(piece)
    assert path.stat().st_size == size
    return path


def head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def said(*argv: object) -> str:
    done = subprocess.run([str(one) for one in argv], check=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})  # fmt: skip
    return done.stdout.decode("utf-8", "replace")


def listed(path: Path, sector: int) -> str:
    """What fdisk reads with sectors of this size, which sfdisk cannot be told; nothing it warns of."""
    told = said("fdisk", "--sector-size", sector, "--list-details", path)
    assert "corrupt" not in told
    assert "warning" not in told.lower()
    return told


ENTRIES = [
    entry("esp", MIB, 64 * MIB, type=TYPES["esp"]),
    entry("größe \U0001f4be", 65 * MIB, 3 * MIB),
    entry("root", 68 * MIB, 100 * MIB, attributes=gpt.GROW),
]


def test_sgdisk_finds_nothing_wrong_and_all_that_was_asked(tmp_path: Path) -> None:
    path = file_of(tmp_path / "disk", 200 * MIB, gpt.tables(200 * MIB, GUID, ENTRIES))
    assert "No problems found" in said("sgdisk", "-v", path)
    assert f"Disk identifier (GUID): {GUID.upper()}" in said("sgdisk", "-p", path)
    for number, one in enumerate(ENTRIES, 1):
        told = said("sgdisk", "-i", number, path)
        assert f"Partition GUID code: {one.type.upper()}" in told
        assert f"Partition unique GUID: {one.guid.upper()}" in told
        assert f"First sector: {one.first // 512} " in told
        assert f"Partition size: {one.size // 512} sectors" in told
        assert f"Partition name: '{one.name}'" in told or not one.name.isascii()
        assert f"Attribute flags: {one.attributes:016X}" in told


def test_sfdisk_reads_what_was_asked(tmp_path: Path) -> None:
    size = 200 * MIB
    path = file_of(tmp_path / "disk", size, gpt.tables(size, GUID, ENTRIES))
    assert "No errors detected." in said("sfdisk", "--verify", path)
    told = said("sfdisk", "--dump", path)
    assert f"label-id: {GUID.upper()}" in told
    assert f"first-lba: 34\nlast-lba: {size // 512 - 34}\n" in told
    rows = re.findall(r"start= *(\d+), size= *(\d+), type=(\S+), uuid=([^,\s]+)", told)
    assert [(int(first) * 512, int(length) * 512, kind.lower(), guid.lower())
            for first, length, kind, guid in rows] == [
        (one.first, one.size, one.type, one.guid) for one in ENTRIES
    ]  # fmt: skip
    assert 'attrs="GUID:59"' in told.splitlines()[-1]
    assert told.count("GUID:59") == 1


@pytest.mark.parametrize("sector", [512, 4096])
def test_fdisk_reads_the_same_with_sectors_of_each_size(tmp_path: Path, sector: int) -> None:
    size = 200 * MIB
    path = file_of(tmp_path / "disk", size, gpt.tables(size, GUID, ENTRIES, sector=sector))
    told = listed(path, sector)
    assert f"Disk identifier: {GUID.upper()}" in told
    assert f"Last usable LBA: {size // sector - 16384 // sector - 2}\n" in told
    assert f"Alternative LBA: {size // sector - 1}\n" in told
    rows = re.findall(r"disk\d +(\d+) +(\d+) +(\d+) (\S+) +(\S+) (\S+)(?: (GUID:59))?", told)
    assert [(int(first) * sector, (int(last) + 1) * sector, int(length) * sector, kind.lower(), guid.lower())
            for first, last, length, kind, guid, *_ in rows] == [
        (one.first, one.first + one.size, one.size, one.type, one.guid) for one in ENTRIES
    ]  # fmt: skip


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("kept", [slice(1, 3), slice(3, 5)])
def test_each_copy_alone_is_a_table(tmp_path: Path, sector: int, kept: slice) -> None:
    size = 200 * MIB
    pieces = gpt.tables(size, GUID, ENTRIES, sector=sector)
    path = file_of(tmp_path / "disk", size, [pieces[0], *pieces[kept]])
    told = said("fdisk", "--sector-size", sector, "--list-details", path)
    assert "corrupt" in told
    for one in ENTRIES:
        assert one.guid.upper() in told


def test_a_partition_may_end_where_the_second_copy_begins() -> None:
    size = 16 * MIB
    for sector, tail in ((512, 33 * 512), (4096, 5 * 4096)):
        assert gpt.tail(sector) == tail
        fits = entry("a", MIB, size - MIB - tail)
        gpt.tables(size, GUID, [fits], sector=sector)
        over = entry("a", MIB, size - MIB - tail + sector)
        with pytest.raises(ValueError, match="behind"):
            gpt.tables(size, GUID, [over], sector=sector)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("a", MIB, MIB), entry("b", 2 * MIB - 512, MIB)],
        [entry("a", 33 * 512, MIB)],
        [entry("a", MIB + 1, MIB)],
        [entry("a", MIB, 1000)],
        [entry("a", MIB, 0)],
        [entry("a" * 37, MIB, MIB)],
        [entry("\U0001f4be" * 18 + "a", MIB, MIB)],
        [entry(str(number), MIB * (number + 1), MIB) for number in range(129)],
    ],
)
def test_what_no_table_has(entries: list[gpt.Entry]) -> None:
    with pytest.raises(ValueError, match=r"."):
        gpt.tables(512 * MIB, GUID, entries)


def test_the_most_that_a_table_has(tmp_path: Path) -> None:
    entries = [entry(f"{number:036}", MIB * (number + 1), MIB) for number in range(128)]
    path = file_of(tmp_path / "disk", 130 * MIB, gpt.tables(130 * MIB, GUID, entries))
    assert "No problems found" in said("sgdisk", "-v", path)
    assert f"'{127:036}'" in said("sgdisk", "-i", 128, path)


def test_a_protective_mbr_of_a_disk_that_it_cannot_tell_of() -> None:
    ((offset, piece),) = mbr.protective(4 << 40)
    assert (offset, len(piece)) == (440, 72)
    assert piece[6:22] == b"\0\0\2\0\xee\xff\xff\xff\1\0\0\0\xff\xff\xff\xff"
    ((_, small),) = mbr.protective(MIB)
    assert struct.unpack_from("<II", small, 14) == (1, 2047)


# ---------------------------------------------------------------- MBR


ROWS = [
    mbr.Entry(type="0c", first=MIB, size=64 * MIB),
    mbr.Entry(type="83", first=65 * MIB, size=10 << 30, active=True),
]


def test_an_mbr_is_as_sfdisk_writes_it(tmp_path: Path) -> None:
    size = 12 << 30
    path = file_of(tmp_path / "disk", size, mbr.table(0x11223344, ROWS))
    assert "No errors detected." in said("sfdisk", "--verify", path)
    told = said("sfdisk", "--dump", path)
    assert "label-id: 0x11223344" in told
    found = re.findall(r"start= *(\d+), size= *(\d+), type=(\w+)(, bootable)?", told)
    assert [(int(first) * 512, int(length) * 512, kind.zfill(2), bool(active))
            for first, length, kind, active in found] == [
        (one.first, one.size, one.type, one.active) for one in ROWS
    ]  # fmt: skip
    theirs = file_of(tmp_path / "theirs", size, [])
    subprocess.run(["/usr/sbin/sfdisk", "-q", theirs], input=told, text=True, check=True)
    assert head(theirs, 512) == head(path, 512)


def test_an_mbr_with_larger_sectors(tmp_path: Path) -> None:
    path = file_of(tmp_path / "disk", 12 << 30, mbr.table(0x11223344, ROWS, sector=4096))
    told = listed(path, 4096)
    assert "Disk identifier: 0x11223344" in told
    assert re.search(r"disk1 +256 +16639 +16384 .* c ", told)
    assert re.search(r"disk2 +\* +16640 +2638079 +2621440 ", told)


def test_what_no_mbr_has() -> None:
    good = mbr.Entry(type="83", first=MIB, size=MIB)
    for rows in (
        [good] * 2,
        [good] * 5,
        [mbr.Entry(type="83", first=MIB, size=1 << 41)],
        [mbr.Entry(type="83", first=MIB + 1, size=MIB)],
        [mbr.Entry(type="83", first=0, size=MIB)],
    ):
        with pytest.raises(ValueError, match=r"."):
            mbr.table(1, rows)
    assert mbr.table(1, [mbr.Entry(type="83", first=MIB, size=(1 << 41) - MIB)])


# ---------------------------------------------------------------- boot sector, swap


def test_grub_is_told_where_it_lies() -> None:
    image = grub(100)
    (code_at, code), (core_at, core) = bootsector.placed(image, 5 * MIB)
    assert (code_at, len(code)) == (0, 440)
    assert (core_at, len(core)) == (5 * MIB, 100 * 512)
    first = 5 * MIB // 512
    assert struct.unpack_from("<Q", code, 0x5C) == (first,)
    assert (code[0x64], code[0x66:0x68]) == (0xFF, b"\x90\x90")
    assert struct.unpack_from("<QHH", core, 0x1F4) == (first + 1, 99, 0x820)
    # Nothing else of either is another.
    there = [at for at in range(440) if code[at] != image[at]]
    assert set(there) <= {*range(0x5C, 0x65), 0x66, 0x67}
    assert core[:0x1F4] == image[512 : 512 + 0x1F4]
    assert core[512:] == image[1024:]


def test_grub_that_is_none() -> None:
    image = grub(2)
    assert bootsector.placed(image, 512)[1][0] == 512
    for bad in (b"", image[:512], image[:-1], image[:1024], bytes(512) + image[512:],
                image[:512] + bytes(512 * 0x10000)):  # fmt: skip
        with pytest.raises(BuildError, match=f"has {len(bad)} bytes: expected boot.img"):
            bootsector.placed(bad, 512)


@pytest.mark.parametrize("size", [swap.LEAST, MIB, 300 * MIB, 300 * MIB + 1024])
def test_a_swap_area_is_as_mkswap_makes_it(tmp_path: Path, size: int) -> None:
    theirs = file_of(tmp_path / "theirs", size, [])
    theirs.chmod(0o600)
    said("mkswap", "-U", SWAP, theirs)
    mine = swap.header(size, SWAP)
    assert len(mine) == 4096
    assert head(theirs, 4096) == mine
    path = file_of(tmp_path / "mine", size, [(0, mine)])
    assert SWAP in said("swaplabel", path)


def test_a_swap_area_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="has 40960 or more"):
        swap.header(swap.LEAST - 1, SWAP)
