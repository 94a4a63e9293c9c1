"""apt's configuration, sources, pins and names of lists: what Strata writes apt itself reads so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from support.private import Private
from tasks.debian import apt
from tasks.errors import BuildError

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


def test_phased_updates_do_not_depend_on_the_machine() -> None:
    assert 'APT::Get::Always-Include-Phased-Updates "true";' in apt.configuration(
        "/d", arch="amd64"
    )


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
