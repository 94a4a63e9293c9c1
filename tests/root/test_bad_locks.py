"""Locks that are tampered with, stale or gone, and locked .debs that cannot be had."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.file_server import Fault
from support.refusals import refused
from support.world import World, says

# ---------------------------------------------------------------- the lock


def _edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        lock = json.loads(text)
        change(lock)
        return json.dumps(lock)

    return edit


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda text: text[: text.index("sha256") + 3], "Unterminated string"),
        (lambda text: "", "Expecting value"),
        (lambda text: "<<<<<<< HEAD\n" + text, "Expecting value"),
        (lambda text: "[]", "it is not a mapping"),
        (lambda text: "[" * 100_000, "nested too deep"),
        (_edited(lambda lock: lock.update(format=3)), "format 3 is not 2"),
        (_edited(lambda lock: lock.pop("base")), "no 'base'"),
        (_edited(lambda lock: lock["base"][0].update(path="../../etc/shadow")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(sha256="../../x")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(sha256="0" * 63)), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(package="-x")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(version="1 2")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(size="1")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(repository="other")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(extra=1)), "extra"),
        (_edited(lambda lock: lock["base"][0].update(package=["x"])), "the package is malformed"),
        (_edited(lambda lock: lock["layers"][0].update(removes=["a b"])), "removes is malformed: 'a b'"),
        (_edited(lambda lock: lock["repos"][0].update(release="x")), "'main' the release is malformed"),
        (_edited(lambda lock: lock["repos"].clear()), "is malformed"),
    ],
)  # fmt: skip
def test_tampered_lock(fresh: World, site_lock: str, harm: Callable[[str], str], part: str) -> None:
    fresh.write("web.lock", harm(site_lock))
    says(refused(fresh, "build", "spec=web"), "ERROR: specs/web.lock: not a lock that Strata wrote: ",
         part, "restore it from version control")  # fmt: skip
    assert fresh.server.requests == []


def test_frozen_without_a_lock(fresh: World) -> None:
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is missing",
         "doit lock spec=web")  # fmt: skip
    assert fresh.server.requests == []
    assert not (fresh.root / "specs/web.lock").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[alpha]", "[alpha, delta]"),
        ("name: app", "name: apps"),
        ("variant: apt", "variant: minbase"),
    ],
)
def test_frozen_with_a_stale_lock(fresh: World, site_lock: str, old: str, new: str) -> None:
    fresh.write("web.lock", site_lock)
    fresh.edit(old, new)
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is older than the spec",
         "doit lock spec=web")  # fmt: skip
    assert fresh.server.requests == []


def test_frozen_with_a_lock_that_lost_a_layer(fresh: World, site_lock: str) -> None:
    fresh.write("web.lock", _edited(lambda lock: lock["layers"].pop())(site_lock))
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is older than the spec")  # fmt: skip
    fresh.doit("lock", "spec=web")
    assert (fresh.root / "specs/web.lock").read_text() == site_lock


# ---------------------------------------------------------------- .debs


def _digests(world: World) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in world.root.glob("cache/debs/*") if path.name != ".lock"}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (Fault(status=404), ["404 Not Found", "lock=latest; otherwise check that it answers"]),
        (Fault(status=503), ["503 Service Unavailable", "lock=latest; otherwise check"]),
        (Fault(body=b"other"), ["not what is locked", "lock=latest; otherwise use another mirror"]),
        (Fault(body=b"x" * 750), ["not what is locked", "lock=latest; otherwise use another"]),
    ],
    ids=["gone", "503", "other", "same size"],
)
def test_deb_that_cannot_be_had(
    fresh: World, site_lock: str, fault: Fault, parts: list[str]
) -> None:
    fresh.write("web.lock", site_lock)
    deb = fresh.repository.pool / "baseline_1_all.deb"
    assert deb.stat().st_size == 750
    fresh.server.faults[deb.name] = fault
    says(refused(fresh, "build", "spec=web", "lock=keep"),
         f"ERROR: cannot fetch baseline 1 from repository main ({fresh.server.url}):", *parts)  # fmt: skip
    digests = _digests(fresh)
    assert len(digests) > 12  # what did come is kept for the next time
    assert all(name == f"{digest}.deb" for name, digest in digests.items()), digests


@pytest.mark.root
@pytest.mark.parametrize("harm", ["gone", "other"])
def test_deb_of_a_folder_that_cannot_be_had(
    fresh: World, site_lock: str, tmp_path: Path, harm: str
) -> None:
    fresh.write("web.lock", site_lock)
    subprocess.run(["cp", "-al", fresh.repository.root, tmp_path / "copy"], check=True)
    deb = tmp_path / "copy/pool/stable/main/baseline_1_all.deb"
    deb.unlink()
    if harm == "other":
        deb.write_bytes(b"x" * 750)
    says(refused(fresh, "build", "spec=web", "lock=keep", f"mirror=file:{tmp_path}/copy"),
         f"ERROR: cannot fetch baseline 1 from repository main (file:{tmp_path}/copy):",
         {"gone": "No such file", "other": "is not what is locked"}[harm],
         "build with lock=latest")  # fmt: skip
    digests = _digests(fresh)
    assert all(name == f"{digest}.deb" for name, digest in digests.items()), digests
