"""ext's own bytes: options taken apart, times settled, a byte's place named."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.filesystems import make, shown
from tasks.formats import ext_bytes

pytestmark = pytest.mark.starts


@pytest.mark.parametrize(
    ("kind", "options", "features", "extended", "rest", "tune"),
    [
        ("ext2", [], ["^has_journal", "^metadata_csum"], [], [], []),
        ("ext3", [], ["^has_journal", "^metadata_csum"], [], [], [["-O", "has_journal"]]),
        ("ext4", ["-m", "1", "-O^64bit", "-E", "stride=2"],
         ["^64bit", "^has_journal", "^metadata_csum"], ["stride=2"], ["-m", "1"],
         [["-O", "has_journal"], ["-O", "metadata_csum"]]),
        ("ext4", ["-O", "^metadata_csum,uninit_bg", "-O", "^has_journal"],
         ["uninit_bg", "^has_journal", "^metadata_csum"], [], [], []),
        ("ext4", ["-O", "none,extent"], ["none", "extent", "^has_journal", "^metadata_csum"], [], [], []),
        ("ext2", ["-j"], ["^has_journal", "^metadata_csum"], [], [], [["-O", "has_journal"]]),
        ("ext4", ["-J", "size=4", "-Emmp_update_interval=5"], ["^has_journal", "^metadata_csum"],
         ["mmp_update_interval=5"], [],
         [["-O", "has_journal", "-J", "size=4"], ["-O", "metadata_csum"]]),
        ("ext3", ["-O", "metadata_csum_seed,metadata_csum"], ["^has_journal", "^metadata_csum"], [], [],
         [["-O", "has_journal"], ["-O", "metadata_csum"], ["-O", "metadata_csum_seed"]]),
    ],
)  # fmt: skip
def test_options_are_taken_apart(
    kind: str, options: Sequence[str], features: list[str], extended: list[str], rest: list[str],
    tune: list[list[str]],
) -> None:  # fmt: skip
    assert ext_bytes.split_options(options, kind) == (features, extended, rest, tune)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files with fixed mtimes."""
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("content\n")
    (folder / "link").symlink_to("sub/file")
    for path in (folder / "sub/file", folder / "sub", folder):
        os.utime(path, (5, 1234567890))
    os.utime(folder / "link", (5, 1234567890), follow_symlinks=False)
    return folder


@pytest.mark.parametrize("options", [(), ("-I", "128", "-b", "1024"), ("-O", "^64bit,^has_journal,^metadata_csum,^flex_bg")])  # fmt: skip
@pytest.mark.parametrize("epoch", [1600000000, (1 << 31) + 5])
def test_settled_filesystems_are_the_same(
    tmp_path: Path, tree: Path, options: tuple[str, ...], epoch: int
) -> None:
    found: list[bytes] = []
    for number, read_at in enumerate((1_000_000_000, 1_500_000_000)):
        os.utime(tree / "sub/file", (read_at, 1234567890))  # and its ctime is now
        raw = tmp_path / f"{number}.raw"
        groups = make(raw, tree, *options, clock=epoch)
        if number:
            assert raw.read_bytes() != found[0], "there was nothing to settle"
        with raw.open("r+b") as file:  # a kernel's marks
            file.seek(1024 + 0x88)
            file.write(b"/some/where")
        ext_bytes.settle(raw, groups, epoch)
        found.append(raw.read_bytes())
        assert (
            subprocess.run(["e2fsck", "-fn", raw], check=False, capture_output=True).returncode == 0
        )
        said = shown(raw, "debugfs", "-R", "stat /sub/file")
        assert "mtime: 0x499602d2" in said
        assert f"atime: {epoch & 0xFFFFFFFF:#010x}" in said
        assert f"ctime: {epoch & 0xFFFFFFFF:#010x}" in said
        assert "Generation: 0 " in said
        header = shown(raw, "dumpe2fs", "-h")
        assert "Last mounted on:          <not available>" in header
        if epoch < 1 << 31:
            assert "Sun Sep 13 12:26:40 2020" in said
        elif "128" not in options:
            # As debugfs shows it in hex: 1.47.2 takes the date to be of 2174.
            assert f"atime: {epoch:#010x}:00000001" in said, "the extra bits of a time after 2038"
    assert found[0] == found[1]


def test_what_a_free_inode_held_is_gone(tmp_path: Path, tree: Path) -> None:
    raw = tmp_path / "raw"
    groups = make(raw, tree)
    subprocess.run(["debugfs", "-w", "-R", "symlink /secret of-the-build-host", raw], check=True,
                   capture_output=True)  # fmt: skip
    subprocess.run(["debugfs", "-w", "-R", "rm /secret", raw], check=True, capture_output=True)
    assert b"of-the-build-host" in raw.read_bytes()
    ext_bytes.settle(raw, groups, 5)
    assert b"of-the-build-host" not in raw.read_bytes()


def test_a_byte_has_a_place(tmp_path: Path, tree: Path) -> None:
    raw = tmp_path / "raw"
    groups = make(raw, tree)
    inode = int(shown(raw, "debugfs", "-R", "stat /sub/file").split()[1])
    at = groups[0][1] * ext_bytes.read_super(raw).block_size + (inode - 1) * 256
    assert ext_bytes.place(raw, groups, at) == ("mode", inode, 0)
    assert ext_bytes.place(raw, groups, at + 0x64) == ("generation", inode, 0)
    assert ext_bytes.place(raw, groups, at + 0xF0) == ("byte 0xf0", inode, 0)
    assert ext_bytes.place(raw, groups, 1024 + 0x68 + 15) == ("superblock, UUID", 0, 0)
    bitmap = groups[0][0] * ext_bytes.read_super(raw).block_size
    assert ext_bytes.place(raw, groups, bitmap + 1)[0] == "inode bitmap of group 0"
    block = int(shown(raw, "debugfs", "-R", "blocks /sub/file").split()[0])
    offset = block * ext_bytes.read_super(raw).block_size
    assert ext_bytes.place(raw, groups, offset) == (f"block {block}", 0, block)


def test_where_a_filesystem_was_mounted_is_not_where_its_inodes_are(
    tmp_path: Path, tree: Path
) -> None:
    raw = tmp_path / "raw"
    groups = make(raw, tree, "-L", "Inode table at 7")
    with raw.open("r+b") as file:
        file.seek(1024 + 0x88)
        file.write(b"/srv/Inode bitmap at 5/Inode table at 6")
    text = shown(raw, "dumpe2fs")
    assert "/srv/Inode bitmap at 5" in text
    assert ext_bytes.layout(text) == groups
    assert len(groups) == 1


def test_what_is_no_filesystem_is_said(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    for content in (b"", b"x" * 5000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no ext filesystem"):
            ext_bytes.read_super(path)
    with pytest.raises(ValueError, match="does not say"):
        ext_bytes.layout("nothing")


def test_the_first_difference() -> None:
    def first(one: bytes, other: bytes) -> int | None:
        return ext_bytes.first_difference(io.BytesIO(one), io.BytesIO(other))

    big = bytes(3 << 20)
    assert first(b"", b"") is None
    assert first(big, big) is None
    assert first(b"abc", b"abd") == 2
    assert first(b"abc", b"abcd") == 3
    assert first(big + b"a", big + b"b") == 3 << 20
    assert first(big, big + b"b") == 3 << 20
