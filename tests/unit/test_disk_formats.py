"""Formats of disks as bytes: VHD's footer, VMDK's descriptor, block maps, extents that are copied."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from support.disks import GUID, MIB, content
from tasks.errors import BuildError
from tasks.formats import bmap, extents, vhd, vmdk
from tasks.host import holes


def test_a_footer_says_what_a_disk_is() -> None:
    found = vhd.footer(40 * MIB, GUID)
    assert len(found) == 512
    assert found[:16] == b"conectix\0\0\0\2\0\1\0\0"
    assert struct.unpack_from(">QI", found, 16) == ((1 << 64) - 1, 0)
    assert struct.unpack_from(">QQ", found, 40) == (40 * MIB, 40 * MIB)
    assert struct.unpack_from(">I", found, 60) == (2,)
    assert found[68:84].hex() == GUID.replace("-", "")
    total = sum(found) - sum(found[64:68])
    assert struct.unpack_from(">I", found, 64) == (~total & 0xFFFFFFFF,)
    assert not any(found[84:])


@pytest.mark.parametrize(
    ("sectors", "geometry"),
    [
        # Of the appendix's rule, by hand: its three ways for small disks, and the largest.
        (17 * 4 * 100, (100, 4, 17)),
        (17 * 1024 * 10 - 17, (1023, 10, 17)),
        (31 * 16 * 1000, (1000, 16, 31)),
        (63 * 16 * 2000, (2000, 16, 63)),
        (65535 * 16 * 63, (16191, 16, 255)),
        (1 << 32, (65535, 16, 255)),
    ],
)
def test_geometry(sectors: int, geometry: tuple[int, int, int]) -> None:
    found = vhd.geometry(sectors)
    assert found == geometry
    assert found[0] * found[1] * found[2] <= sectors


@pytest.mark.parametrize("size", [0, 511, 513, -512, vhd.LARGEST + 512])
def test_what_no_vhd_holds(size: int) -> None:
    with pytest.raises(ValueError, match="a VHD holds"):
        vhd.footer(size, GUID)
    assert vhd.footer(vhd.LARGEST, GUID)


# ---------------------------------------------------------------- VMDK


def described(text: bytes, sectors: int = 20) -> io.BytesIO:
    header = struct.pack("<4sIIQQQQ", b"KDMV", 3, 0, 2048, 128, 1, sectors).ljust(512, b"\0")
    return io.BytesIO(header + text.ljust(512 * min(sectors, 20), b"\0") + b"what follows")


@pytest.mark.parametrize("drawn", [b"b4c34371", b"7", b"ffffffff"])
def test_a_cid_is_by_the_disk(drawn: bytes) -> None:
    """Whatever was drawn, and however many digits that had."""
    text = b"version=1\nCID=%s\nparentCID=ffffffff\nlast line\n"
    file = described(text % drawn)
    vmdk.settle(file, "9abcdef0" + "0" * 24)
    assert file.getvalue() == described(text % b"1abcdef0").getvalue()


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(b""),
        io.BytesIO(b"QFI\xfb" + bytes(1020)),
        described(b"parentCID=ffffffff\n"),
        described(b"CID=1\nCID=2\n"),
        described(b"CID=1\n" + b"x" * 506, 1),
        described(b"CID=1\n", 0),
        described(b"CID=1\n", 1 << 40),
        io.BytesIO(described(b"CID=1\n").getvalue()[:600]),
    ],
)
def test_what_qemu_img_would_not_write(file: io.BytesIO) -> None:
    before = file.getvalue()
    with pytest.raises(BuildError, match="another VMDK than expected"):
        vmdk.settle(file, "0" * 32)
    assert file.getvalue() == before


# ---------------------------------------------------------------- extents


def copied(folder: Path, data: bytes, offset: int, *, sparse: bool) -> Path:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    if sparse:
        holes.settle(str(source), source.stat())
        subprocess.run(["fallocate", "--dig-holes", source], check=True)
    with source.open("rb") as read, target.open("wb") as write:
        os.ftruncate(write.fileno(), offset + len(data) + MIB)
        digest = extents.put(read.fileno(), len(data), write.fileno(), offset)
    assert digest == hashlib.sha256(data).hexdigest()
    return target


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, MIB, 3 * MIB + 4097, 5 * MIB - 1])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_copied_lies_there(tmp_path: Path, size: int, sparse: bool) -> None:
    data = content(size)
    found = copied(tmp_path, data, 2 * MIB, sparse=sparse).read_bytes()
    assert found == bytes(2 * MIB) + data + bytes(MIB)


def test_holes_are_by_content(tmp_path: Path) -> None:
    """Of a source without a hole, and of one that has all it may have."""
    data = bytes(2 * MIB) + b"a" + bytes(MIB - 1) + content(MIB) + bytes(MIB)
    found = []
    for sparse in (False, True):
        target = copied(tmp_path, data, MIB, sparse=sparse)
        with target.open("rb") as file:
            found.append(list(holes.data(file.fileno(), target.stat().st_size)))
        target.unlink()
    assert found[0] == found[1]
    # The byte, noise at both ends of the last part but one, and a byte in its middle.
    assert len(found[0]) == 4
    assert found[0][0] == (3 * MIB, 3 * MIB + 4096)


def test_a_source_that_became_shorter_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (tmp_path / "source").open("rb") as read, (tmp_path / "target").open("wb") as write:
        digest = extents.put(read.fileno(), 5000, write.fileno(), 0)
    assert digest == hashlib.sha256(b"abc".ljust(5000, b"\0")).hexdigest()


def test_runs_of_blocks_that_hold_something() -> None:
    blocks = b"".join(one.ljust(4096, b"\0") for one in (b"", b"a", b"b", b"", b"", b"c"))
    assert list(extents.filled(blocks)) == [(4096, 12288), (20480, 24576)]
    assert list(extents.filled(blocks + b"d")) == [(4096, 12288), (20480, 24577)]
    assert list(extents.filled(blocks + b"\0" * 9)) == [(4096, 12288), (20480, 24576)]
    assert list(extents.filled(bytes(MIB))) == []


# ---------------------------------------------------------------- block maps


def mapped(path: Path, spans: list[tuple[int, int]]) -> str:
    with path.open("rb") as file:
        return bmap.text_of(file.fileno(), path.stat().st_size, spans)


def test_a_map_says_what_is_to_be_written(tmp_path: Path) -> None:
    data = content(100 * 4096 + 1000)
    path = tmp_path / "disk"
    path.write_bytes(data)
    # In no order, one that touches another, one that shares a block with another, an empty one.
    spans = [(40960, 40961), (0, 512), (8192, 12288), (12288, 16384), (16000, 17000), (5, 5),
             (100 * 4096 + 999, 100 * 4096 + 1000)]  # fmt: skip
    text = mapped(path, spans)
    root = ElementTree.fromstring(text)
    assert root.attrib == {"version": "2.0"}
    told = {one.tag: (one.text or "").strip() for one in root}
    ranges = [((one.text or "").strip(), one.attrib["chksum"]) for one in root.iter("Range")]
    assert [name for name, _sum in ranges] == ["0", "2-4", "10", "100"]
    places = ((0, 4096), (8192, 20480), (40960, 45056), (409600, 410600))
    assert [digest for _name, digest in ranges] == [
        hashlib.sha256(data[begin:end]).hexdigest() for begin, end in places
    ]
    assert told["ImageSize"] == str(len(data))
    assert (told["BlockSize"], told["BlocksCount"], told["MappedBlocksCount"]) == (
        "4096", "101", "6",
    )  # fmt: skip
    unsigned = re.sub(r"(?<=<BmapFileChecksum> )\w{64}", "0" * 64, text)
    assert told["BmapFileChecksum"] == hashlib.sha256(unsigned.encode()).hexdigest()
    assert mapped(path, sorted(spans)) == text


def test_a_map_of_nothing_and_of_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 4096)
    assert "<MappedBlocksCount> 0 <" in mapped(path, [])
    assert "Range" not in mapped(path, [])
