"""Files of two stacks of trees, by their tarballs."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks.plan.difference import Side, difference
from tasks.rootfs.listed import both
from tasks.rootfs.tarball import SPARSE


def packed(folder: Path, name: str, members: dict[str, str | bytes]) -> Path:
    """A tarball as trees are packed: a file's content, or `kind` and what it leads to."""
    raw = folder / f"{name}.tar"
    with tarfile.open(raw, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, what in members.items():
            info = tarfile.TarInfo(f"./{path}")
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
                continue
            kind, _, info.linkname = what.partition(" ")
            info.type = {"folder": tarfile.DIRTYPE, "opaque": tarfile.DIRTYPE,
                         "whiteout": tarfile.CHRTYPE, "hard": tarfile.LNKTYPE,
                         "link": tarfile.SYMTYPE}[kind]  # fmt: skip
            if kind == "opaque":
                info.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
            archive.addfile(info)
    subprocess.run(["zstd", "-q", "--rm", raw], check=True)
    return folder / f"{name}.tar.zst"


def told(before: list[Path], after: list[Path]) -> list[str]:
    one, other = both(before, after)
    found = difference(Side(name="a", files=one), Side(name="b", files=other))
    return [part.line().partition(" (")[0] for part in found.files or ()]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return packed(tmp_path, "base", {
        "a": b"1", "same": b"1", "dir": "folder", "dir/old": b"1", "dir/kept": b"1", "l": "link a",
        "tree": "folder", "tree/deep": "folder", "tree/deep/x": b"1",
    })  # fmt: skip


def test_layers_are_laid_over_what_both_stand_on(tmp_path: Path, base: Path) -> None:
    layer = packed(tmp_path, "layer", {
        "a": b"2", "same": b"1", "dir": "folder", "dir/old": "whiteout", "l": "link b",
        "tree": "opaque", "tree/new": b"1", "tree/again": "hard tree/new",
    })  # fmt: skip
    assert told([base], [base]) == []
    assert told([base], [base, layer]) == [
        "  /a: other content, 1 bytes", "- /dir/old", "  /l: a → b", "+ /tree/again", "- /tree/deep",
        "- /tree/deep/x", "+ /tree/new",
    ]  # fmt: skip
    # The same from nothing that both stand on.
    (tmp_path / "other").mkdir()
    other = packed(tmp_path / "other", "base", {"a": b"1", "dir/kept": b"1", "dir": "folder"})
    assert "- /dir/kept" not in told([base], [other])
    assert "- /dir/old" in told([base], [other])


def test_a_damaged_tarball_is_an_error_that_is_known(tmp_path: Path, base: Path) -> None:
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(base.read_bytes()[:40])
    with pytest.raises((OSError, tarfile.TarError)):
        both([base], [bad])


def test_attributes_differ_and_holes_are_not_read(tmp_path: Path) -> None:
    found = []
    for name, value in (("one", "1"), ("two", "2")):
        tree = tmp_path / name
        tree.mkdir()
        with (tree / "holes").open("wb") as file:
            file.truncate(1 << 36)
            file.seek(1 << 35)
            file.write(value.encode())
        (tree / "a").write_bytes(b"same")
        os.setxattr(tree / "a", "user.note", value.encode())
        tarball = tmp_path / f"{name}.tar.zst"
        subprocess.run(["tar", "--create", "--file", tarball, "--zstd", "--format=posix", "--xattrs",
                        *SPARSE, "--directory", tree, "."], check=True)  # fmt: skip
        found.append([tarball])
    assert told(*found) == [
        "  /a: attributes user.note", f"  /holes: other content, {1 << 36} bytes"
    ]  # fmt: skip
