"""Licences by package: copyright-format 1.0 in the words of SPDX, and nothing guessed."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing

from tasks.rootfs.contents import Contents, read, remember, remembered
from tasks.rootfs.licences import (
    MOST,
    NONE,
    Copyrights,
    Licences,
    doc_of,
    expression,
    licences_in,
    name_of,
    named_in,
    of_package,
)
from tasks.rootfs.members import members
from tasks.store.record import Entry

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


@pytest.mark.parametrize(
    ("synopsis", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-1.3", "GFDL-1.3-only"),
        ("AGPL-3.0+", "AGPL-3.0-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("GPL-2+ or Artistic-2.0, and BSD-3-clause",
         "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
        ("GPL-2 and GPL-2", "GPL-2.0-only"),
        ("public-domain", "LicenseRef-public-domain"),
        ("GPL-2+ with OpenSSL exception", "LicenseRef-GPL-2-or-later-with-OpenSSL-exception"),
        ("GPL", "LicenseRef-GPL"),  # of which version is not said
        ("GPL-9", "LicenseRef-GPL-9"),
        ("<script>\x1b[31m é", "LicenseRef-script-31m"),
        ("ü", "LicenseRef-unnamed"),
        ("(MIT or GPL-2) and Zlib", "LicenseRef-MIT-or-GPL-2-and-Zlib"),
        ("MIT, GPL-2, or Zlib", "MIT OR GPL-2.0-only OR Zlib"),
        ("MIT, GPL-2 or ISC, and Zlib", "(MIT AND (GPL-2.0-only OR ISC)) AND Zlib"),
        ("and", "LicenseRef-and"),
        (",", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_synopsis_is_an_expression_of_spdx(synopsis: str, spdx: str) -> None:
    assert expression(synopsis) == spdx


def test_every_name_is_one_that_spdx_knows() -> None:
    from tasks.rootfs.licences import _GNU_VERSIONS, SPDX

    known = get_spdx_licensing().known_symbols
    names = set(SPDX.values()) | {
        name_of(f"{family}-{version}{plus}")
        for family, versions in _GNU_VERSIONS.items()
        for version in versions
        for plus in ("", "+")
    }
    assert sorted(names - known.keys()) == []


def test_only_what_is_machine_readable_is_read() -> None:
    assert named_in("This is free software, under the GPL-2+\n\nLicense: Expat\n") == ()
    assert named_in("") == ()
    assert named_in(f"{FORMAT}\nFiles: *\nLicense: ,\n") == ()
    assert named_in("Format: http://elsewhere.invalid\n\nFiles: *\nLicense: Expat\n") == ()
    # What stands alone explains a name; the head may have the whole's.
    text = f"{FORMAT}license: ISC\n\nfiles: *\nLicense: Expat\n the text\n\nLicense: Zlib\n text\n"
    assert named_in(text) == ("ISC", "MIT")


def test_links_lead_to_the_licences_of_another_package(tmp_path: Path) -> None:
    copyright = f"{FORMAT}\nFiles: *\nLicense: GPL-3+\n".encode()

    def tarball(name: str, *entries: tuple[str, bytes | str]) -> Path:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for path, what in entries:
                info = tarfile.TarInfo(f"./usr/share/doc/{path}")
                if isinstance(what, str):
                    info.type, info.linkname = tarfile.SYMTYPE, what
                    archive.addfile(info)
                else:
                    info.size = len(what)
                    archive.addfile(info, io.BytesIO(what))
        packed = subprocess.run(["zstd", "-qc"], input=data.getvalue(), stdout=-1, check=True)
        made = tmp_path / f"{name}.tar.zst"
        made.write_bytes(packed.stdout)
        return made

    base = tarball("base", ("gcc-base/copyright", copyright), ("libgcc", "gcc-base"),
                   ("own/copyright", b"free"), ("round/copyright", "copyright"),
                   ("out/copyright", "/etc/passwd"))  # fmt: skip
    layer = tarball(
        "layer", ("libstd/copyright", "../libgcc/copyright"), ("own/copyright", copyright)
    )
    seen = Copyrights()
    for path in (base, layer):
        for member in members(path):
            seen.take(member)
    assert seen.declared() == dict.fromkeys(
        ("gcc-base", "libgcc", "libstd", "own"), ("GPL-3.0-or-later",)
    )


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
        (DEP5, Licences(True, ("GPL-2.0-or-later OR Artistic-1.0-Perl", "MIT"))),
        (DEP5.replace("\n", "\r\n"), Licences(True, ("GPL-2.0-or-later OR Artistic-1.0-Perl", "MIT"))),
        ("Format-Specification: http://dep.debian.net/deps/dep5\nLicense: BSD\n", Licences(True, ("LicenseRef-BSD",))),
        ("Format: x\n\nFiles: *\nLicense: Expat\n", NONE),
        (f"{FORMAT}\nFiles: *\nLicense:\n text\n", Licences(True, ())),
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
    lines = "".join(f"\nFiles: {n}\nLicense: {n}{'x' * 500}\n" for n in range(2 * MOST))
    found = licences_in(f"{FORMAT}{lines}".encode())
    assert len(found.names) == MOST
    assert max(len(name) for name in found.names) < 100
    assert licences_in(f"{FORMAT}License: a\x1b[31m\tb".encode()).names == ("LicenseRef-a-31m-b",)


@pytest.mark.parametrize(
    ("path", "target", "found"),
    [
        ("usr/share/doc/aa", "bb", "bb"),
        ("usr/share/doc/aa/copyright", "../bb/copyright", "bb"),
        ("usr/share/doc/aa", "/usr/share/doc/bb", "bb"),
        ("usr/share/doc/aa", "../../../etc", ""),
        ("usr/share/doc/aa", "..", ""),
        ("usr/share/doc/aa/copyright", "/etc/passwd", ""),
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
            ("root", None, 0o700), ("usr/share/doc/xx", None, 0o755),
            ("usr/share/doc/xx/copyright", DEP5.encode(), 0o644), ("usr/share/doc/yy", "xx", 0o777),
            ("usr/share/doc/zz/copyright", "../xx/copyright", 0o777), ("usr/share/doc/ww", "/etc", 0o777),
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
    assert found.licences == {
        "xx": Licences(True, ("GPL-2.0-or-later OR Artistic-1.0-Perl", "MIT"))
    }
    assert found.docs == {"yy": "xx", "zz": "xx"}
    assert found.closed == {"root"}
    for package in ("xx", "yy", "zz"):
        assert of_package(package, found.licences, found.docs).declared
    entry = Entry(path=tree, sha256="a" * 64, size=1, facts={})
    remember(tmp_path / "sizes", entry, found)
    assert remembered(tmp_path / "sizes", entry) == found


@pytest.mark.parametrize(
    ("old", "new"),
    [('"xx": [true', '"xx": [1'), ('"yy": "xx"', '"yy": 1'), ('["root"]', '"root"'), ('"format": 2', '"format": 1'),
     (', "MIT"', ', 7'), ('"licences": {', '"licences": [{')],
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
