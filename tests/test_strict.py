"""What Strata wrote once and reads again: whatever else it is by now is damage, never a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import World
from tasks import cache as caches
from tasks import inputs, lockfile, strict
from tasks.cache import Cache, Memory, read_sha256
from tasks.errors import BuildError
from tasks.lock import Answers
from test_cache import IMAGE_FACTS, STAGE, put

IMAGE = replace(STAGE, kind="image", suffix=".img.gz", key="9" * 32)

TEXTS = {
    "deep lists": "[" * 200_000 + "]" * 200_000,
    "deep mappings": '{"a":' * 200_000 + "1" + "}" * 200_000,
    "a deep field": '{"a":' + "[" * 40 + "]" * 40 + "}",
    "no mapping": "[1]",
    "a name twice": '{"a": 1, "a": 2}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [-Infinity]}',
    "a number beyond all": '{"a": 1e999}',
    "digits": '{"a": ' + "1" * 10_000 + "}",
    "too large": '{"a": "' + "x" * strict.RECORD_LIMIT + '"}',
    "no UTF-8": '{"a": "\udcff"}',
    "more": "{} {}",
    "nothing": "",
}


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "digits"])
def test_text_that_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXTS[name].encode("utf-8", "surrogateescape"))
    with pytest.raises((ValueError, OSError)):
        strict.read(path)
    makes: list[Callable[[], object]] = [
        lambda: path.symlink_to("/dev/zero"), lambda: os.mkfifo(path), path.mkdir,
    ]  # fmt: skip
    for make in makes:
        path.unlink()
        make()
        with pytest.raises(OSError, match=r".+"):
            strict.read(path)
        if path.is_dir():
            path.rmdir()
            path.touch()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", Memory(tmp_path / "seen.json"))


def forge(cache: Cache, change: Callable[[dict[str, Any]], Any], stage: Any) -> None:
    """Change a record, and its digest with it: it is its form alone that tells."""
    path = cache.record(stage)
    record = json.loads(path.read_text())
    change(record)
    record["sum"] = caches._sum(record)
    path.write_text(json.dumps(record))


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no epoch": lambda record: record["facts"].pop("epoch"),
    "an epoch of 2^70": lambda record: record["facts"].update(epoch=2**70),
    "an epoch after 2100": lambda record: record["facts"].update(epoch=caches.LAST_EPOCH + 1),
    "an epoch before 1970": lambda record: record["facts"].update(epoch=-1),
    "an epoch of text": lambda record: record["facts"].update(epoch="7"),
    "an epoch that is true": lambda record: record["facts"].update(epoch=True),
    "a fraction": lambda record: record["facts"].update(epoch=7.5),
    "a size of less than nothing": lambda record: record["facts"].update(size=-1),
    "a size of 2^63": lambda record: record["facts"].update(size=2**63),
    "facts of a list": lambda record: record.update(facts=[]),
    "a file of no digest": lambda record: record["file"].update(sha256="0" * 63),
    "a file of no name": lambda record: record["file"].update(name=7),
    "inputs of a list": lambda record: record.update(inputs=[1]),
    "a key in capitals": lambda record: record.update(key="A" * 32),
    "a stage of none": lambda record: record.update(stage="kernel"),
    "a format that is true": lambda record: record.update(format=2.0),
}
FORGED_IMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no raw": lambda record: record["facts"].pop("raw"),
    "no packed": lambda record: record["facts"].pop("packed"),
    "raw of text": lambda record: record["facts"].update(raw="x"),
    "raw of no size": lambda record: record["facts"]["raw"].pop("size"),
    "raw of no MD5": lambda record: record["facts"]["raw"].update(md5="0"),
    "no uuid": lambda record: record["facts"].pop("uuid"),
    "a uuid of a number": lambda record: record["facts"].update(uuid=1),
}


@pytest.mark.parametrize("name", [*FORGED, *FORGED_IMAGES])
def test_a_record_of_another_form_is_damaged(cache: Cache, name: str) -> None:
    stage = STAGE if name in FORGED else IMAGE
    path = put(cache, stage)
    assert cache.get(stage) is not None
    forge(cache, lambda record: record["facts"].setdefault("more", 1), stage)
    assert cache.get(stage) is not None, "what later versions add is no damage"
    forge(cache, {**FORGED, **FORGED_IMAGES}[name], stage)
    assert cache.get(stage) is None
    fault = cache.fault([cache.record(stage), path])
    assert fault.startswith("its record is damaged: "), fault
    with cache.building(stage, lambda _text: None) as entry:
        assert entry is None
    assert not path.exists()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_the_place_of_each_file(cache: Cache, tmp_path: Path, name: str) -> None:
    raw = TEXTS[name].encode("utf-8", "surrogateescape")
    path = put(cache)
    cache.record(STAGE).write_bytes(raw)
    assert cache.get(STAGE) is None
    assert cache.fault([cache.record(STAGE), path]).startswith("its record ")
    state = tmp_path / "state.json"
    state.write_bytes(raw)
    assert Memory(state).sha256(path) == read_sha256(path)
    state.write_bytes(raw)
    assert inputs.tool_versions(["tar"], state)["tar"]
    answers = Answers(tmp_path / "resolved")
    answers.put({"wanted": 1}, [], [])
    next((tmp_path / "resolved").iterdir()).write_bytes(raw)
    assert answers.get({"wanted": 1}, set()) is None
    (path.parent / caches.SEAL).write_bytes(raw)
    assert caches.broken(path.parent) == caches.SEAL
    with pytest.raises(BuildError, match="not a lock that Strata wrote"):
        lockfile.parse(raw.decode("utf-8", "replace"), where="specs/web.lock")


def test_answers_are_believed_only_in_their_form(tmp_path: Path) -> None:
    from tasks.lock import _sum

    answers = Answers(tmp_path)
    for removes in ([1], "abc", ["../x"], [["a"]]):
        kept: dict[str, Any] = {"asked": {}, "adds": [], "removes": removes}
        kept["sum"] = _sum(kept)
        answers._path({}).write_text(json.dumps(kept))
        assert answers.get({}, set()) is None
    answers.put({}, [], ["mawk"])
    assert answers.get({}, set()) == ([], ["mawk"])


@pytest.mark.root
def test_verify_names_and_drops_forged_records_and_a_build_makes_them_again(tiny: World) -> None:
    tiny.build()
    before = tiny.outputs()
    records = sorted((tiny.root / "cache").glob("*/*.json"))
    assert len(records) == 2
    for path, field in zip(records, ("raw", "epoch"), strict=True):
        record = json.loads(path.read_text())
        record["facts"].pop(field)
        record["sum"] = caches._sum(record)
        path.write_text(json.dumps(record))
    (tiny.root / ".doit/seen.json").write_text("[" * 200_000)
    (tiny.root / "out/web/build.json").write_text("[" * 200_000)
    why = tiny.doit("why", "spec=web")
    assert "would be built" in why.out
    build = tiny.doit("verify", check=False)
    assert build.code == 1
    assert "Traceback" not in build.text
    for path, field in zip(records, ("facts' raw", "facts' epoch"), strict=True):
        name = path.relative_to(tiny.root)
        assert f"{name}: its record is damaged: it has no {field}; dropped" in build.out
        assert not path.exists()
    assert set(tiny.build().values()) == {"built"}
    assert tiny.outputs() == before


def test_image_facts_are_those_of_the_test() -> None:
    caches._check_facts("image", dict(IMAGE_FACTS))
