"""Whose archive ${mirror} is to be, and what is said where this host's is another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.samples import REPO, load
from tasks.debian import distributions
from tasks.errors import BuildError
from tasks.plan import repositories
from tasks.plan.repositories import distribution, expand, find_mirrors, lacking


@pytest.mark.parametrize(
    ("suite", "whose"),
    [("bookworm", "Debian"), ("trixie-updates", "Debian"), ("bookworm-backports-sloppy", "Debian"),
     ("buster/updates", "Debian"), ("sid", "Debian"), ("noble", "Ubuntu"),
     ("noble-security", "Ubuntu"), ("jammy-proposed", "Ubuntu"), ("zany", ""), ("stable", ""),
     ("./", ""), ("bookworm-pgdg", "")],
)  # fmt: skip
def test_whose_a_suite_is(suite: str, whose: str) -> None:
    assert distributions.of_suite(suite) == whose


@pytest.mark.parametrize(
    ("text", "whose"),
    [("NAME=x\nID=debian\n", "Debian"), ('ID="ubuntu"\n', "Ubuntu"), ("ID=linuxmint\n", ""),
     ("VERSION_ID=debian\n", ""), ("", "")],
)  # fmt: skip
def test_what_a_host_is(text: str, whose: str) -> None:
    assert distributions.of_host(text) == whose


@pytest.mark.parametrize(
    ("repos", "whose"),
    [
        ([{"suite": "bookworm"}], "Debian"),
        ([{"suite": "stable"}], "Debian"),
        ([{"suite": "stable", "keyring": "k.gpg"}], ""),
        ([{"suite": "zany", "keyring": "ubuntu-archive-keyring.gpg"}], "Ubuntu"),
        ([{"suite": "stable"}, {"suite": "noble", "name": "two"}], "Ubuntu"),
        ([{"suite": "noble", "uri": "http://h/u"}], ""),
        ([{"suite": "noble", "uri": "http://h/u"}, {"suite": "trixie", "name": "two"}], "Debian"),
    ],
)
def test_whose_archive_a_spec_names(
    tmp_path: Path, repos: list[dict[str, Any]], whose: str
) -> None:
    for keyring in ("k.gpg", "ubuntu-archive-keyring.gpg"):
        (tmp_path / keyring).touch()
    spec = load(tmp_path, repos=[{**REPO, **repo} for repo in repos])
    assert distribution(spec, "mirror") == whose


@pytest.fixture
def ubuntu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that installs from Ubuntu's archive, by a list of mirrors as hosted runners have it."""
    texts = {"/etc/os-release": "ID=ubuntu\n", "/etc/apt/m.list": "http://u.example.org/ubuntu\n"}
    source = (
        "Types: deb\nURIs: mirror+file:/etc/apt/m.list\nSuites: noble noble-security\n"
        "Components: main\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
    )
    monkeypatch.setattr(repositories, "_host_sources", lambda: iter([source]))
    monkeypatch.setattr(repositories, "_host_text", lambda path: texts.get(path, ""))
    for name in repositories.MIRRORS:
        monkeypatch.delenv(f"STRATA_{name.upper()}", raising=False)


@pytest.mark.usefixtures("ubuntu")
def test_a_debian_spec_on_an_ubuntu_host_says_what_to_set(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        repos=[{**REPO, "suite": "bookworm"},
               {**REPO, "name": "s", "suite": "bookworm-security", "uri": "${security_mirror}"}],
    )  # fmt: skip
    mirrors = find_mirrors({}, spec)
    assert mirrors == {}
    with pytest.raises(BuildError, match="name no mirror of Debian") as raised:
        expand(spec.repos[0].uri, mirrors, spec)
    assert raised.value.hint == "add mirror=ADDRESS, or set STRATA_MIRROR"
    told = [str(one) for one in lacking(spec, mirrors)]
    assert "name no mirror of Debian" in told[0]
    assert "name no security mirror of Debian" in told[1]
    assert "STRATA_SECURITY_MIRROR" in told[1]
    # What is named outright is the user's word.
    assert find_mirrors({"mirror": "http://m/debian"}, spec) == {"mirror": "http://m/debian"}


@pytest.mark.usefixtures("ubuntu")
def test_an_ubuntu_spec_on_an_ubuntu_host_needs_nothing(tmp_path: Path) -> None:
    spec = load(tmp_path, repos=[{**REPO, "suite": "noble"}])
    mirrors = find_mirrors({}, spec)
    assert mirrors == dict.fromkeys(("mirror", "security_mirror"), "http://u.example.org/ubuntu")
    assert lacking(spec, mirrors) == []
