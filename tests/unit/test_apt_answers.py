"""A Release, Packages, and what apt would fetch: what a repository and apt write Strata reads so."""

from __future__ import annotations

import time

import pytest

from support.private import Private
from tasks.debian import answers, deb822
from tasks.errors import BuildError

SHA = {name: character * 64 for name, character in zip(["one", "two", "old"], "12a", strict=True)}


# ---------------------------------------------------------------- Release


RELEASE = """\
Origin: Debian
Label: Debian: the release
Suite: stable
Codename: trixie
Version: 13.1
Date: Sat, 21 Nov 2026 09:15:44 UTC
SHA256:
 0000000000000000000000000000000000000000000000000000000000000000 10 main/Packages
No-Support-for-Architecture-all: Packages
"""


SIGNED = f"""\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

{RELEASE}-----BEGIN PGP SIGNATURE-----
Version: GnuPG v1
Origin: a forger

iQ==
-----END PGP SIGNATURE-----
"""


INRELEASE = SIGNED


@pytest.mark.parametrize("text", [RELEASE, SIGNED], ids=["Release", "InRelease"])
def test_release_fields_are_the_single_lines_that_are_signed(text: str) -> None:
    assert deb822.release_fields(text) == {
        "Origin": "Debian", "Label": "Debian: the release", "Suite": "stable",
        "Codename": "trixie", "Version": "13.1", "Date": "Sat, 21 Nov 2026 09:15:44 UTC",
        "No-Support-for-Architecture-all": "Packages",
    }  # fmt: skip


def test_release_fields_may_be_folded() -> None:
    text = "Date:\n Sat, 03 Jan 2026 10:00:00 UTC\nComponents: main\n contrib\nSHA256:\n a 1 b\n"
    assert deb822.release_fields(text) == {"Date": "Sat, 03 Jan 2026 10:00:00 UTC",
                                        "Components": "main contrib"}  # fmt: skip


def test_names_of_release_fields_have_no_case() -> None:
    assert deb822.release_fields("origin: x\nDATE: y\nSha256:\n a 1 b\nX-Own: z\n") == {
        "Origin": "x", "Date": "y", "X-Own": "z",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["SHA256", "sha256", "Sha512", "SHA512"])
@pytest.mark.parametrize("indent", [" ", "\t", "  \t"])
@pytest.mark.parametrize("signed", [False, True])
def test_sums_of_a_release(name: str, indent: str, signed: bool) -> None:
    text = f"Origin: x\n{name}:\n{indent}AB 10 main/P\n{indent}cd 2 Q\nMD5Sum:\n ef 3 R\n"
    if signed:
        text = INRELEASE.replace(RELEASE, text)
        text += f"{name}:\n 00 1 forged\n"
    kind = name.upper()
    assert deb822.release_sums(text) == {
        "main/P": deb822.Sum(algorithm=kind, digest="ab", size=10),
        "Q": deb822.Sum(algorithm=kind, digest="cd", size=2),
    }


def test_of_two_sums_the_one_that_everybody_has() -> None:
    found = deb822.release_sums("SHA256:\n a 1 P\nSHA512:\n b 1 P\n c 1 Q\n")
    assert [str(found[name]) for name in "PQ"] == ["SHA256:a", "SHA512:c"]


def test_a_release_of_many_files_is_read_in_time() -> None:
    """What takes the square of their number took 12 s for 60,000."""
    text = "Origin: x\nSHA256:\n" + f" {'0' * 64} 1 main/x\n" * 120_000
    begun = time.monotonic()
    assert deb822.release_fields(text) == {"Origin": "x"}
    assert len(deb822.release_sums(text)) == 1
    assert time.monotonic() - begun < 10


# ---------------------------------------------------------------- --print-uris


PACKAGES = f"""\
Package: one
Version: 2:1.0+b1~x-1
Architecture: amd64
Conflicts: old
Depends: two
Filename: pool/main/o/one/one_1.0+b1~x-1_amd64.deb
Size: 10
SHA256: {SHA["one"]}

Package: two
Version: 1
Architecture: all
Filename: pool/a dir/two%_1_all.deb
Size: 11
SHA256: {SHA["two"]}

Package: old
Version: 1
Architecture: amd64
Filename: old_1_amd64.deb
Size: 12
SHA256: {SHA["old"]}

Package: needs-old
Version: 1
Architecture: all
Depends: old
Filename: needs-old.deb
Size: 1
MD5sum: {"a" * 32}
"""


def print_uris(private: Private, *wanted: str) -> tuple[list[answers.Available], list[str]]:
    return answers.parse_print_uris(
        private.run("apt-get", "--print-uris", "--yes", "install", *wanted)
    )


