"""A shared cache in a folder, where others write, plant links, are killed and look at the same time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.remotes import Place, shared_servers
from support.stored import BLOB, DATA, NAME, RECORD, SHA256, got, put
from support.tally import TALLY
from tasks.remote import folder, names
from tasks.remote.backend import Backend, Blob, Missing, RemoteFault

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


def test_what_is_private_in_a_folder_is_not_for_others() -> None:
    place = shared_servers().place("folder")
    cache = place.opened()
    assert place.folder is not None
    path = place.folder / names.file(SHA256)
    for private, mode in ((True, 0o640), (False, 0o644)):
        cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=private), io.BytesIO(DATA))
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_links_that_are_planted_in_a_folder_lead_nowhere(tmp_path: Path) -> None:
    place = shared_servers().place("folder")
    cache = place.opened()
    assert place.folder is not None
    put(cache)
    secret = tmp_path / "secret"
    secret.write_bytes(b"{}")
    plants: list[tuple[str, Callable[[], object]]] = [
        (names.record(NAME), lambda: cache.record(NAME)),
        (names.file(SHA256), lambda: cache.size(SHA256)),
        (names.file(SHA256), lambda: got(cache)),
    ]
    for name, look in plants:
        path = place.folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(secret)
        TALLY["hostile attempts"] += 1
        with contextlib.suppress(Missing):
            assert look() is None
    put(cache)  # in the link's place, and not through it
    assert secret.read_bytes() == b"{}"
    assert got(cache) == DATA
    away = tmp_path / "away"
    (place.folder / "cas").rename(away)
    (place.folder / "cas").symlink_to(away)
    before = sorted(away.iterdir())
    with pytest.raises((RemoteFault, Missing)):
        got(cache)
    with pytest.raises(RemoteFault):
        cache.put_file(Blob(sha256="0" * 64, size=1), io.BytesIO(b"1"))
    assert sorted(away.iterdir()) == before


# ---------------------------------------------------------------- a folder that others use, too


def as_nobody(code: str, *words: object) -> str:
    """What Python says as a user who owns nothing."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.check_output(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code,
         *map(str, words)], text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


LOOK = """\
import sys
from pathlib import Path
from tasks.remote.backend import RemoteFault, Unusable
from tasks.remote.folder import Folder
cache = Folder(Path(sys.argv[1]), 2)
cache.writing = True
for work in (lambda: cache.record(sys.argv[2]), lambda: b"".join(cache.chunks(sys.argv[3], 0)),
             lambda: cache.size(sys.argv[3]), lambda: cache.record(sys.argv[4]),
             lambda: cache.put_record(sys.argv[2], b"mine", [], replace=True)):
    try:
        print(work())
    except (RemoteFault, Unusable) as fault:
        print(type(fault).__name__, fault)
"""


def test_what_one_may_not_read_costs_that_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    place = shared_servers().place("folder")
    cache, folder = place.opened(), place.folder
    assert folder is not None
    shared_servers().root.chmod(0o755)
    cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=True), io.BytesIO(DATA))
    cache.put_record(NAME, RECORD, [BLOB])
    other = "base-" + "6" * 32
    cache.put_record(other, b"open", [BLOB])
    (folder / names.record(NAME)).chmod(0o600)
    (folder / "ac").chmod(0o1777)  # whose files only their owner replaces
    said = as_nobody(LOOK, folder, NAME, SHA256, other).splitlines()
    unusable = "Unusable this user may not read it"
    assert said == [unusable, unusable, str(len(DATA)), "b'open'", "False"]
    assert cache.record(NAME) == RECORD
    (folder / "ac").chmod(0o700)
    said = as_nobody(LOOK, folder, NAME, SHA256, other).splitlines()
    assert said[0] == "RemoteFault Permission denied"


@pytest.mark.parametrize("way", ["unnamed", "named", "fat"])
def test_of_two_who_look_at_once_the_first_one_stays(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file cannot be without a name while it is written, and where none has two."""
    if way != "unnamed":
        monkeypatch.setattr(os, "O_TMPFILE", 0)  # a folder is opened: EISDIR, as NFS says it
    if way == "fat":
        monkeypatch.setattr(os, "link", functools.partial(_refused, errno.EPERM))
    caches = [Place("folder", f"file://{tmp_path}/share").opened() for _ in range(8)]
    for number in range(10):
        name = f"base-{number:032d}"
        texts = [f"{one}".encode() * 100 for one in range(len(caches))]

        def put_one(one: Backend, text: bytes, name: str = name) -> bool:
            return one.put_record(name, text, [])

        with ThreadPoolExecutor(len(caches)) as pool:
            first = list(pool.map(put_one, caches, texts))
        assert first.count(True) == 1
        assert caches[0].record(name) == texts[first.index(True)]
    assert not list(tmp_path.glob("share/*/.strata-*"))


def _refused(number: int, *_given: object, **_named: object) -> None:
    """As a system call of a filesystem that cannot do it."""
    raise OSError(number, os.strerror(number))


def test_what_killed_uploads_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Place("folder", f"file://{tmp_path}/share").opened()
    put(cache)
    folder = tmp_path / "share"
    old, new, held = (folder / "cas" / f".strata-{digit * 16}.tmp" for digit in "abc")
    foreign = folder / "cas/.strata-x.tmp"
    for path in (old, new, held, foreign):
        path.write_text("half")
        os.utime(path, (1, 1))
    os.utime(new)
    assert cache.foreign() == ["cas/.strata-x.tmp"]  # type: ignore[attr-defined]
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        again = Place("folder", f"file://{tmp_path}/share").opened()
        again.record(NAME)
        assert old.exists()
        again.put_record(NAME, RECORD, [])
        assert [one.exists() for one in (old, new, held, foreign)] == [False, True, True, True]
    cache.sweep()  # type: ignore[attr-defined]
    assert [one.exists() for one in (new, held, foreign)] == [True, False, True]


def test_a_name_that_a_sweep_took_before_its_lock_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", 0)
    lock = fcntl.flock
    taken: list[Path] = []

    def swept(descriptor: int, kind: int) -> None:
        if not taken:
            taken.extend((tmp_path / "cas").glob(".strata-*"))
            taken[0].unlink()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", swept)
    cache = Place("folder", f"file://{tmp_path}").opened()
    cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=True), io.BytesIO(DATA))
    assert taken
    assert got(cache) == DATA
    # Written by its name alone, it would be another file, with neither lock nor mode.
    assert stat.S_IMODE((tmp_path / names.file(SHA256)).stat().st_mode) == 0o640


def test_what_goes_while_prune_looks_is_no_fault(tmp_path: Path) -> None:
    from tasks.commands.prune import Limits, chosen, taken

    cache = Place("folder", f"file://{tmp_path}/share").opened()
    for number in range(3):
        cache.put_record(f"base-{number:032d}", RECORD, [])
    groups = cache.groups()  # type: ignore[attr-defined]
    assert len(groups) == 3
    for gone in (groups[0], groups[1]):
        gone[0].unlink()
    limits = Limits(keep=0, seconds=None, dry=False)
    assert list(chosen(groups[:2], 100, (), limits)) == []
    assert list(chosen(groups, 100, (), limits, folder.since)) == [groups[2]]
    assert taken(groups[0][0]) == 0
    assert [folder.since(one[0]) is None for one in groups] == [True, True, False]
