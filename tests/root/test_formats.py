"""What Debian's repository format and sources.list(5) allow: each is locked and fetched.

https://wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from support.file_server import Server
from support.repository_formats import FORMATS, label, world_of
from support.world import TINY, World, says
from tasks.commands.lock import update
from tasks.errors import BuildError
from tasks.repos.fetch import fetch
from tasks.session.session import Session


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], None]:
    """Makes a checkout the one of this process."""

    def enter(world: World) -> None:
        monkeypatch.chdir(world.root)
        for name, value in world.environment().items():
            if name.startswith("STRATA_"):
                monkeypatch.setenv(name, value)

    return enter


def locked_and_fetched(world: World, **variables: str) -> dict[str, str]:
    """The version and repository of each locked package; all .debs are in the cache."""
    session = Session(root=world.root, variables={"spec": "web", **variables})
    try:
        update(session)
        found = session.read_lock()
        assert found is not None
        records = found.installed()
        with session.log("fetch.log", "fetch") as log:
            fetch(records, session.builder(log))
        assert all(session.cache.has_deb(record.sha256) for record in records)
        return {f"{record.package} {record.version}": record.repository for record in records}
    finally:
        session.close()


def expected(names: Sequence[str]) -> dict[str, str]:
    """The same, of what world_of asks for."""
    found = {f"beta{number} {FORMATS[name].version}": label(name)
             for number, name in enumerate(names)}  # fmt: skip
    return {"baseline 1": label(names[0]), **found}


NAMES = list(FORMATS)


@pytest.mark.parametrize("names", [NAMES[start::6] for start in range(6)], ids=range(6))
def test_formats(tmp_path: Path, here: Callable[[World], None], names: list[str]) -> None:
    """Several in one spec, since they are asked at once."""
    with Server(tmp_path / "site") as server:
        world = world_of(tmp_path, names, server)
        here(world)
        assert locked_and_fetched(world) == expected(names)
        # The lock is one that the next run takes, and finds unchanged.
        text = (world.root / "specs/web.lock").read_text()
        server.clear()
        assert locked_and_fetched(world) == expected(names)
        assert (world.root / "specs/web.lock").read_text() == text
        assert {status for _m, _p, status in server.requests} <= {304, 404}


@pytest.mark.parametrize("scheme", ["file:", pytest.param("file://", marks=pytest.mark.nightly)])
def test_formats_in_a_folder(tmp_path: Path, here: Callable[[World], None], scheme: str) -> None:
    names = ["plain", "escaped path", "escaped slash and percent", "Filename with signs",
             "epoch in the Filename", ".xz only", "uncompressed only", "flat, uncompressed only",
             "no Release"]  # fmt: skip
    with Server(tmp_path) as server:
        world = world_of(tmp_path, names, server, f"{scheme}{quote(str(tmp_path))}/site")
        here(world)
        assert locked_and_fetched(world) == expected(names)
        # Not what apt links to: the user may edit that.
        kept = [path for folder in (world.root / "cache" / "index").glob("snapshot-*")
                for path in folder.iterdir()]  # fmt: skip
        assert sum(path.name.endswith("Packages") for path in kept) == len(names)
        assert not any(path.is_symlink() for path in kept)
        index = tmp_path / "site" / str(names.index("no Release")) / "Packages"
        index.write_text(index.read_text() + "\n")
        assert locked_and_fetched(world) == expected(names)
        assert server.requests == []


@pytest.mark.parametrize(
    "user",
    ["me:correct%20horse@", "me:a%23b%22%27@"]
    + [pytest.param(one, marks=pytest.mark.nightly) for one in ("to%20ken:@", "me:p%40ss@")],
)
def test_passwords_that_apts_own_file_cannot_hold(
    tmp_path: Path, here: Callable[[World], None], user: str
) -> None:
    names = ["plain", "epoch in the Filename", "escaped path", ".gz only",
             "SHA512 and .gz only, by hash", "SHA512 and .gz only, flat"]  # fmt: skip
    name, _, password = unquote(user[:-1]).partition(":")
    with Server(tmp_path / "site", auth=(name, password)) as server:
        uri = server.url.replace("//", f"//{user}")
        world = world_of(tmp_path, names, server, uri)
        here(world)
        assert locked_and_fetched(world) == expected(names)
        log = "".join(path.read_text() for path in world.root.glob("out/web/log/*"))
        assert unquote(user) not in log
        assert user not in log
        assert user not in (world.root / "specs/web.lock").read_text()


def test_host_of_ipv6(tmp_path: Path, here: Callable[[World], None]) -> None:
    """Also in mirror=, with a user, and where a proxy is not to be asked for it."""
    with Server(tmp_path / "site", auth=("me", "s3cret"), host="::1") as server:
        names = ["plain", "escaped path", ".xz only"]
        world = world_of(tmp_path, names, server)
        here(world)
        mirror = server.url.replace("//", "//me:s3cret@")
        found = locked_and_fetched(world, mirror=mirror)
        assert found == expected(names)


def test_component_without_any_index(tmp_path: Path, here: Callable[[World], None]) -> None:
    """Told where something is missing; alone it is no fault: an archive's component may be empty."""
    with Server(tmp_path / "site") as server:
        world = world_of(tmp_path, ["component without an index"], server)
        here(world)
        assert locked_and_fetched(world) == expected(["component without an index"])
        world.edit("packages: [beta0]", "packages: [beta0, zzz]")
        with pytest.raises(BuildError) as caught:
            locked_and_fetched(world)
    says(str(caught.value), "no repository has zzz",
         "repos.component-without-an-index has no index of its component contrib", "otherwise check")  # fmt: skip


@pytest.mark.parametrize("user", ["", "me:correct%20horse@"])
def test_index_that_apt_passes_over_and_that_is_not_there(
    tmp_path: Path, here: Callable[[World], None], user: str
) -> None:
    auth = ("me", "correct horse") if user else None
    with Server(tmp_path / "site", auth=auth) as server:
        world = world_of(tmp_path, [".gz only"], server, server.url.replace("//", f"//{user}"))
        (tmp_path / "site/0/dists/stable/main/binary-amd64/Packages.gz").unlink()
        here(world)
        with pytest.raises(BuildError) as caught:
            locked_and_fetched(world)
    says(str(caught.value), "specs/web.yaml: repos.gz-only", "it has no such file", "404")
    assert unquote(user) not in str(caught.value) or not user


@pytest.mark.parametrize(
    ("uri", "told"),
    [("http://[::zz]/x", ""), ("http://[:::::]/x", ""), ("http://[::1/x", ""),
     ("http://h:99999/x", "a port is a number"), ("http://h:0/", "a port is a number"),
     ("https://h:x/", "a port is a number"), ("http://", ""), ("http:///x", ""),
     ("http://:80/x", "it names no host"), ("http://me@/x", "it names no host"),
     ("https://me:pw@:8080", "it names no host")],
)  # fmt: skip
def test_what_is_no_address(unbuilt: World, uri: str, told: str) -> None:
    unbuilt.write("web.yaml", TINY)
    said = unbuilt.refused("mirror=", "expected an http:, https: or file: address",
                        words=(f"mirror={uri}",))  # fmt: skip
    assert told in said
    unbuilt.edit('"${mirror}"', f'"{uri}"')
    said = unbuilt.refused("specs/web.yaml: repos")
    assert told in said
    assert "it does not answer" not in said
