"""What keys take from the host: files, scripts, passwords, sources; and what they leave out."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import REPO, record
from tasks.errors import BuildError
from tasks.plan.entries import entries, script_identity
from tasks.plan.lockfile import LockedRepo
from tasks.plan.passwords import shadow_field
from tasks.plan.repositories import expand, signed_by
from tasks.plan.settings import settings_identity
from tasks.spec.model import File


def entry_of(folder: Path, **fields: Any) -> list[list[Any]]:
    given = {"target": "/t", "source": None, "content": None, "owner": "root:root", "mode": None}
    return [entry.identity() for entry in entries(
        File(**{**given, **fields}), "spec", Path("specs/web.yaml"))]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("one\n")
    (folder / "link").symlink_to("sub/file")
    return folder


FILE_CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "content": (lambda folder: (folder / "sub/file").write_text("two\n"), True),
    "executable": (lambda folder: (folder / "sub/file").chmod(0o755), True),
    "name": (lambda folder: (folder / "sub/file").rename(folder / "sub/other"), True),
    "another file": (lambda folder: (folder / "more").touch(), True),
    "empty folder": (lambda folder: (folder / "empty").mkdir(), True),
    "target of a link": (lambda folder: _relink(folder / "link", "sub"), True),
    "link or file": (lambda folder: _relink(folder / "link", None), True),
    "mode as umask has it": (lambda folder: (folder / "sub/file").chmod(0o600), False),
    "mode of a folder": (lambda folder: (folder / "sub").chmod(0o700), False),
    "time": (lambda folder: os.utime(folder / "sub/file", (1, 1)), False),
}


def _relink(link: Path, target: str | None) -> None:
    content = link.read_bytes()
    link.unlink()
    if target is None:
        link.write_bytes(content)
    else:
        link.symlink_to(target)


@pytest.mark.parametrize("name", FILE_CHANGES)
def test_what_changes_a_folder_of_files(source: Path, name: str) -> None:
    change, differs = FILE_CHANGES[name]
    before = entry_of(source, source=source)
    change(source)
    assert (entry_of(source, source=source) != before) is differs


@pytest.mark.parametrize(
    ("one", "differs"),
    [
        ({}, False),
        ({"owner": "www-data"}, True),
        ({"owner": "root"}, False),
        ({"owner": "0:0"}, False),
        ({"owner": "root:00"}, False),
        ({"owner": "root:adm"}, True),
        ({"owner": "adm:root"}, True),
        ({"owner": "1000"}, True),
        ({"target": "/u"}, True),
        ({"content": "other"}, True),
        ({"mode": 0o600}, True),
        ({"mode": 0o644}, False),
        ({"mode": 0}, True),
    ],
)
def test_what_changes_a_file_with_content(
    tmp_path: Path, one: dict[str, Any], differs: bool
) -> None:
    same = entry_of(tmp_path, content="text")
    assert (entry_of(tmp_path, **{"content": "text", **one}) != same) is differs


def test_a_source_and_the_same_content_are_one(source: Path) -> None:
    assert entry_of(source, source=source / "sub/file") == entry_of(source, content="one\n")


def test_link_as_the_source_means_what_it_points_to(source: Path) -> None:
    file = entry_of(source, source=source / "sub/file")
    assert entry_of(source, source=source / "link") == file


@pytest.mark.parametrize("kind", ["missing", "loop", "pipe"])
def test_source_that_is_none_fails(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(BuildError, match="x"):
        entry_of(tmp_path, source=path)


@pytest.mark.parametrize(
    ("change", "differs"), [("content", True), ("mode", False), ("time", False)]
)
def test_what_changes_a_script(tmp_path: Path, change: str, differs: bool) -> None:
    script = tmp_path / "a.sh"
    script.write_text("true\n")
    spec = samples.load(tmp_path, layers=[{"name": "app", "script": "a.sh"}])
    before = script_identity(spec.layers[0], spec)
    if change == "content":
        script.write_text("fals\n")
    elif change == "mode":
        script.chmod(0o755)
    else:
        os.utime(script, (1, 1))
    assert (script_identity(spec.layers[0], spec) != before) is differs


SETTINGS: dict[str, Any] = {"hostname": "a", "timezone": "Etc/UTC", "locale": "C.UTF-8",
                            "root_password": "secret"}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_seen(tmp_path: Path, name: str) -> None:
    lock = samples.lock([record("apt")])
    whole = samples.load(tmp_path, **SETTINGS)
    less = samples.load(tmp_path, **{key: SETTINGS[key] for key in SETTINGS if key != name})
    one, other = (settings_identity(spec, lock, {}) for spec in (whole, less))
    assert one != other
    assert "secret" not in json.dumps(one)


def test_salt_of_a_password_is_of_the_packages(tmp_path: Path) -> None:
    spec = samples.load(tmp_path, root_password="secret")
    fields = [shadow_field(spec, samples.lock([record("apt", version)]))
              for version in ("1", "1", "2")]  # fmt: skip
    assert fields[0] == fields[1] != fields[2]
    assert re.fullmatch(r"\$6\$[0-9a-f]{16}\$[A-Za-z0-9./]{86}", fields[0])


APT: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "mirror": ({}, {}, "http://other"),
    "name": ({"name": "renamed"}, {}, "http://mirror"),
    "suite": ({"suite": "sid"}, {}, "http://mirror"),
    "priority": ({"priority": 901}, {}, "http://mirror"),
    "trusted": ({"trusted": True}, {}, "http://mirror"),
    "Release that the pin names": ({}, {"Label": "Other"}, "http://mirror"),
}


@pytest.mark.parametrize("name", APT)
def test_sources_in_the_image_are_content(tmp_path: Path, name: str) -> None:
    repo, release, mirror = APT[name]
    assert sources(tmp_path, {}, {}, "http://mirror") != sources(tmp_path, repo, release, mirror)


def test_date_of_a_release_is_no_content(tmp_path: Path) -> None:
    same = sources(tmp_path, {}, {"Date": "tomorrow"}, "http://mirror")
    assert same == sources(tmp_path, {}, {}, "http://mirror")


def sources(folder: Path, repo: dict[str, Any], release: dict[str, str], mirror: str) -> object:
    """What the key of a layer that writes /etc/apt sees."""
    one = {**REPO, "priority": 900, **repo}
    spec = samples.load(folder, repos=[one], apt_sources=True)
    locked = LockedRepo(name=one["name"], release="a" * 64, date="",
                        fields={"Origin": "Debian", "Label": "Test", **release})  # fmt: skip
    lock = samples.lock([record("debian-archive-keyring")], repos=(locked,))
    return settings_identity(spec, lock, {"mirror": mirror})


@pytest.mark.parametrize(
    ("origin", "installed", "path", "content"),
    [
        ("Debian", ["debian-archive-keyring"], "/usr/share/keyrings/debian-archive-keyring.gpg", False),
        ("Debian Backports", ["debian-archive-keyring"],
         "/usr/share/keyrings/debian-archive-keyring.gpg", False),
        ("Ubuntu", ["ubuntu-keyring"], "/usr/share/keyrings/ubuntu-archive-keyring.gpg", False),
        ("Debian", ["ubuntu-keyring"], "/etc/apt/keyrings/main.gpg", True),
    ],
)  # fmt: skip
def test_source_without_a_keyring_names_the_archives(
    tmp_path: Path, origin: str, installed: list[str], path: str, content: bool
) -> None:
    """That of the image, where it has one: the same on every host, and renewed with the package."""
    spec = samples.load(tmp_path, apt_sources=True)
    locked = LockedRepo(name="main", release="a" * 64, date="", fields={"Origin": origin})
    lock = samples.lock([record(name) for name in installed], repos=(locked,))
    found = signed_by(spec.repos[0], spec, lock)
    assert found[0] == path
    shared = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    assert found[1] == (shared.read_bytes() if content else b"")
    assert settings_identity(spec, lock, {"mirror": "http://h"})["apt_sources"][0][6]


@pytest.mark.parametrize("origin", ["", "Our Company"])
def test_source_whose_keyring_nobody_knows_is_refused(tmp_path: Path, origin: str) -> None:
    spec = samples.load(tmp_path, apt_sources=True)
    locked = LockedRepo(name="main", release="a" * 64, date="",
                        fields={"Origin": origin} if origin else {})  # fmt: skip
    with pytest.raises(BuildError, match=r"repos\.main needs a keyring"):
        signed_by(spec.repos[0], spec, samples.lock([], repos=(locked,)))


def test_keyring_of_a_spec_goes_into_the_image_as_apt_reads_it(tmp_path: Path) -> None:
    key = Path("/usr/share/keyrings/debian-archive-keyring.gpg").read_bytes()
    armor = base64.encodebytes(key).decode()
    text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{armor}-----END PGP PUBLIC KEY BLOCK-----\n"
    file = tmp_path / "k.asc"
    spec = samples.load(tmp_path, repos=[{**REPO, "keyring": str(file)}], apt_sources=True)
    for content, expected in (
        (text, ("/etc/apt/keyrings/main.asc", text.encode())),
        ("\n" + text, ("/etc/apt/keyrings/main.gpg", key)),
        (text.replace("\n", "\r\n"), ("/etc/apt/keyrings/main.gpg", key)),
        (text.replace("\n\n", "\n \n"), ("/etc/apt/keyrings/main.gpg", key)),
        (text.replace("\n", "\t\n"), ("/etc/apt/keyrings/main.gpg", key)),
    ):
        file.write_bytes(content.encode())
        assert signed_by(spec.repos[0], spec, samples.lock([])) == expected


def test_an_address_with_the_architecture_in_it(tmp_path: Path) -> None:
    repos = [{**REPO, "uri": "${mirror}/$(ARCH)/"}]
    mirrors = {"mirror": "http://h/$(ARCH)"}
    spec = samples.load(tmp_path, repos=repos)
    assert expand(spec.repos[0].uri, mirrors, spec) == "http://h/amd64/amd64"
    spec = samples.load(tmp_path, repos=repos, packages=["alpha:i386"])
    with pytest.raises(BuildError, match="another address for each architecture"):
        expand(spec.repos[0].uri, mirrors, spec)