def test_what_apt_would_fetch_and_remove(private: Private) -> None:
    private.repository("Suite: empty\n")
    private.repository(RELEASE, PACKAGES)
    stanzas = [stanza for stanza in PACKAGES.split("\n\n") if "Package: one" not in stanza]
    (private.folder / "status").write_text(
        deb822.installed_status(stanza for stanza in stanzas if "two" not in stanza)
    )
    available, removed = print_uris(private, "one")
    one = answers.Available(
        site=1, path="pool/main/o/one/one_1.0+b1~x-1_amd64.deb", package="one",
        version="2:1.0+b1~x-1", architecture="amd64", size=10, sha256=SHA["one"],
    )  # fmt: skip
    two = answers.Available(site=1, path="pool/a dir/two%_1_all.deb", package="two", version="1",
                        architecture="all", size=11, sha256=SHA["two"])  # fmt: skip
    assert sorted(available, key=lambda item: item.package) == [one, two]
    assert sorted(removed) == ["needs-old", "old"]


def test_what_is_installed_is_not_fetched(private: Private) -> None:
    private.repository(RELEASE, PACKAGES)
    (private.folder / "status").write_text(deb822.installed_status([PACKAGES.split("\n\n")[1]]))
    available, removed = print_uris(private, "one", "two")
    assert [item.package for item in available] == ["one"]
    assert removed == []


def test_package_without_a_sha256_fails(private: Private) -> None:
    private.repository(RELEASE, PACKAGES)
    with pytest.raises(BuildError, match=r"no SHA-256 for needs-old_1_all\.deb"):
        print_uris(private, "needs-old")


@pytest.mark.parametrize(
    ("text", "removed"),
    [
        ("The following packages will be REMOVED:\n  a b:i386*\n  c\nThe following NEW\n  d\n",
         ["a", "b:i386", "c"]),
        ("The following packages were automatically installed:\n  a\nUse 'apt autoremove'\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_removed_packages(text: str, removed: list[str]) -> None:
    assert answers.parse_print_uris(text) == ([], removed)


# ---------------------------------------------------------------- Packages


INDEX = PACKAGES.encode()


@pytest.mark.parametrize("index", [INDEX, INDEX.rstrip(b"\n"), b"\n\n" + INDEX + b"\n\n"])
def test_stanza_by_sha256_wherever_it_stands(index: bytes) -> None:
    stanzas = PACKAGES.rstrip("\n").split("\n\n")
    expected = dict(zip((SHA["one"], SHA["two"], SHA["old"]), stanzas, strict=False))
    assert deb822.stanzas_by_sha256(index, set(expected)) == expected
    for digest, stanza in expected.items():
        assert deb822.stanzas_by_sha256(index, {digest}) == {digest: stanza}
        assert deb822.stanzas_by_sha256(f"SHA256: {digest}".encode(), {digest}) == {
            digest: f"SHA256: {digest}"
        }
    assert deb822.stanzas_by_sha256(index, {"f" * 64}) == {}


def stanza(name: str, priority: str, *, arch: str = "amd64", essential: str = "") -> str:
    essential = f"Essential: {essential}\n" if essential else ""
    return f"Package: {name}\n{essential}Architecture: {arch}\nPriority: {priority}\n"


SELECTION = "\n".join([
    stanza("ess", "optional", essential="yes"), stanza("req", "required"),
    stanza("ess-req", "required", essential="yes"), stanza("imp", "important", arch="all"),
    stanza("std", "standard"), stanza("opt", "optional"), stanza("no", "extra", essential="no"),
    stanza("foreign", "required", arch="i386", essential="yes"),
    "Package: text\nArchitecture: all\nDescription: x\n Priority: required\n Essential: yes\n",
])  # fmt: skip


ESSENTIAL, REQUIRED = {"ess", "ess-req"}, {"ess", "ess-req", "req", "apt"}


@pytest.mark.parametrize(
    ("variants", "names"),
    [
        ("extract custom", set()),
        ("essential", ESSENTIAL),
        ("apt", ESSENTIAL | {"apt"}),
        ("required minbase", REQUIRED),
        ("buildd", REQUIRED | {"build-essential"}),
        ("- important debootstrap", REQUIRED | {"imp"}),
        ("standard", REQUIRED | {"imp", "std"}),
    ],
)
def test_names_that_a_variant_selects(variants: str, names: set[str]) -> None:
    for variant in variants.split():
        assert deb822.selected_names(SELECTION.encode(), variant, "amd64") == names


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("vim", "vim"), ("vim=2:9.0-1", "vim"), ("vim/stable", "vim"), ("vim:i386=1", "vim"),
     ("vim-", "vim"), ("libc6:i386-", "libc6"), ("g++", "g++"), ("g++-12", "g++-12")],
)  # fmt: skip
def test_plain_name_of_a_request(wanted: str, name: str) -> None:
    assert answers.plain_name(wanted) == name
