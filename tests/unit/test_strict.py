"""What Strata wrote once and reads again: whatever else it is by now is damage, never a traceback."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.entries import IMAGE_FACTS, STAGE, put
from support.made import told
from support.world import World
from tasks.debian import deb822
from tasks.errors import BuildError
from tasks.host import strict
from tasks.host.files import read_sha256
from tasks.plan import lockfile
from tasks.plan.tools import tool_versions
from tasks.repos.resolutions import ResolutionCache
from tasks.spec.model import LAST_EPOCH
from tasks.store.cache import Cache
from tasks.store.digests import SEAL, broken
from tasks.store.record import _check_facts, record_sum
from tasks.store.seen import SeenFiles
from tasks.store.whole import fault_of

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
    return Cache(tmp_path / "cache", SeenFiles(tmp_path / "seen.json"))


def forge(cache: Cache, change: Callable[[dict[str, Any]], Any], stage: Any) -> None:
    """Change a record, and its digest with it: it is its form alone that tells."""
    path = cache.record(stage)
    record = json.loads(path.read_text())
    change(record)
    record["sum"] = record_sum(record)
    path.write_text(json.dumps(record))


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no epoch": lambda record: record["facts"].pop("epoch"),
    "an epoch of 2^70": lambda record: record["facts"].update(epoch=2**70),
    "an epoch after 2100": lambda record: record["facts"].update(epoch=LAST_EPOCH + 1),
    "an epoch before 1970": lambda record: record["facts"].update(epoch=-1),
    "an epoch of text": lambda record: record["facts"].update(epoch="7"),
    "an epoch that is true": lambda record: record["facts"].update(epoch=True),
    "a size that no disk has": lambda record: record["facts"].update(size=2**62),
    "own of a text": lambda record: record["facts"].update(own="a"),
    "drawn of a number": lambda record: record["facts"].update(drawn=5),
    "drawn of null": lambda record: record["facts"].update(drawn=None),
    "drawn of texts": lambda record: record["facts"].update(drawn=["x"]),
    "private of a text": lambda record: record["facts"].update(private="no"),
    "a file of another folder": lambda record: record["file"].update(name="a/b"),
    "a file of no name at all": lambda record: record["file"].update(name=""),
    "a file that is a folder": lambda record: record["file"].update(name=".."),
    "a file of another entry": lambda record: record["file"].update(
        name=f"layer-{'2' * 32}.tar.zst"
    ),
    "a file that is its record": lambda record: record["file"].update(
        name=f"layer-{'1' * 32}.json"
    ),
    "a file of another kind": lambda record: record["file"].update(name=f"layer-{'1' * 32}.img"),
    "a file of 2^62 bytes": lambda record: record["file"].update(size=2**62),
    "a key of another entry": lambda record: record.update(key="2" * 32),
    "a stage of another entry": lambda record: record.update(stage="base"),
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
    "an image's drawn of a number": lambda record: record["facts"].update(drawn=5),
    "a raw of 2^62 bytes": lambda record: record["facts"]["raw"].update(size=2**62),
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
    fault = fault_of([cache.record(stage), path])
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
    assert fault_of([cache.record(STAGE), path]).startswith("its record ")
    state = tmp_path / "state.json"
    state.write_bytes(raw)
    assert SeenFiles(state).sha256(path) == read_sha256(path)
    state.write_bytes(raw)
    assert tool_versions(["isal"], state)["isal"]  # dpkg need not be asked for a module
    answers = ResolutionCache(tmp_path / "resolved")
    answers.put({"wanted": 1}, [], [])
    next((tmp_path / "resolved").iterdir()).write_bytes(raw)
    assert answers.get({"wanted": 1}, set()) is None
    (path.parent / SEAL).write_bytes(raw)
    assert broken(path.parent) == SEAL
    with pytest.raises(BuildError, match="not a lock that Strata wrote"):
        lockfile.parse(raw.decode("utf-8", "replace"), where="specs/web.lock")


def test_answers_are_believed_only_in_their_form(tmp_path: Path) -> None:
    from tasks.repos.resolutions import _sum

    answers = ResolutionCache(tmp_path)
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
        record["sum"] = record_sum(record)
        path.write_text(json.dumps(record))
    (tiny.root / ".doit/seen.json").write_text("[" * 200_000)
    (tiny.root / "out/web/build.json").write_text("[" * 200_000)
    # What is remembered of the same image is whole, but its inputs are of a form that nobody knows.
    path = tiny.root / ".doit/made-of/web.json"
    mark, text = path.read_text().splitlines()
    made_of = json.loads(text)
    made_of["stages"][-1] |= {"key": "0" * 32}
    made_of["stages"][-1]["inputs"]["options"] = 5
    path.write_text(f"{mark}\n{json.dumps(made_of)}\n")
    why = tiny.doit("why", "spec=web", check=False)
    assert "would be built" in why.out
    assert "the inputs of its last build cannot be compared" in why.out
    assert "Traceback" not in why.text
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
    _check_facts("image", dict(IMAGE_FACTS))


@pytest.mark.parametrize("half", [r"\ud800", r"\uDFFF", r"\udc80", r"\udcff", "\ud800"])
@pytest.mark.parametrize("place", ['{"a": "x%sy"}', '{"x%sy": 1}', '{"a": [{"b": ["%s"]}]}'])
def test_half_of_a_character_is_refused_wherever_it_stands(half: str, place: str) -> None:
    with pytest.raises(strict.Damaged, match="half of a character"):
        strict.parse(place % half)


def test_whole_characters_and_bytes_of_names_are_read() -> None:
    assert strict.parse(r'{"a": "\ud83d\ude00 \\ud800 \u00fc"}') == {"a": "😀 \\ud800 ü"}
    # What os.fsdecode makes of a file's name that is not UTF-8: records have such paths.
    assert strict.parse(r'{"own": ["\udcfc"]}', paths=True) == {"own": ["\udcfc"]}
    with pytest.raises(strict.Damaged, match="half of a character"):
        strict.parse(r'{"own": ["\ud800"]}', paths=True)


def test_many_names_of_which_the_last_stands_twice_are_read_in_one_pass() -> None:
    names = [f"a{number}" for number in range(40_000)]
    began = time.process_time()
    with pytest.raises(strict.Damaged, match="'a39999' stands twice"):
        strict.parse("{" + ", ".join(f'"{name}": 1' for name in [*names, names[-1]]) + "}")
    record = {"package": "", "version": "1", "architecture": "all", "sha256": "0" * 64, "size": 1,
              "path": "x.deb", "repository": "main"}  # fmt: skip
    adds = [{**record, "package": name} for name in [*names, names[-1]]]
    with pytest.raises(ValueError, match="'a39999:all' stands twice"):
        lockfile.answer_of(adds, [], {"main"})
    repo = {"name": "main", "release": "0" * 64, "date": "", "fields": {}}
    layers = [{"name": name, "records": [], "removes": [], "manual": []} for name in names[:3000]]
    lock = {"format": 2, "inputs": "0" * 32, "arch": "amd64", "repos": [repo], "manual": [],
            "base": adds[:3000], "layers": layers}  # fmt: skip
    assert len(lockfile.parse(json.dumps(lock), where="x").layers) == 3000
    layers[-1]["manual"] = ["nowhere"]
    with pytest.raises(BuildError, match="manual has 'nowhere', which is not installed there"):
        lockfile.parse(json.dumps(lock), where="x")
    index = b"Package: a\nArchitecture: all\n" + b"Priority: required\n" * 40_000
    assert deb822.selected_names(index, "minbase", "amd64") >= {"a"}
    text = "SHA256:\n" + " x\n" * 40_000
    assert deb822.stanza_fields(text) == {"SHA256": "\nx" * 40_000}
    assert time.process_time() - began < 15


def test_a_lock_with_half_of_a_character_is_refused_as_such() -> None:
    repo = {"name": "main", "release": "0" * 64, "date": "", "fields": {"Origin": "De\ud800bian"}}
    lock = {"format": 2, "inputs": "0" * 32, "arch": "amd64", "repos": [repo], "manual": [],
            "base": [], "layers": []}  # fmt: skip
    with pytest.raises(BuildError, match="not a lock that Strata wrote: half of a character"):
        lockfile.parse(json.dumps(lock), where="specs/web.lock")


@pytest.mark.parametrize(
    "old",
    [{"manual": [1]}, {"manual": "abc"}, {"shown": "x"}, {"shown": [1]}, {"records": [5]},
     {"records": [[]]}, {"records": [[["a"], "1", "b"]]}, {"tools": 5}, {"files": {"a": 1}},
     {"tool_version": "1"}],
)  # fmt: skip
def test_older_inputs_of_no_known_form_are_not_compared(old: dict[str, Any]) -> None:
    new = {"manual": ["a"], "shown": {"hostname": "a"}, "records": [["a", "1", "all", "0"]],
           "tools": {"xz": "1"}, "files": [["/a"]]}  # fmt: skip
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        told({**new, **old}, new)
