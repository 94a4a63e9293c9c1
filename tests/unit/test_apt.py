"""apt's texts: what Strata writes apt itself reads so, and what apt writes Strata reads so."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.private import Private
from tasks.debian import answers, apt, deb822, sources
from tasks.errors import BuildError

SHA = {name: character * 64 for name, character in zip(["one", "two", "old"], "12a", strict=True)}


@pytest.fixture
def private(tmp_path: Path) -> Private:
    return Private(tmp_path / "apt")


# ---------------------------------------------------------------- configuration


def test_private_apt_reads_nothing_of_the_host(private: Private) -> None:
    found = private.run("apt-config", "dump")
    settings = dict(re.findall(r'^(\S+) "(.*)";$', found, re.MULTILINE))
    here = str(private.folder)
    assert {settings[name] for name in ("Dir", "Dir::State", "Dir::Etc")} == {here}
    for name, value in settings.items():
        own = name.startswith(("Dir::Etc", "Dir::State", "Dir::Cache")) and value.startswith("/")
        assert not own or value.startswith((here, "/dev/null")), f"{name} {value}"
    assert settings["Acquire::http::Proxy"] == "DIRECT"
    assert settings["APT::Install-Recommends"] == "false"
    assert re.findall(r'^APT::Architectures:: "(.*)";$', found, re.MULTILINE) == ["amd64", "i386"]


def test_configuration_has_what_was_asked_for() -> None:
    text = apt.configuration(
        "/d", arch="arm64", lists="/elsewhere", recommends=True, proxies={"http": "http://p:1"},
        direct=["10.0.0.1"], options={"Acquire::Check-Valid-Until": "false"},
    )  # fmt: skip
    lines = text.splitlines()
    for line in (
        'APT::Architecture "arm64";', 'APT::Architectures { "arm64"; };',
        'Dir::State::lists "/elsewhere";', 'APT::Install-Recommends "true";',
        'Acquire::http::Proxy "http://p:1";', 'Acquire::https::Proxy "DIRECT";',
        'Acquire::http::Proxy::10.0.0.1 "DIRECT";', 'Acquire::https::Proxy::10.0.0.1 "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ):  # fmt: skip
        assert line in lines


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a\\b"])
def test_value_that_apt_could_not_quote_is_refused(value: str) -> None:
    with pytest.raises(BuildError, match="cannot stand in an apt configuration"):
        apt.configuration("/d", arch="amd64", proxies={"http": value})


@pytest.mark.parametrize(
    ("suite", "components", "fields", "lines"),
    [
        ("stable", ["main"], {}, "Suites: stable\nComponents: main\n"),
        ("./", [], {}, "Suites: ./\n"),
        ("stable", ["main", "contrib"], {"trusted": True, "extra": "Signed-By: /k.gpg\n"},
         "Suites: stable\nComponents: main contrib\nTrusted: yes\nSigned-By: /k.gpg\n"),
    ],
)  # fmt: skip
def test_source(suite: str, components: list[str], fields: dict[str, Any], lines: str) -> None:
    found = apt.source("http://h/sp%20ace", suite, components, **fields)
    assert found == f"Types: deb\nURIs: http://h/sp%20ace\n{lines}"


def test_user_and_password_go_to_auth_conf_decoded() -> None:
    uris = ["http://h/a", "http://token:@h/b", "https://me:p%40ss%3A@h:8/debian"]
    assert apt.auth_conf(uris) == (
        "machine http://h/b login token\nmachine https://h:8/debian login me password p@ss:\n"
    )
    hard = ["http://me:correct%20horse@h/x", "http://a%23b:c@h/x", "http://me:p@[::1]:8080/x",
            "http://me:p@h/sp%20ace"]  # fmt: skip
    assert apt.auth_conf(hard) == ""
    assert [apt.source_uri(uri) for uri in hard] == hard
    assert apt.source_uri("http://h/sp%20ace") == "http://h/sp%20ace"
    assert [apt.source_uri(uri) for uri in uris] == [apt.without_user(uri) for uri in uris]
    assert [apt.without_user(uri) for uri in uris] == ["http://h/a", "http://h/b",
                                                       "https://h:8/debian"]  # fmt: skip


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


# ---------------------------------------------------------------- pins


def release(**fields: str) -> dict[str, str]:
    return {"Origin": "Debian", "Label": "Debian", "Suite": "stable", **fields}


@pytest.mark.parametrize(
    ("fields", "conditions"),
    [
        ({"Archive": "a1", "Suite": "s1"}, {"a": "a1"}),
        ({"Suite": "s1", "Codename": "c1", "Version": "1.2"}, {"a": "s1", "n": "c1", "v": "1.2"}),
        ({"Origin": "My Company", "Label": ""}, {"o": "My Company"}),
        ({"Label": "One, Two", "Origin": "x"}, {"o": "x"}),
        ({"Label": "any*", "Origin": "/x/", "Codename": "[a]"}, {}),
        ({"Date": "today"}, {}),
    ],
)
def test_pin_conditions(fields: Mapping[str, str], conditions: dict[str, str]) -> None:
    assert apt.pin_conditions(fields) == conditions


DEBIAN, OURS, NOBODY = release(), release(Origin="Ours", Label="Our packages"), {"Suite": "stable"}


PINS: dict[str, tuple[list[tuple[Mapping[str, str], int | None]], list[int]]] = {
    "no priority at all": ([(DEBIAN, None), (OURS, None)], [500, 500]),
    "one by its Release": ([(DEBIAN, None), (OURS, 1001)], [500, 1001]),
    "one that is forbidden": ([(DEBIAN, -1), (OURS, None)], [-1, 500]),
    "each its own": ([(DEBIAN, 700), (OURS, 600)], [700, 600]),
    "equal fields, one priority": ([(DEBIAN, 700), (DEBIAN, 700)], [700, 700]),
    "equal fields, two priorities": ([(DEBIAN, 700), (DEBIAN, 600)], [700, 600]),
    "equal fields, one of them plain": ([(DEBIAN, None), (DEBIAN, 600)], [500, 600]),
    "fields of all others": ([(NOBODY, 900), (DEBIAN, None), (OURS, 600)], [900, 500, 600]),
}


@pytest.mark.parametrize("name", PINS)
def test_priorities_never_leak_in_apt_itself(private: Private, name: str) -> None:
    repos, expected = PINS[name]
    for fields, _priority in repos:
        private.repository("".join(f"{key}: {value}\n" for key, value in fields.items()))
    private.pins = apt.preferences(
        [(f"r{number}", priority, fields) for number, (fields, priority) in enumerate(repos)],
        where="s", sites=True,
    )  # fmt: skip
    assert private.priorities() == dict(enumerate(expected))


def test_pin_names_the_release_where_that_is_enough() -> None:
    repos = [("debian", 700, DEBIAN), ("ours", 600, OURS), ("again", 500, OURS)]
    text = apt.preferences(repos, where="s", sites=True)
    assert text.split("\n\n") == [
        "Package: *\nPin: release a=stable, o=Debian, l=Debian\nPin-Priority: 700",
        'Package: *\nPin: origin "1.strata.invalid"\nPin-Priority: 600',
        'Package: *\nPin: origin "2.strata.invalid"\nPin-Priority: 500\n',
    ]
    assert "strata.invalid" not in apt.preferences(repos, where="s", sites=False)


def test_priority_without_a_field_to_go_by_fails() -> None:
    with pytest.raises(BuildError, match=r"^s: repos\.flat\.priority"):
        apt.preferences(
            [("main", None, DEBIAN), ("flat", 1, {"Date": "today"})], where="s", sites=True
        )
    assert apt.preferences([("flat", None, {})], where="s", sites=True) == ""


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


# ---------------------------------------------------------------- list files


@pytest.mark.parametrize(
    "uri",
    [
        "http://mirror.example/debian", "https://user:p%40ss@host.example:8080/debian",
        "file:/srv/debs", "file:///srv/debs", "http://HOST/Deb/a//b", "http://host",
        "http://host/a_b~c+d%20e(f);'&*!@=", "http://host/%41%7e%c3%bc", "http://host/ü",
        "http://host/d?token=a&b", "http://h/{x}|$^",
        "http://[::1]:8080/x", "http://h/sp%20ace", "http://h/%2F%252Fx", "file:///srv/sp%20ace",
    ],
)  # fmt: skip
@pytest.mark.parametrize("suite", ["stable main", "./"])
def test_list_name_is_apts_own(private: Private, uri: str, suite: str) -> None:
    name, *components = suite.split()
    (private.folder / "apt.sources").write_text(apt.source(uri, name, components, trusted=True))
    printed = private.run("apt-get", "--print-uris", "update")
    middle = "_dists_stable" if suite.startswith("stable") else "_."
    assert re.findall(r"^'.*' (\S+)_InRelease ", printed, re.M) == [apt.list_name(uri) + middle]


# ---------------------------------------------------------------- the host's mirror

MIRROR, SECURITY = "http://mirror.example.org/debian", "http://security.example.org/debian-security"


ONE_LINE = f"""\
# deb http://commented.example.org/debian bookworm main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb-src {MIRROR}/src bookworm main
deb [ arch=amd64,i386 signed-by=/usr/share/keyrings/a.gpg ] {MIRROR}/ bookworm main contrib # main
deb http://second.example.org/debian bookworm main
deb {MIRROR} bookworm-updates main
deb [trusted=yes]\t{SECURITY}\tbookworm-security\tmain
"""


DEB822 = f"""\
# A comment
Types: deb-src
URIs: http://source.example.org
Suites: bookworm
Components: main

