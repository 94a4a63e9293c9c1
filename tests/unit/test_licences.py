"""Licences by copyright files, in one tarball and through the links of others."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tasks.rootfs.contents import Contents, read, remember, remembered
from tasks.rootfs.licences import LONGEST, MOST, NONE, Licences, doc_of, licences_in, of_package
from tasks.store.record import Entry

DEP5 = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: x

Files: *
Copyright: somebody
License: GPL-2+ or Artistic
 Text of it that names /usr/share/common-licenses/GPL-2

files: debian/*
Copyright: another
license:   Expat
 more

License: GPL-2+
 This stanza is the text alone.
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (DEP5, Licences(True, ("Expat", "GPL-2+ or Artistic"))),
        (DEP5.replace("\n", "\r\n"), Licences(True, ("Expat", "GPL-2+ or Artistic"))),
        ("Format-Specification: x\nLicense: BSD\n", Licences(True, ("BSD",))),
        ("Format: x\n\nFiles: *\nLicense:\n text\n", Licences(True, ())),
        ("see /usr/share/common-licenses/GPL-2, or `/usr/share/common-licenses/LGPL'.\n"
         "/usr/share/common-licenses/GPL-2.", Licences(False, ("GPL-2", "LGPL"))),
        ("This is free software.\nLicense: no field\n", NONE),
        ("", NONE),
    ],
)  # fmt: skip
def test_what_a_copyright_file_says(text: str, found: Licences) -> None:
    assert licences_in(text.encode()) == found


def test_a_file_that_is_no_copyright_is_bounded() -> None:
    licences_in(bytes(range(256)) * 100)
    lines = "".join(f"\nFiles: {n}\nLicense: {n}{'x' * 500}\n" for n in range(200))
    found = licences_in(f"Format: x\n{lines}".encode())
    assert len(found.names) == MOST
    assert {len(name) for name in found.names} == {LONGEST}
    assert licences_in(b"Format: x\nLicense: a\x1b[31m\tb") == Licences(True, ("a\x1b[31m b",))


@pytest.mark.parametrize(
    ("path", "target", "found"),
    [
        ("usr/share/doc/a", "b", "b"),
        ("usr/share/doc/a/copyright", "../b/copyright", "b"),
        ("usr/share/doc/a", "/usr/share/doc/b", "b"),
        ("usr/share/doc/a", "../../../etc", ""),
        ("usr/share/doc/a", "..", ""),
        ("usr/share/doc/a/copyright", "/etc/passwd", ""),
    ],
)
def test_where_a_link_leads(path: str, target: str, found: str) -> None:
    assert doc_of(path, target) == found


def test_links_are_followed_as_far_as_they_lead() -> None:
    known = {"c": Licences(True, ("MIT",))}
    assert of_package("a", known, {"a": "b", "b": "c"}) == known["c"]
    assert of_package("a", known, {"a": "b", "b": "a"}) == NONE
    assert of_package("x", known, {"x": "nowhere"}) == NONE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    raw = tmp_path / "base-0.tar"
    with tarfile.open(raw, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, content, mode in (
            ("root", None, 0o700), ("usr/share/doc/x", None, 0o755),
            ("usr/share/doc/x/copyright", DEP5.encode(), 0o644), ("usr/share/doc/y", "x", 0o777),
            ("usr/share/doc/z/copyright", "../x/copyright", 0o777), ("usr/share/doc/w", "/etc", 0o777),
        ):  # fmt: skip
            info = tarfile.TarInfo(f"./{path}")
            info.mode = mode
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    subprocess.run(["zstd", "-q", "--rm", raw], check=True)
    return tmp_path / "base-0.tar.zst"


def test_a_tarball_tells_licences_links_and_what_is_closed(tree: Path, tmp_path: Path) -> None:
    found = read(tree)
    assert found.licences == {"x": Licences(True, ("Expat", "GPL-2+ or Artistic"))}
    assert found.docs == {"y": "x", "z": "x"}
    assert found.closed == {"root"}
    for package in ("x", "y", "z"):
        assert of_package(package, found.licences, found.docs).declared
    entry = Entry(path=tree, sha256="a" * 64, size=1, facts={})
    remember(tmp_path / "sizes", entry, found)
    assert remembered(tmp_path / "sizes", entry) == found


@pytest.mark.parametrize(
    ("old", "new"),
    [('"x": [true', '"x": [1'), ('"y": "x"', '"y": 1'), ('["root"]', '"root"'), ('"format": 2', '"format": 1'),
     ('["Expat"', '[7, "Expat"'), ('"licences": {', '"licences": [{')],
)  # fmt: skip
def test_what_is_remembered_in_another_form_counts_as_nothing(
    tree: Path, tmp_path: Path, old: str, new: str
) -> None:
    entry = Entry(path=tree, sha256="a" * 64, size=1, facts={})
    remember(tmp_path / "sizes", entry, read(tree))
    (file,) = (tmp_path / "sizes").iterdir()
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    known: Contents | None = remembered(tmp_path / "sizes", entry)
    assert known is None
