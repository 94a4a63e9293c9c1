"""The cache's entries: believed, doubted, dropped, and shared by processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.entries import STAGE, put
from support.world import PROJECT
from tasks.errors import DamagedEntry
from tasks.host.files import read_sha256, remove
from tasks.store.cache import Cache
from tasks.store.digests import SEAL, broken, seal
from tasks.store.seen import SeenFiles
from tasks.store.whole import fault_of


def silent(_text: str) -> None:
    pass


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", SeenFiles(tmp_path / "seen.json"))


def flip(path: Path) -> None:
    """As a program would: ctime changes."""
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_what_was_put_is_got(cache: Cache) -> None:
    assert cache.get(STAGE) is cache.intact(STAGE) is None
    path = put(cache)
    entry = cache.require(STAGE)
    assert entry == cache.get(STAGE) == cache.intact(STAGE)
    assert (entry.path, entry.size, entry.facts) == (path, 7, {"epoch": 7})
    assert entry.sha256 == hashlib.sha256(b"content").hexdigest()
    assert path.name == f"layer-{'1' * 32}.tar.zst"
    assert {one.name for one in path.parent.iterdir()} == {path.name, cache.record(STAGE).name}


def test_names_that_are_no_utf8_are_in_records_and_in_memory(cache: Cache, tmp_path: Path) -> None:
    stage = replace(STAGE, inputs={"files": [["/\udcff", "file"]]})
    with cache.put(stage, {"epoch": 7, "own": ["etc/\udcff"]}) as temporary:
        temporary.write_bytes(b"x")
    assert cache.require(stage).facts["own"] == ["etc/\udcff"]
    assert fault_of([cache.record(stage), cache.file(stage)]) == ""
    odd = tmp_path / "\udcff"
    odd.write_text("x")
    digest = cache.memory.sha256(odd)
    cache.memory.save()
    assert SeenFiles(cache.memory.path).known[str(odd)][1] == digest


def test_a_block_that_fails_puts_nothing(cache: Cache) -> None:
    def fail() -> None:
        with cache.put(STAGE, {}) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((cache.root / "layers").iterdir()) == []


def test_facts_may_be_found_while_the_file_is_written(cache: Cache) -> None:
    facts: dict[str, Any] = {}
    with cache.put(STAGE, facts) as temporary:
        temporary.write_bytes(b"x")
        facts["epoch"] = 1
    assert cache.require(STAGE).facts == {"epoch": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(format=1),
        lambda record: record.update(key="2" * 32),
        lambda record: record.update(inputs={"a": [1, "u"]}),
        lambda record: record.update(facts={"epoch": 8}),
        lambda record: record.update(facts=None),
        lambda record: record.update(sum="0" * 64),
        lambda record: record.update(more=1),
        lambda record: record.pop("file"),
        lambda record: record.pop("sum"),
        lambda record: record["file"].update(size=8),
        lambda record: record["file"].update(name="../../x"),
        lambda record: record["file"].update(sha256="0" * 64),
    ],
)
def test_record_of_another_kind_is_not_believed(
    cache: Cache, change: Callable[[dict[str, Any]], Any]
) -> None:
    put(cache)
    record = cache.record(STAGE)
    document = json.loads(record.read_text())
    change(document)
    record.write_text(json.dumps(document))
    assert cache.get(STAGE) is None
    with pytest.raises(DamagedEntry):
        cache.require(STAGE)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\ud800"])
def test_text_that_is_no_record_is_not_believed(cache: Cache, text: str) -> None:
    put(cache)
    cache.record(STAGE).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert cache.get(STAGE) is cache.intact(STAGE) is None


def test_equal_keys_alone_are_not_believed(cache: Cache) -> None:
    put(cache)
    assert cache.get(replace(STAGE, inputs={"a": [2]})) is None


def test_a_changed_file_is_seen_although_its_size_and_mtime_are_the_same(cache: Cache) -> None:
    path = put(cache)
    info = path.stat()
    flip(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert cache.get(STAGE) is not None, "it goes by the record and the size"
    assert cache.intact(STAGE) is None
    assert path.exists(), "whoever holds no lock drops nothing"


def test_whoever_builds_drops_what_is_not_whole_and_keeps_what_is(cache: Cache) -> None:
    path = put(cache)
    with cache.building(STAGE, silent) as entry:
        assert entry == cache.get(STAGE)
    cache.damaged(STAGE, silent)
    assert path.exists(), "somebody made it anew already"
    flip(path)
    cache.damaged(STAGE, silent)
    assert not path.exists()
    assert not cache.record(STAGE).exists()
    for half in (cache.file(STAGE), cache.record(STAGE)):
        put(cache)
        half.unlink()
        with cache.building(STAGE, silent) as entry:
            assert entry is None
            assert list((cache.root / "layers").iterdir()) == []


def test_damage_that_no_clock_shows_is_forgotten_and_found(cache: Cache) -> None:
    """What `damaged` is told of was seen in the bytes: what stat(2) says does not count."""
    path = put(cache)
    digest = cache.require(STAGE).sha256
    flip(path)
    cache.memory.note(path, digest)  # as if its times had not changed
    assert cache.intact(STAGE) is not None
    cache.damaged(STAGE, silent)
    assert not path.exists()


def test_what_is_remembered_wrongly_damns_no_file(cache: Cache) -> None:
    path = put(cache)
    cache.memory.note(path, "0" * 64)
    assert cache.intact(STAGE) is not None
    assert cache.memory.sha256(path) == cache.require(STAGE).sha256


# ---------------------------------------------------------------- memory


def test_memory_reads_a_file_again_only_if_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, state = tmp_path / "file", tmp_path / "seen.json"
    file.write_text("x")
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return "d" * 64

    monkeypatch.setattr("tasks.store.seen.read_sha256", count)
    memory = SeenFiles(state)
    assert [memory.sha256(file) for _ in range(2)] == ["d" * 64] * 2
    memory.save()
    memory = SeenFiles(state)
    assert memory.sha256(file) == "d" * 64
    assert read == [file]
    changes: list[Callable[[], object]] = [
        lambda: file.write_text("xy"), lambda: os.utime(file, (1, 1)), lambda: file.chmod(0o600),
        lambda: (file.rename(tmp_path / "old"), file.write_text("xy")), lambda: memory.forget(file),
    ]  # fmt: skip
    for number, change in enumerate(changes, start=2):
        time.sleep(0.01)  # a tick of the kernel's clock
        change()
        memory.sha256(file)
        assert len(read) == number


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"FILE": 1}', '{"FILE": [1, 2, 3]}',
                                  '{"FILE": [[0, 0, 0, 0, 0], "x"]}', "\x80"])  # fmt: skip
def test_memory_that_rotted_is_no_memory(tmp_path: Path, text: str) -> None:
    file, state = tmp_path / "file", tmp_path / "seen.json"
    file.write_text("x")
    state.write_bytes(text.replace("FILE", str(file)).encode("latin-1"))
    assert SeenFiles(state).sha256(file) == hashlib.sha256(b"x").hexdigest()


def test_memory_keeps_nothing_of_what_is_gone(tmp_path: Path) -> None:
    memory = SeenFiles(tmp_path / "seen.json")
    for name in ("kept", "gone"):
        (tmp_path / name).write_text(name)
        memory.sha256(tmp_path / name)
    (tmp_path / "gone").unlink()
    memory.save()
    assert list(SeenFiles(tmp_path / "seen.json").known) == [str(tmp_path / "kept")]


# ---------------------------------------------------------------- .debs and indexes


def test_a_deb_is_what_its_name_says_or_is_dropped(cache: Cache, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"deb").hexdigest()
    source = tmp_path / "came"
    cache.debs.mkdir(parents=True)
    source.write_bytes(b"other")
    assert not cache.take_deb(source, sha256)
    assert source.exists()
    source.write_bytes(b"deb")
    assert not cache.has_deb(sha256)
    assert cache.take_deb(source, sha256)
    assert cache.has_deb(sha256)
    flip(cache.deb(sha256))
    assert not cache.has_deb(sha256)
    # Who looks holds no lock: another build may just have put a good one there.
    assert cache.deb(sha256).exists()
    cache.deb(sha256).unlink()
    for make in (Path.mkdir, lambda path: path.symlink_to(path.name)):
        make(cache.deb(sha256))
        assert not cache.has_deb(sha256)
        remove(cache.deb(sha256))


def test_a_sealed_folder_says_what_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot-a-b"

    def fresh() -> Path:
        remove(folder)
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_text(name)
        seal(folder)
        return folder

    assert broken(fresh()) == ""
    for harm, name in (
        (lambda: flip(folder / "a"), "a"), (lambda: (folder / "b").unlink(), "b"),
        (lambda: (folder / "c").touch(), "c"), (lambda: (folder / SEAL).unlink(), SEAL),
        (lambda: (folder / SEAL).write_text("{}"), "a"),
        (lambda: (folder / SEAL).write_text("[]"), SEAL),
        (lambda: (folder / SEAL).write_text("1"), SEAL),
    ):  # fmt: skip
        fresh()
        harm()
        assert broken(folder) == name


# ---------------------------------------------------------------- the whole of it


def test_entries_are_a_file_and_its_record_the_longest_unused_first(cache: Cache) -> None:
    stages = [replace(STAGE, key=str(number) * 32) for number in range(4)]
    image = replace(STAGE, kind="image", suffix=".img", key="9" * 32)
    for stage in (*stages, image):
        put(cache, stage)
    cache.debs.mkdir()
    deb = cache.deb("f" * 64)
    deb.write_bytes(b"x")
    (cache.root / "layers/.layer-x.tmp").touch()
    alone = cache.record(stages[3])
    cache.file(stages[3]).unlink()
    times = {**{cache.record(stage): 50 - number for number, stage in enumerate(stages)},
             deb: 10, cache.record(image): 1}  # fmt: skip
    for first, seconds in times.items():
        for path in first.parent.glob(f"{first.stem}.*"):
            os.utime(path, (seconds, seconds))
    os.utime(cache.file(image), (60, 60))  # one use of either is a use of both
    found = list(cache.entries())
    expected = [deb, *(cache.record(stage) for stage in reversed(stages)), cache.record(image)]
    assert [first for first, _paths in found] == expected
    assert dict(found)[alone] == [alone]
    assert dict(found)[cache.record(image)] == [cache.file(image), cache.record(image)]


def test_fault_says_why_an_entry_is_not_whole(cache: Cache) -> None:
    path, record = put(cache), cache.record(STAGE)
    assert fault_of([record, path]) == ""
    assert fault_of([record]) == "its file is missing"
    assert fault_of([path]) == "it has no record"
    flip(path)
    assert fault_of([record, path]) == "its SHA-256 is another"
    path.write_bytes(b"longer than before")
    assert fault_of([record, path]) == "its size is another"
    put(cache)
    record.write_text(record.read_text().replace('"epoch": 7', '"epoch": 8'))
    assert fault_of([record, path]) == "its record is damaged: it was changed since it was written"
    record.write_text("{}")
    assert fault_of([record, path]) == "its record is damaged: its format is not 2"


def test_unused_are_locks_of_no_entry_and_indexes_that_nobody_asked_for_a_month(
    cache: Cache,
) -> None:
    put(cache)
    for name in (STAGE.entry, f"layer-{'2' * 32}", "prune"):
        (cache.root / "locks").mkdir(exist_ok=True)
        (cache.root / "locks" / name).touch()
    old = time.time() - 31 * 86400
    new, unused, locked = ("0" * 15 + digit for digit in "123")
    for name, seconds in ((new, None), (unused, old), (locked, old), ("mine", old)):
        for folder in (f"live-{name}", f"snapshot-{name}-{name * 2}"):
            (cache.index / folder).mkdir(parents=True)
            if seconds:
                os.utime(cache.index / folder, (seconds, seconds))
    found = {path.name for path in cache.unused({locked * 2})}
    assert found == {f"layer-{'2' * 32}", f"live-{unused}", f"snapshot-{unused}-{unused * 2}",
                     f".{unused}.lock"}  # fmt: skip


@pytest.mark.starts
def test_two_processes_that_need_one_entry_make_it_once(tmp_path: Path) -> None:
    code = f"""
