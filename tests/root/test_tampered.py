"""Locks, records and files of the cache that somebody changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from support.hostile import NUMBERS, STRINGS, leaves, put
from support.samples import lock, record
from support.world import World
from tasks.errors import BuildError
from tasks.plan import lockfile


def test_hostile_value_in_each_field_of_a_lock() -> None:
    """A lock's values go to commands and paths: each is plain, or the lock is refused."""
    text = lockfile.dump(lock([record("alpha")], {"app": [record("beta")]}))
    document = json.loads(text)
    document["layers"][0]["removes"] = ["gamma"]
    paths = list(leaves(document))
    assert len(paths) >= 23
    for path in paths:
        for value in [*STRINGS, *NUMBERS]:
            found = parsed(json.dumps(put(document, path, value)))
            if isinstance(found, str):
                assert found.startswith("x.lock: not a lock that Strata wrote: ")
                assert len(found) < 20_000
                continue
            for one in (*found.base, *found.layers[0].records):
                assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", one.package)
                assert re.fullmatch(r"[A-Za-z0-9.+:~-]+", one.version)
                assert re.fullmatch(r"[a-z0-9-]+", one.architecture)
                assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
                assert ".." not in one.path.split("/")
                assert not re.search(r"[\x00-\x1f\x7f'\"<>\\]", one.path)
            for repo in found.repos:
                assert not re.search(
                    r"[\x00-\x08\x0a-\x1f\x7f]", "".join([repo.name, *repo.fields.values()])
                )


def parsed(text: str) -> lockfile.Lock | str:
    try:
        return lockfile.parse(text, where="x.lock")
    except BuildError as error:
        return str(error)


def _edit(world: World, change: Callable[[dict[str, Any]], Any]) -> None:
    path = world.root / "specs/web.lock"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.root
def test_tampered_locks_that_parse(built: World) -> None:
    """Another .deb under a package's name, another size, another repository: an error, no image."""
    path = built.root / "specs/web.lock"
    text, before = path.read_text(), built.outputs()
    locked = json.loads(text)
    beta = next(one for one in locked["layers"][1]["records"] if one["package"] == "beta")
    gamma = next(one for one in locked["layers"][1]["records"] if one["package"] == "gamma")

    def at(lock: dict[str, Any], name: str) -> dict[str, Any]:
        return next(one for one in lock["layers"][1]["records"] if one["package"] == name)

    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "other .deb of the cache": lambda lock: at(lock, "beta").update(sha256=gamma["sha256"]),
        "unknown digest": lambda lock: at(lock, "beta").update(sha256="0" * 64),
        "version": lambda lock: at(lock, "beta").update(version="9"),
        "architecture": lambda lock: at(lock, "beta").update(architecture="arm64"),
        "size and digest": lambda lock: at(lock, "beta").update(
            size=beta["size"] + 1, sha256="1" * 64
        ),
        "path": lambda lock: at(lock, "beta").update(path="pool/none.deb", sha256="2" * 64),
        "twice": lambda lock: lock["layers"][1]["records"].append({**beta, "version": "0"}),
        "a package less": lambda lock: lock["layers"][1]["records"].remove(at(lock, "gamma")),
    }
    for name, change in changes.items():
        path.write_text(text)
        _edit(built, change)
        build = built.doit("layer:app", "spec=web", "lock=frozen", check=False)
        assert build.code == 1, (name, build.text)
        assert build.err.count("ERROR: ") == 1, (name, build.text)
        assert "Traceback" not in build.text, (name, build.text)
    assert built.outputs() == before
    path.write_text(text)
    assert set(built.build().values()) == {"hit"}


@pytest.mark.root
def test_tampered_records_and_files_of_the_cache(built: World) -> None:
    """Each field of a record, and the file under an unchanged one: dropped and built again."""
    outputs = built.outputs()
    (built.root / "cache/layers").chmod(0o755)
    record_path = next(path for path in (built.root / "cache/layers").glob("layer-*.json")
                       if json.loads(path.read_text())["name"] == "app")  # fmt: skip
    text = record_path.read_text()
    document = json.loads(text)
    tampered = [
        put(document, ("file", "name"), "../../../../etc/passwd"),
        put(document, ("file", "sha256"), "0" * 64),
        put(document, ("facts", "epoch"), document["facts"]["epoch"] + 1),
        None,
    ]
    for number, change in enumerate(tampered):
        record_path.unlink()
        record_path.write_text(json.dumps(change))
        build = built.doit("layer:app", "spec=web", check=False)
        assert "Traceback" not in build.text, (number, build.text)
        assert build.code == 0, (number, build.text)
        assert json.loads(record_path.read_text()) == document, number
    assert built.build()["app"] == "hit"
    assert built.outputs() == outputs
