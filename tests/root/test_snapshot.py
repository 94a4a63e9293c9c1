"""`snapshot`: an archive as it was, and .debs that a mirror has dropped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.debs import make_deb
from support.file_server import Server
from support.world import World, says
from tasks.plan.repositories import COPIED_AFTER
from tasks.spec.moments import of_seconds, seconds_of

pytestmark = pytest.mark.root


@pytest.fixture
def service(tiny: World, tmp_path: Path) -> Iterator[Server]:
    """A snapshot service, and a mirror whose address says what the archive is called."""
    os.symlink(".", tiny.repository.root / "debian")
    tiny.edit('"${mirror}"', '"${mirror}/debian"')
    (tmp_path / "service/debian").mkdir(parents=True)
    with Server(tmp_path / "service") as server:
        yield server


def kept(tiny: World, service: Server, moment: str) -> Path:
    """Let the service have the archive as it is now."""
    return Path(
        shutil.copytree(tiny.repository.root, service.root / "debian" / moment, symlinks=True)
    )


def versions(tiny: World) -> dict[str, str]:
    lock = json.loads((tiny.root / "specs/web.lock").read_text())
    return {one["package"]: one["version"] for one in lock["base"]}


def test_an_archive_as_it_was(tiny: World, service: Server) -> None:
    kept(tiny, service, "20261120T000000Z")
    tiny.repository.remove("beta", "1")
    tiny.add(make_deb(tiny.debs, "beta", "2"))
    tiny.build()
    assert versions(tiny)["beta"] == "2"
    key = tiny.json()["stages"][0]["key"]

    tiny.edit("section: main,", "section: main, snapshot: 2026-11-20,")
    tiny.refused("repos.main.snapshot: nothing says where a snapshot service is",
                 "add snapshot_mirror=ADDRESS, or set STRATA_SNAPSHOT_MIRROR",
                 "debian/20261120T000000Z/")  # fmt: skip
    tiny.doit("check", "spec=web")
    tiny.server.clear()
    # Back behind the lock, with a Release that is long expired, since the spec says so.
    tiny.build(STRATA_SNAPSHOT_MIRROR=service.url)
    assert versions(tiny)["beta"] == "1"
    assert tiny.server.requests == []
    assert any("/debian/20261120T000000Z/pool/" in path for _, path, _ in service.requests)
    text = (tiny.root / "specs/web.lock").read_text()
    assert service.url not in text
    published = (tiny.root / "out/web/web.yaml").read_text()
    assert service.url not in published
    assert tiny.server.url not in published
    says(published, "uri: ${mirror}/debian", "snapshot: 20261120T000000Z")

    # The service's address is in no key and no lock: elsewhere nothing is redone, and what is all
    # in the cache needs no service.
    with Server(service.root) as other:
        assert set(tiny.build(f"snapshot_mirror={other.url}").values()) == {"hit"}
    assert set(tiny.build("lock=frozen").values()) == {"hit"}
    assert (tiny.root / "specs/web.lock").read_text() == text
    assert tiny.json()["stages"][0]["key"] != key
    tiny.edit("2026-11-20", "2026-11-19T00:00:00Z")
    tiny.refused("lock=frozen, and the lock is older than the spec", words=["lock=frozen"])
    tiny.refused("the snapshot service has no suite stable of 20261119T000000Z",
                 "check repos.main.snapshot", STRATA_SNAPSHOT_MIRROR=service.url)  # fmt: skip


def test_what_a_mirror_has_dropped_comes_from_a_snapshot(tiny: World, service: Server) -> None:
    tiny.doit("lock", "spec=web")
    stamp = of_seconds(int((tiny.repository.dist / "Release").stat().st_mtime))
    archive = kept(tiny, service, stamp)
    tiny.repository.remove("beta")
    tiny.refused("cannot fetch beta 1 from repository main", "404", "build with lock=latest",
                 "name a snapshot service that has it still: snapshot_mirror=ADDRESS")  # fmt: skip
    done = tiny.doit("build", "spec=web", STRATA_SNAPSHOT_MIRROR=service.url)
    says(done.text, "beta 1: repository main has dropped it; it came from "
         f"{service.url}/debian/{stamp}")  # fmt: skip
    assert [path for _, path, _ in service.requests] == [
        f"/debian/{stamp}/pool/stable/main/beta_1_all.deb"
    ]

    # A service may have copied it hours after the Release's date, and have an older copy before.
    shutil.rmtree(tiny.root / "cache")
    later = of_seconds(seconds_of(stamp) + COPIED_AFTER)
    archive = archive.rename(archive.with_name(later))
    done = tiny.doit("build", "spec=web", STRATA_SNAPSHOT_MIRROR=service.url)
    says(done.text, f"it came from {service.url}/debian/{later}")

    # What comes from there is believed no more than what a mirror sends; both places are named.
    shutil.rmtree(tiny.root / "cache")
    deb = archive / "pool/stable/main/beta_1_all.deb"
    content = deb.read_bytes()
    deb.unlink()  # it has other names
    deb.write_bytes(content[::-1])
    places = ("cannot fetch beta 1 from repository main", f"({tiny.server.url}/debian)", "404",
              f"nor from the snapshots {service.url}/debian/{stamp}")  # fmt: skip
    tiny.refused(*places, "Hash Sum mismatch", STRATA_SNAPSHOT_MIRROR=service.url)
    deb.unlink()
    tiny.refused(*places, "404", STRATA_SNAPSHOT_MIRROR=service.url)
    # Of a folder as of a server.
    deb.write_bytes(content)
    tiny.doit("build", "spec=web", "lock=keep", STRATA_MIRROR=f"file:{tiny.repository.root}",
              STRATA_SNAPSHOT_MIRROR=f"file:{service.root}")  # fmt: skip
