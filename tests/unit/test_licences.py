"""Licences by package: copyright-format 1.0 in the words of SPDX, and nothing guessed."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing

from tasks.rootfs.licences import expression, licences, name_of, named_in

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
        (tmp_path / name).write_bytes(packed.stdout)
        return tmp_path / name

    base = tarball("base", ("gcc-base/copyright", copyright), ("libgcc", "gcc-base"),
                   ("own/copyright", b"free"), ("round/copyright", "copyright"),
                   ("out/copyright", "/etc/passwd"))  # fmt: skip
    layer = tarball(
        "layer", ("libstd/copyright", "../libgcc/copyright"), ("own/copyright", copyright)
    )
    assert licences([base, layer]) == dict.fromkeys(
        ("gcc-base", "libgcc", "libstd", "own"), ("GPL-3.0-or-later",)
    )
