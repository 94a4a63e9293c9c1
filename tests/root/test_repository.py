"""The repository of the tests is one that apt itself accepts, and refuses where it should."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from support.debs import make_deb
from support.file_server import Fault, Server
from support.repository import Repository, apt_environment
from support.signing import SigningKey

INRELEASE = "/dists/stable/InRelease"


PACKAGES = "Packages Packages.gz Packages.xz"  # one missing or broken, apt takes another


class Apt:
    """An apt-get of its own that knows one source."""

    def __init__(self, folder: Path, source: str) -> None:
        self.env = apt_environment(folder / "apt", source)
        self.folder = folder

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [argv[0], "-o", "Acquire::Retries=0", *argv[1:]],
            capture_output=True,
            check=False,
            cwd=self.folder,  # of apt-get download
            env=self.env,
            text=True,
        )

    def update(self, *options: str) -> str:
        """Return what apt-get says when it fails, or nothing."""
        done = self.run("apt-get", "update", "--error-on=any", *options)
        return done.stderr if done.returncode else ""

    def versions(self, name: str) -> list[str]:
        lines = self.run("apt-cache", "show", "--all-versions", name).stdout.splitlines()
        return sorted(line.split()[1] for line in lines if line.startswith("Version:"))

    def download(self, name: str) -> str:
        done = self.run("apt-get", "download", name)
        return done.stderr if done.returncode else ""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "repository")
    repository.add(make_deb(tmp_path, "hello"))
    repository.publish()
    return repository


@pytest.fixture
def server(repository: Repository) -> Iterator[Server]:
    with Server(repository.root) as server:
        yield server


@pytest.fixture
def apt(tmp_path: Path, repository: Repository, server: Server) -> Apt:
    return Apt(tmp_path, repository.source(server.url))


def get(server: Server, path: str, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, headers=named)
    with urllib.request.urlopen(request) as answer:
        return answer.status, answer.read()


# --- packages


def test_make_deb_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (
        make_deb(
            tmp_path / folder,
            "hello",
            "1:2-3",
            depends="libc6",
            files={"/etc/hello": "x", "usr/bin/hello": "#!/bin/sh\n", "bin": b"\0"},
            scripts={"postinst": "true", "conffiles": "/etc/hello\n"},
        )
        for folder in ("one", "two")
    )
    assert first.name == "hello_2-3_all.deb"
    assert first.read_bytes() == second.read_bytes()


def test_make_deb_writes_fields_files_and_scripts(tmp_path: Path) -> None:
    deb = make_deb(
        tmp_path,
        "hello",
        essential=True,
        conflicts="bye",
        files={"usr/bin/hello": "#!/bin/sh\n", "etc/hello": "x"},
        scripts={"postinst": "echo done"},
        extra={"Provides": "greeting", "Section": "admin"},
    )
    listing = subprocess.check_output(["dpkg-deb", "--contents", deb], text=True)
    modes = {line.split()[5]: line.split()[0] for line in listing.splitlines()}
    assert modes["./usr/bin/hello"] == "-rwxr-xr-x"
    assert modes["./etc/hello"] == "-rw-r--r--"
    assert all("root/root" in line for line in listing.splitlines())
    fields = subprocess.check_output(["dpkg-deb", "--field", deb], text=True).splitlines()
    assert {"Essential: yes", "Conflicts: bye", "Provides: greeting", "Section: admin"} <= {*fields}
    postinst = subprocess.check_output(["dpkg-deb", "--info", deb, "postinst"], text=True)
    assert postinst == "#!/bin/sh\nset -e\necho done\n"


# --- a signed repository


def test_apt_downloads_from_a_signed_repository(apt: Apt, tmp_path: Path) -> None:
    assert apt.update() == ""
    assert apt.versions("hello") == ["1"]
    (tmp_path / "hello_1_all.deb").unlink()
    assert apt.download("hello") == ""
    assert (tmp_path / "hello_1_all.deb").exists()


def test_apt_refuses_another_key(repository: Repository, server: Server, tmp_path: Path) -> None:
    key = SigningKey("Somebody else")
    key.export(tmp_path / "other.gpg")
    key.close()
    assert not key.home.exists()
    source = repository.source(server.url).replace(str(repository.keyring), f"{tmp_path}/other.gpg")
    said = Apt(tmp_path, source).update()
    assert "NO_PUBKEY" in said or "Missing key" in said  # gpgv's word, and sqv's


def test_apt_refuses_an_unsigned_repository(repository: Repository, apt: Apt) -> None:
    repository.key = None
    repository.publish()
    assert "is not signed" in apt.update()


def test_apt_takes_release_and_its_signature(
    repository: Repository, server: Server, apt: Apt
) -> None:
    repository.inrelease = False
    repository.publish()
    assert apt.update() == ""
    assert server.requests[:3] == [
        ("GET", INRELEASE, 404),
        ("GET", "/dists/stable/Release", 200),
        ("GET", "/dists/stable/Release.gpg", 200),
    ]


def test_apt_refuses_a_release_after_valid_until(repository: Repository, apt: Apt) -> None:
    repository.valid_until = datetime(2020, 1, 1, tzinfo=timezone.utc)
    repository.publish()
    assert "is expired" in apt.update()


@pytest.mark.parametrize("suite", ["stable", "teststable", "stable/updates"])
def test_apt_knows_a_suite_also_by_its_codename(tmp_path: Path, suite: str) -> None:
    repository = Repository(tmp_path, suite="stable" if suite == "teststable" else suite)
    repository.publish()
    with Server(tmp_path) as server:
        apt = Apt(tmp_path, repository.source(server.url).replace(" stable ", f" {suite} "))
        assert apt.update() == ""


def test_flat_repository(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "flat", flat=True)
    repository.add(make_deb(tmp_path / "debs", "hello"))
    repository.publish()
    with Server(repository.root) as server:
        apt = Apt(tmp_path, repository.source(server.url))
        assert apt.update() == ""
        assert apt.versions("hello") == ["1"]
        assert apt.download("hello") == ""


# --- changes


def test_apt_sees_a_change_within_the_same_second(
    repository: Repository, apt: Apt, tmp_path: Path
) -> None:
    for version in ("2", "3"):
        repository.add(make_deb(tmp_path, "hello", version))
        repository.publish()
        assert apt.update() == ""
    assert apt.versions("hello") == ["1", "2", "3"]
    repository.remove("hello", "2")
    repository.publish()
    assert apt.update() == ""
    assert apt.versions("hello") == ["1", "3"]
    repository.remove("hello")
    repository.publish()
    assert apt.update() == ""
    assert apt.versions("hello") == []


def test_apt_gets_304_and_no_packages_when_nothing_changed(server: Server, apt: Apt) -> None:
    assert apt.update() == ""
    server.clear()
    assert apt.update() == ""
    assert server.requests == [("GET", INRELEASE, 304)]


def test_a_reopened_repository_still_advances(repository: Repository) -> None:
    before = (repository.dist / "InRelease").stat().st_mtime
    Repository(repository.root).publish()
    assert (repository.dist / "InRelease").stat().st_mtime >= before + 1


def test_a_pool_has_other_bytes_of_the_same_name(
    repository: Repository, apt: Apt, tmp_path: Path
) -> None:
    repository.add(make_deb(tmp_path / "other", "hello", files={"a": "b"}))
    repository.add(tmp_path / "other/hello_1_all.deb")
    repository.publish()
    assert [path.name for path in repository.pool.iterdir()] == ["hello_1_all.deb"]
    assert apt.update() == ""
    assert apt.download("hello") == ""


def test_a_pool_name_has_no_epoch(repository: Repository, apt: Apt, tmp_path: Path) -> None:
    deb = make_deb(tmp_path, "world", "1:2~a+b")
    repository.add(deb.rename(tmp_path / "world_1%3a2~a+b_all.deb"))
    repository.publish()
    assert (repository.pool / "world_2~a+b_all.deb").exists()
    assert apt.update() == ""
    assert apt.download("world=1:2~a+b") == ""


def test_remove_knows_what_is_there(repository: Repository) -> None:
    with pytest.raises(LookupError, match="no package hello 2"):
        repository.remove("hello", "2")


# --- faults


@pytest.mark.parametrize(
    ("suffixes", "fault", "words"),
    [
        ("Release", Fault(status=404), "does not have a Release file"),
        ("InRelease", Fault(status=503), "503"),
        ("InRelease", Fault(cut=100), "Failed to fetch"),
        ("InRelease", Fault(body=b"<html>log in</html>"), "Clearsigned file isn't valid"),
        (PACKAGES, Fault(status=404), "404"),
        (PACKAGES, Fault(cut=100), "Failed to fetch"),
        (PACKAGES, Fault(body=b"Package: hello\n"), "unexpected size"),
    ],
)
def test_apt_fails_on(server: Server, apt: Apt, suffixes: str, fault: Fault, words: str) -> None:
    server.faults = dict.fromkeys(suffixes.split(), fault)
    assert words in apt.update()
    server.faults.clear()
    assert apt.update() == ""


def test_a_fault_is_over_after_so_many_times(server: Server, apt: Apt) -> None:
    server.faults["InRelease"] = Fault(status=503, times=2)
    failures = [bool(apt.update()) for _ in range(3)]
    assert failures == [True, True, False]


def test_apt_resumes_a_download_which_broke(server: Server, apt: Apt) -> None:
    assert apt.update() == ""
    server.faults[".deb"] = Fault(cut=100, times=1)
    server.clear()
    install = ("apt-get", "install", "--yes", "--download-only", "hello")
    assert [apt.run(*install).returncode for _ in range(2)] == [100, 0]
    assert [status for _, _, status in server.requests] == [200, 206]


def test_a_delay_is_waited_for_but_not_by_the_exit(repository: Repository, tmp_path: Path) -> None:
    with Server(repository.root) as server:
        server.faults[""] = Fault(delay=3600)
        apt = Apt(tmp_path, repository.source(server.url))
        assert "Connection failed" in apt.update("-o", "Acquire::http::Timeout=1")


# --- the server


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-", 206, b"cdef"),
        ("bytes=2-3", 206, b"cd"),
        ("bytes=0-99", 206, b"abcdef"),
        ("bytes=0-0,2-3", 200, b"abcdef"),
    ],
)
def test_range(server: Server, wanted: str, status: int, body: bytes) -> None:
    (server.root / "file").write_bytes(b"abcdef")
    assert get(server, "/file", Range=wanted) == (status, body)


def test_range_of_another_file_gets_all(server: Server) -> None:
    (server.root / "file").write_bytes(b"abcdef")
    date = "Thu, 01 Jan 1970 00:00:00 GMT"
    assert get(server, "/file", Range="bytes=2-", If_Range=date) == (200, b"abcdef")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (INRELEASE, {"Range": "bytes=999999-"}, 416),
        ("/../repository/dists/stable/Release", {}, 404),
        ("/dists", {}, 404),
    ],
)
def test_refusals(server: Server, path: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, path, **headers)
    caught.value.close()
    assert caught.value.code == status
    assert server.requests == [("GET", path, status)]


def test_server_as_a_proxy(repository: Repository, server: Server, tmp_path: Path) -> None:
    apt = Apt(tmp_path, repository.source("http://far.invalid"))
    assert apt.update("-o", f"Acquire::http::Proxy={server.url}") == ""
    assert server.requests[0] == ("GET", f"http://far.invalid{INRELEASE}", 200)


def test_server_wants_a_password(repository: Repository, tmp_path: Path) -> None:
    with Server(repository.root, auth=("me", "s3cret")) as server:
        assert "401" in Apt(tmp_path, repository.source(server.url)).update()
        url = server.url.replace("//", "//me:s3cret@")
        assert Apt(tmp_path, repository.source(url)).update() == ""