Types: deb
URIs: http://disabled.example.org
Suites: bookworm bookworm-security
Components: main
Enabled: no

Types: deb deb-src
# URIs: http://commented.example.org
uris: {MIRROR}/
 http://second.example.org
Suites: bookworm
 bookworm-updates
Components: contrib main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 deb http://key.example.org bookworm main
\t
Enabled: yes
Types: deb
URIs: {SECURITY}
Suites: bookworm-security
Components: main
"""


VENDOR = "deb [arch=amd64] https://dl.example.com/linux/chrome/deb/ stable main\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([ONE_LINE], (MIRROR, SECURITY)),
        ([DEB822], (MIRROR, SECURITY)),
        (["", DEB822, ONE_LINE.replace("mirror.", "other.")], (MIRROR, SECURITY)),
        (["# nothing\n"], ("", "")),
        ([], ("", "")),
        ([VENDOR, DEB822], (MIRROR, SECURITY)),
        ([f"deb {MIRROR} stable main\n"], (MIRROR, "")),
        ([f"deb {MIRROR} trixie contrib\n"], ("", "")),
        (["deb https://deb.example.com/node_20.x nodistro main\n"], ("", "")),
        (["deb https://apt.example.com/pgdg bookworm-pgdg main\n"], ("", "")),
        (["Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\n"
          "Components: main\n"], ("", "")),
        (["deb file:/srv/mirror noble main\n"], ("file:/srv/mirror", "")),
        ([f"deb {MIRROR} buster/updates main\n"], ("", MIRROR)),
    ],
)  # fmt: skip
def test_mirrors_of_the_host(texts: Sequence[str], expected: tuple[str, str]) -> None:
    assert sources.host_mirrors(texts) == expected


OWN, PPA = "http://archive.example.org/ubuntu", "https://ppa.example.net/x/ubuntu"


SIGNED = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.mark.parametrize(
    ("text", "origins", "mirror"),
    [
        pytest.param(f"deb {PPA} noble main\ndeb {OWN} noble main\n", {PPA: "LP-PPA-x", OWN: "Ubuntu"},
                     OWN, id="told by the lists"),
        *(pytest.param(text + f"deb {OWN} noble main\n", {}, OWN, id=text) for text in (
            "deb [trusted=yes] file:/srv/r noble main\n",
            "deb [ arch=amd64 Trusted=TRUE ] http://r.example.org noble main\n",
            "Types: deb\nURIs: file:/srv/r\nSuites: noble\nComponents: main\nTrusted: yes\n\n")),
        pytest.param("deb [trusted=yes] file:/srv/r noble main\n", {}, "file:/srv/r",
                     id="trusted, and no other"),
        pytest.param(f"deb [trusted=no] {OWN} noble main\ndeb {PPA} noble main\n", {}, OWN,
                     id="not trusted"),
        pytest.param(f"deb [trusted=yes] {OWN} noble main\ndeb {PPA} noble main\n",
                     {OWN: "Ubuntu"}, OWN, id="trusted, and known to be the archive's"),
        pytest.param(f"deb {PPA} noble main\ndeb {OWN} noble main\n", {OWN: "Ubuntu"}, OWN,
                     id="only the archive's is there"),
        pytest.param(f"deb {PPA} noble main\ndeb {OWN} noble main\n", {PPA: "LP-PPA-x"}, OWN,
                     id="only the other's is there"),
        pytest.param(f"deb {PPA} noble main\ndeb {OWN} noble main\ndeb {OWN} noble-updates main\n", {},
                     OWN, id="no lists, by -updates"),
        pytest.param(f"deb [signed-by=/k/vendor.gpg] {PPA} bookworm main\n"
                     f"deb [signed-by={SIGNED}] {MIRROR} bookworm main\n", {}, MIRROR, id="keyring"),
        pytest.param(f"deb [signed-by=/k/vendor.gpg] {PPA} bookworm main\ndeb {MIRROR} bookworm main\n",
                     {}, MIRROR, id="a vendor's keyring"),
        pytest.param(f"Types: deb\nURIs: {PPA}\nSuites: noble\nComponents: main\nSigned-By:\n"
                     " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\n"
                     f"Types: deb\nURIs: {OWN}\nSuites: noble\nComponents: main\n", {}, OWN,
                     id="a key in the source"),
        pytest.param(f"deb {MIRROR} stable main\ndeb {PPA} noble main\n",
                     {MIRROR: "Debian", PPA: "Other"}, MIRROR, id="stable, and known"),
        pytest.param(f"deb [signed-by=/k/ours.gpg] {MIRROR} bookworm main\n", {}, MIRROR,
                     id="a company's own is better than none"),
        pytest.param("deb mirror+file:/etc/apt/m.list noble main\n", {}, "http://second.example.org/u",
                     id="mirror list"),
        pytest.param("Types: deb\nURIs: mirror+file:///etc/apt/m.list\nSuites: noble\n"
                     "Components: main\n", {}, "http://second.example.org/u", id="deb822 mirror list"),
        pytest.param("deb mirror+file:/nowhere noble main\n", {}, "", id="no mirror list"),
        *(pytest.param(f"Types: deb\nURIs: {PPA}\nSuites: noble\nComponents: main\nEnabled: {no}\n\n"
                       f"Types: deb\nURIs: {OWN}\nSuites: noble\nComponents: main\n", {}, OWN,
                       id=f"Enabled: {no}") for no in ("no", "Off", "without", "disable", "0")),
        *(pytest.param(f"deb [{options}] {PPA} noble main\ndeb {OWN} noble main\n", {PPA: "Ubuntu"},
                       OWN, id=options)
          for options in ("arch=arm64", "signed-by=/k Arch=arm64,armhf")),
        pytest.param(f"Types: deb\nURIs: {PPA}\nSuites: noble\nComponents: main\nArchitectures: arm64\n"
                     f"\nTypes: deb\nURIs: {OWN}\nSuites: noble\nComponents: main\n"
                     "Architectures: i386 amd64\n", {}, OWN, id="ports"),
    ],
)  # fmt: skip
def test_mirror_beside_others(text: str, origins: Mapping[str, str], mirror: str) -> None:
    lists = {"/etc/apt/m.list": "# a comment\nhttp://first.example.org/u\tpriority:2\n"
             "http://source.example.org/u type:deb-src priority:0\n"
             "http://ports.example.org/u arch:arm64 arch:armhf priority:0\n"
             "http://second.example.org/u/ priority:1\nhttp://last.example.org/u\n"}  # fmt: skip
    found = sources.host_mirrors(
        [text], arch="amd64", origin=lambda uri, _suite: origins.get(uri, ""),
        read=lambda path: lists.get(path, ""),
    )  # fmt: skip
    assert found == (mirror, "")


def test_mirror_is_the_architectures_own() -> None:
    text = f"deb {OWN} noble main\ndeb [arch=arm64] {PPA} noble main\n"
    assert sources.host_mirrors([text], arch="arm64") == (PPA, "")
    assert sources.host_mirrors([text], arch="amd64") == (OWN, "")


def test_phased_updates_do_not_depend_on_the_machine() -> None:
    assert 'APT::Get::Always-Include-Phased-Updates "true";' in apt.configuration(
        "/d", arch="amd64"
    )


UBUNTU_KEYS = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"


@pytest.mark.parametrize(
    ("text", "wanted", "host", "mirror"),
    [
        (f"deb {OWN} noble main\n", "Debian", "Ubuntu", ""),
        (f"deb {OWN} noble main\n", "Ubuntu", "Ubuntu", OWN),
        (f"deb {OWN} noble main\n", "", "Ubuntu", OWN),
        (f"deb {MIRROR} bookworm main\n", "Ubuntu", "Debian", ""),
        (f"deb {MIRROR} stable main\n", "Debian", "Debian", MIRROR),
        (f"deb {MIRROR} stable main\n", "Debian", "Ubuntu", ""),
        (f"deb {MIRROR} stable main\n", "Debian", "", ""),
        # A codename of next year, with and without a keyring that tells.
        (f"deb [signed-by={UBUNTU_KEYS}] {OWN} zany main\n", "Ubuntu", "", OWN),
        (f"deb {OWN} zany main\n", "Ubuntu", "", ""),
        (f"deb {OWN} noble main\ndeb {MIRROR} bookworm main\n", "Debian", "Ubuntu", MIRROR),
        ("deb mirror+file:/etc/apt/m.list noble main\n", "Debian", "Ubuntu", ""),
    ],
)  # fmt: skip
def test_mirror_is_never_another_distributions(
    text: str, wanted: str, host: str, mirror: str
) -> None:
    found = sources.host_mirrors([text], wanted=(wanted, wanted), host=host,
                                 read=lambda _path: "http://listed.example.org/u\n")  # fmt: skip
    assert found == (mirror, "")


def test_an_origin_outdoes_the_suite() -> None:
    """A vendor's suite `stable` on Debian is not Debian's, when the host's lists say so."""
    text = f"deb {PPA} stable main\n"
    for wanted, mirror in (("Debian", ""), ("", PPA)):
        found = sources.host_mirrors([text], wanted=(wanted, ""), host="Debian",
                                     origin=lambda _uri, _suite: "Vendor")  # fmt: skip
        assert found == (mirror, "")


def test_security_mirror_is_never_another_distributions() -> None:
    text = f"deb {OWN} noble main\ndeb {OWN} noble-security main\n"
    assert sources.host_mirrors([text], wanted=("Debian", "Debian")) == ("", "")
    assert sources.host_mirrors([text], wanted=("Ubuntu", "Ubuntu")) == (OWN, OWN)
