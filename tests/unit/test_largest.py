"""What takes most of an image, of tarballs laid over each other as overlayfs does."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks.rootfs.largest import COUNT, largest

pytestmark = pytest.mark.starts

MIB = 1 << 20

STATUS = "".join(
    f"Package: {name}\nStatus: install ok {state}\n{size}\n\n"
    for name, state, size in (
        ("small", "installed", "Installed-Size: 1"), ("big", "installed", "Installed-Size: 2048"),
        ("same", "installed", "Installed-Size: 2048"), ("gone", "config-files", "Installed-Size: 9999"),
        ("odd", "installed", "Installed-Size: many"), ("none", "installed", "Section: x"),
    )
)  # fmt: skip


def packed(folder: Path, name: str, *members: tuple[str, str, int | bytes]) -> Path:
    """A tarball of (path, kind, size or content), as trees are packed."""
    raw = folder / f"{name}.tar"
    with tarfile.open(raw, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, kind, content in members:
            info = tarfile.TarInfo(f"./{path}")
            info.type = {"folder": tarfile.DIRTYPE, "opaque": tarfile.DIRTYPE,
                         "whiteout": tarfile.CHRTYPE, "link": tarfile.LNKTYPE,
                         "symlink": tarfile.SYMTYPE, "file": tarfile.REGTYPE}[kind]  # fmt: skip
            if kind == "opaque":
                info.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
            if kind == "symlink":
                assert isinstance(content, bytes)
                info.linkname = content.decode()
            if kind == "link":
                info.linkname = "usr/lib/a"
            if kind == "file":
                data = content if isinstance(content, bytes) else bytes(content)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                archive.addfile(info)
    subprocess.run(["zstd", "-q", "--rm", raw], check=True)
    return folder / f"{name}.tar.zst"


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    return [
        packed(
            tmp_path, "base",
            ("var/lib/dpkg/status", "file", b"Package: old\nStatus: x ok installed\nInstalled-Size: 1\n"),
            ("usr/lib/a", "file", 3 * MIB), ("usr/share/doc/b", "file", 2 * MIB),
            ("usr/share/doc/c", "file", MIB), ("opt/x/deep/one", "file", MIB), ("srv/old", "file", 9 * MIB),
            ("boot/kernel", "file", 5 * MIB), ("boot/efi/loader", "file", MIB),
            ("var/cache/d", "file", 4 * MIB),
        ),
        packed(
            tmp_path, "layer",
            ("var/lib/dpkg/status", "file", STATUS.encode()), ("usr/share/doc/b", "whiteout", 0),
            ("srv", "opaque", 0), ("srv/new", "file", 2 * MIB), ("usr/lib/hard", "link", b"usr/lib/a"),
            ("var/cache", "file", 1), ("opt/x", "folder", 0),
        ),
    ]  # fmt: skip


def test_folders_are_those_that_the_image_shows(trees: list[Path]) -> None:
    found = largest(trees, "/", ["/boot", "/boot/efi"])
    assert [name for name, _size in found.folders[:5]] == [
        "/usr", "/usr/lib", "/srv", "/opt/x/deep", "/usr/share/doc"]  # fmt: skip
    sizes = dict(found.folders)
    assert 4 * MIB < sizes["/usr"] < 4.1 * MIB
    assert 2 * MIB < sizes["/srv"] < 2.1 * MIB
    # One below makes up the whole of it, and is named in its place.
    assert not {"/opt", "/opt/x", "/usr/share", "/var/cache"} & sizes.keys()
    assert sizes["/boot"] == 4096


def test_an_image_of_a_part_has_its_own_folders(trees: list[Path]) -> None:
    assert [name for name, _size in largest(trees, "/boot", ["/boot/efi"]).folders] == ["/boot/efi"]
    assert largest(trees, "/nowhere", []).folders == []


def test_packages_are_those_of_the_topmost_status(trees: list[Path]) -> None:
    assert largest(trees, "/boot", []).packages == [
        ("big", 2 * MIB), ("same", 2 * MIB), ("small", 1024)]  # fmt: skip
    assert largest(trees[:1], "/", []).packages == [("old", 1024)]


def test_ten_of_each_are_named(tmp_path: Path) -> None:
    many = packed(tmp_path, "many", *((f"f{number}/x", "file", 1) for number in range(20)))
    assert len(largest([many], "/", []).folders) == COUNT == 10