import sys, time; sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}]
from pathlib import Path
from tasks.host.files import read_sha256, remove
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles as Memory
from support.entries import STAGE
cache = Cache(Path({str(tmp_path)!r}) / "cache", Memory(Path(sys.argv[1])))
with cache.building(STAGE, lambda text: None) as entry:
    if entry is None:
        with cache.put(STAGE, {{"epoch": 1, "by": sys.argv[1]}}) as temporary:
            temporary.write_bytes(b"x" * 100_000)
            time.sleep(0.3)
    print("hit" if entry else "built")
"""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / f"{number}.json")],
                             stdout=subprocess.PIPE, text=True, env=environment) for number in range(2)]  # fmt: skip
    said = sorted(run.communicate(timeout=30)[0].strip() for run in runs)
    assert said == ["built", "hit"]


def test_rotten_is_what_has_other_bytes_and_the_old_dates(tmp_path: Path) -> None:
    memory = SeenFiles(tmp_path / "seen.json")
    for name in ("whole", "rotted", "written", "elsewhere/rotted"):
        path = tmp_path / "out" / name if "/" not in name else tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        # What a disk does cannot be done to a plain file: the memory has other bytes instead.
        memory.note(path, "0" * 64 if "rotted" in name else read_sha256(path))
    (tmp_path / "out/written").write_text("by another build, since")
    assert list(memory.rotten(tmp_path / "out")) == [tmp_path / "out/rotted"]
    assert list(memory.rotten(tmp_path / "out")) == []
