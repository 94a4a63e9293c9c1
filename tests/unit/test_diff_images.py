"""Images that no build tells of: how they are packed, what they hold, which packages."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks.commands.diff_images import _packages
from tasks.commands.image_files import container_of, filesystem_of, unpack
from tasks.errors import BuildError
from tasks.host.log import Log
from tasks.plan.changes import Package

STATUS = b"""Package: dpkg
Status: install ok installed
Architecture: arm64
Version: 1.22

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2026b

Package: libc6
Status: hold ok installed
Architecture: armhf
Version: 2.41-1

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 1
"""


def packed(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_packages_are_those_that_dpkg_has_installed(tmp_path: Path) -> None:
    tar = packed(tmp_path / "a.tar", ("etc/x", b"x"), ("var/lib/dpkg/status", STATUS))
    assert _packages(tar) == {
        "dpkg": Package(version="1.22"),
        "tzdata": Package(version="2026b"),
        "libc6:armhf": Package(version="2.41-1"),
    }
    assert _packages(packed(tmp_path / "b.tar", ("vmlinuz", b"x"))) is None
    (tmp_path / "c.tar").write_bytes(b"no tar")
    assert _packages(tmp_path / "c.tar") is None


def test_an_image_is_read_by_what_it_begins_with(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", raw], check=True)
    (tmp_path / "a").write_bytes(gzip.compress(raw.read_bytes()))
    (tmp_path / "b").symlink_to("a")  # a user's own
    assert [container_of(tmp_path / name) for name in ("raw", "a", "b")] == ["raw", "gzip", "gzip"]
    with Log(None) as log:
        unpack(tmp_path / "b", tmp_path / "again", "gzip", log)
        assert (tmp_path / "again").read_bytes() == raw.read_bytes()
        (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-9])
        with pytest.raises(BuildError, match="a: gzip cannot read it"):
            unpack(tmp_path / "a", tmp_path / "again", "gzip", log)
    assert filesystem_of(raw, "x").mounted_as == "ext2"
    raw.write_bytes(bytes(4096))
    with pytest.raises(BuildError, match="x: it holds nothing"):
        filesystem_of(raw, "x")
