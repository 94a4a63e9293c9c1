"""The mirror that the host's own sources name: found beside others, and never another distribution's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tasks.debian import sources

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
