"""The cache: one immutable file and one small record for each key. It alone writes below cache/."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tasks import cachedir, host, safe, strict
from tasks.errors import DamagedEntry
from tasks.plan import Stage, canonical

FORMAT = 2
FOLDERS = {"base": "layers", "layer": "layers", "image": "images"}
LARGEST = 1 << 46
"""Bytes of a file, or of the files of a tree: four times the largest filesystem of an image."""
LAST_EPOCH = 4102444800
"""2100-01-01: what a .deb or a record says of its date is not believed beyond it."""
_TEMPORARY = host.OWN_TEMPORARY.pattern
_ENTRY = "[0-9a-f]{32}"
OWN = {
    "layers": re.compile(rf"(base|layer)-{_ENTRY}\.(json|tar\.zst)"),
    "images": re.compile(rf"image-{_ENTRY}\.(json|img(\.gz|\.zst|\.xz)?)"),
    "debs": re.compile(r"[0-9a-f]{64}\.deb"),
    "locks": re.compile(rf"prune|(base|layer|image)-{_ENTRY}"),
    "index": re.compile(
        r"(live|\.new)-[0-9a-f]{16}|snapshot-[0-9a-f]{16}-[0-9a-f]{32}|\.[0-9a-f]{16}\.lock"
    ),
}
"""The names, in full, of what Strata puts into the folders of its cache; no other is removed."""
SEAL = ".sha256"
"""In a snapshot of indexes: the SHA-256 of each file by its name."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A record and its file: `size` in bytes, `facts` what the stage found out while it ran."""

    path: Path
    sha256: str
    size: int
    facts: Mapping[str, Any]


class Memory:
    """Which files were read and found whole, by what stat(2) says of them.

    A file that has not been written since need not be read again to know that it is whole: the
    kernel sets ctime, and no program can set it back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = False
        self.known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            loaded = strict.read(path, strict.LIST_LIMIT, paths=True)
            self.known = {name: entry for name, entry in loaded.items() if _remembered(entry)}

    @staticmethod
    def _mark(path: Path) -> list[int]:
        info = path.lstat()
        return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file, read only if it may have changed."""
        mark = self._mark(path)
        entry = self.known.get(str(path))
        if entry is not None and entry[0] == mark:
            return str(entry[1])
        digest = read_sha256(path)
        # The mark from before the reading: what was written meanwhile has another one.
        self._keep(path, mark, digest)
        return digest

    def holds(self, path: Path, sha256: str) -> bool:
        """Whether a file has this digest; what is remembered may have rotted, so it damns none."""
        if self.sha256(path) == sha256:
            return True
        self.forget(path)
        return self.sha256(path) == sha256

    def note(self, path: Path, digest: str) -> None:
        """Remember the digest of a file that has just been written whole."""
        self._keep(path, self._mark(path), digest)

    def forget(self, path: Path) -> None:
        """Read the file the next time, whatever stat(2) says."""
        self.known.pop(str(path), None)
        self.changed = True

    def _keep(self, path: Path, mark: list[int], digest: str) -> None:
        self.known[str(path)] = [mark, digest]
        self.changed = True

    def rotten(self, folder: Path) -> Iterator[Path]:
        """The files below a folder that have other bytes now, though stat(2) says what it said.

        They are forgotten. What has another date was written since, by another build it may be, and
        is read by the next one anyway.
        """
        for path in sorted(map(Path, self.known)):
            entry = self.known[str(path)]
            if folder not in path.parents:
                continue
            with contextlib.suppress(OSError):
                same = self._mark(path) == entry[0] and read_sha256(path) != entry[1]
                if same and self._mark(path) == entry[0]:
                    self.forget(path)
                    yield path

    def save(self) -> None:
        """Keep it for the next process."""
        if self.changed:
            known = {path: value for path, value in self.known.items() if os.path.exists(path)}
            if os.path.isdir(self.path):
                remove(self.path)
            host.write_text(self.path, json.dumps(known))
            self.changed = False


def _remembered(entry: Any) -> bool:
    """Whether this is what `Memory` notes of a file: five numbers of stat(2) and a digest."""
    return (
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list)
        and len(entry[0]) == 5 and all(type(one) is int for one in entry[0])
        and isinstance(entry[1], str) and bool(re.fullmatch(strict.SHA256, entry[1]))
    )  # fmt: skip


def read_sha256(path: Path) -> str:
    """SHA-256 of a regular file's content, read now."""
    return _digest(open(safe.reading(path), "rb"))


def _digest(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    with opened as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


remove = host.remove


def seal(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder into it, for `broken` to compare."""
    sums = {path.name: read_sha256(path) for path in folder.iterdir()}
    host.write_text(folder / SEAL, json.dumps(sums, indent=1, sort_keys=True) + "\n", sync=False)


def sealed(folder: Path) -> dict[str, str]:
    """The SHA-256 that a sealed folder's files had; ValueError or OSError if that is damaged."""
    sums = strict.read(folder / SEAL)
    return {name: strict.text(sums, name, strict.SHA256) for name in sums}


def broken(folder: Path) -> str:
    """The first file of a sealed folder that is not what it was, or ""; reads every byte."""
    name = SEAL
    try:
        sums = sealed(folder)
        for name in sorted({*sums, *(path.name for path in folder.iterdir())} - {SEAL}):
            if read_sha256(folder / name) != sums.get(name):
                return name
    except (OSError, ValueError):
        return name
    return ""


def read_record(path: Path) -> dict[str, Any]:
    """A record, whole and of the form that `put` writes; Damaged (a ValueError) or OSError."""
    record = strict.read(path, paths=True)
    if record.get("format") != FORMAT or type(record["format"]) is not int:
        raise strict.Damaged(f"its format is not {FORMAT}")
    stage = strict.text(record, "stage", "|".join(FOLDERS))
    strict.text(record, "name")
    entry = f"{stage}-{strict.text(record, 'key', strict.KEY)}"
    if path.name != f"{entry}.json":
        raise strict.Damaged("it is another entry's")
    file = strict.mapping(strict.field(record, "file"), "its file")
    name = strict.text(file, "name", OWN[FOLDERS[stage]].pattern, what="file's ")
    if name.partition(".")[0] != entry or name == path.name:
        raise strict.Damaged(f"its file's name is another entry's: {name!r}")
    strict.text(file, "sha256", strict.SHA256, what="file's ")
    strict.number(file, "size", LARGEST, "file's ")
    strict.mapping(strict.field(record, "inputs"), "its inputs")
    _check_facts(stage, strict.mapping(strict.field(record, "facts"), "its facts"))
    if strict.text(record, "sum", strict.SHA256) != _sum(record):
        raise strict.Damaged("it was changed since it was written")
    return record


def _check_facts(stage: str, facts: dict[str, Any]) -> None:
    """Damaged unless all is there that a later stage or `out/` takes from a record of this kind."""
    # Entries of older versions lack what has a default here.
    if type(facts.get("private", False)) is not bool:
        raise strict.Damaged(f"its facts' private is malformed: {str(facts['private'])[:80]!r}")
    for notice in strict.items(facts.get("drawn", []), "its facts' drawn"):
        strict.mapping(notice, "of its facts' drawn")
    if stage != "image":
        strict.number(facts, "epoch", LAST_EPOCH, "facts' ")
        for name in ("installed", "size"):
            if name in facts:
                strict.number(facts, name, LARGEST, "facts' ")
        for path in strict.items(facts.get("own", []), "its facts' own"):
            if not isinstance(path, str):
                raise strict.Damaged(f"its facts' own is malformed: {str(path)[:80]!r}")
        return
    strict.text(facts, "uuid", what="facts' ")
    for part in ("raw", "packed"):
        what = f"facts' {part}'s "
        digests = strict.mapping(strict.field(facts, part, "facts' "), f"its facts' {part}")
        strict.text(digests, "md5", strict.MD5, what)
        strict.text(digests, "sha256", strict.SHA256, what)
        strict.number(digests, "size", LARGEST, what)


class Cache:
    """cache/ of a project, or the folder that STRATA_CACHE names."""

    def __init__(self, root: Path, memory: Memory, debs: Path | None = None) -> None:
        self.root = root
        self.memory = memory
        self.debs = debs or root / "debs"
        """Folder of <sha256>.deb files."""

    @property
    def index(self) -> Path:
        """Folder of apt's lists; this checkout's own where others may write to the cache, too.

        apt, as root, opens files there by their names.
        """
        path = self.root / "index"
        here = os.access(path if path.exists() else self.root, os.W_OK) or not self.root.exists()
        mine = here and safe.mine(self.root) and safe.mine(path)
        return path if mine else self.memory.path.parent / "index"

    def lists(self, live_id: str) -> Path:
        """The folder where apt keeps its lists of a repository, with no link in or to it.

        Nor a FIFO or device, which apt would read for ever.
        """
        lists = self.index / f"live-{live_id}"
        for folder in (lists, lists / "partial"):
            with safe.folder(folder, make=True) as opened:
                for path in opened.iterdir():
                    mode = path.lstat().st_mode
                    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                        path.unlink()
        return lists

    def file(self, stage: Stage) -> Path:
        """Where a stage's file is or will be."""
        return self.root / FOLDERS[stage.kind] / (stage.entry + stage.suffix)

    def record(self, stage: Stage) -> Path:
        """Where its record is or will be."""
        return self.root / FOLDERS[stage.kind] / (stage.entry + ".json")

    def deb(self, sha256: str) -> Path:
        """Where a .deb is or will be."""
        return self.debs / f"{sha256}.deb"

    def has_deb(self, sha256: str) -> bool:
        """Whether a .deb is here and whole.

        Read now, whatever is remembered: dpkg installs it as it is, and few have digests inside.
        """
        try:
            return read_sha256(self.deb(sha256)) == sha256
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EIO,
                                   safe.NOT_REGULAR):  # fmt: skip
                raise
            return False

    def take_deb(self, source: Path, sha256: str) -> bool:
        """Move a downloaded file into debs/ unless its SHA-256 is another; whether it was right."""
        if read_sha256(source) != sha256:
            return False
        target = self.deb(sha256)
        source.chmod(0o644)
        try:
            with safe.at(target, make=True) as here:
                source.replace(here)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # No sync: a .deb is read again before it is used.
            with host.written(target, sync=False) as temporary:
                shutil.copyfile(source, temporary)
        return True

    def get(self, stage: Stage) -> Entry | None:
        """The entry of a stage if there is one, going by its record and its file's size.

        The record must hold the very inputs of the stage: equal keys alone are not believed.
        """
        try:
            record = read_record(self.record(stage))
            path = self.file(stage)
            if (
                record["stage"] == stage.kind
                and record["key"] == stage.key
                and record["inputs"] == json.loads(json.dumps(stage.inputs))
                and record["file"]["name"] == path.name
                and path.lstat().st_size == record["file"]["size"]
            ):
                return Entry(path=path, sha256=record["file"]["sha256"],
                             size=record["file"]["size"], facts=record["facts"])  # fmt: skip
        except (OSError, ValueError):
            pass
        return None

    def intact(self, stage: Stage) -> Entry | None:
        """The same, with the file's SHA-256 checked.

        Nothing is dropped here, where no lock is held: what looks like half an entry may be one
        that another process is just writing.
        """
        entry = self.get(stage)
        try:
            if entry is not None and self.memory.holds(entry.path, entry.sha256):
                return entry
        except OSError:
            pass
        return None

    def require(self, stage: Stage) -> Entry:
        """The entry of a stage that is about to be used; DamagedEntry when it is not whole."""
        entry = self.intact(stage)
        if entry is None:
            raise DamagedEntry(
                f"the cache has no whole {self.file(stage).name}", "run the same command again"
            )
        return entry

    def damaged(self, stage: Stage, waiting: Callable[[str], None]) -> None:
        """Drop an entry that was found damaged while it was used, unless it is made anew already.

        What was known of its file before does not count: the disk itself may have lost a bit.
        """
        self.memory.forget(self.file(stage))
        with self.building(stage, waiting):
            pass

    def drop(self, stage: Stage) -> None:
        """Remove an entry, the record first."""
        remove(self.record(stage))
        remove(self.file(stage))

    @contextlib.contextmanager
    def building(self, stage: Stage, waiting: Callable[[str], None]) -> Iterator[Entry | None]:
        """Hold a stage's lock; yields the entry if somebody made it while we waited.

        An entry that is not whole is dropped first.
        """
        with host.locked(self.root / "locks" / stage.entry, waiting=waiting):
            entry = self.intact(stage)
            if entry is None:
                self.drop(stage)
            yield entry

    @contextlib.contextmanager
    def put(
        self, stage: Stage, facts: dict[str, Any], sha256: Callable[[], str] | None = None
    ) -> Iterator[Path]:
        """A temporary path to write the file to; when the block ends it becomes the entry.

        `facts` may be filled by the block, but for `private`: a file that only its owner and the
        folder's group may read, whatever the umask. `sha256` gives the file's digest if it is known
        then.
        """
        mode = 0o640 if facts.get("private") else 0o644
        with host.written(self.file(stage), mode=mode) as temporary:
            yield temporary
            digest = sha256() if sha256 else _digest(temporary.open("rb"))
            size = temporary.stat().st_size
        path = self.file(stage)
        record = {
            "format": FORMAT,
            "stage": stage.kind,
            "name": stage.name,
            "key": stage.key,
            "file": {"name": path.name, "sha256": digest, "size": size},
            "facts": facts,
            "inputs": stage.inputs,
        }
        record["sum"] = _sum(record)
        host.write_text(self.record(stage), json.dumps(record, indent=1, sort_keys=True) + "\n")
        self.memory.note(path, digest)

    # ------------------------------------------------------------ the whole of it

    @property
    def folders(self) -> dict[str, Path]:
        """Each folder that `OWN` has the names of."""
        found = {name: self.root / name for name in OWN}
        return {**found, "debs": self.debs, "index": self.index}

    def own(self, folder: str) -> list[Path]:
        """What is Strata's in a folder of the cache, by its name, sorted; none if it is missing."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with safe.folder(self.folders[folder]) as opened:
                names = sorted(os.listdir(opened))
            return [self.folders[folder] / name for name in names if OWN[folder].fullmatch(name)]
        return []

    def foreign(self) -> list[Path]:
        """What is in the cache and, by its name, not Strata's."""
        found: list[Path] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with safe.folder(self.root) as opened:
                names = os.listdir(opened)
            found += [self.root / name for name in names if name not in (*OWN, cachedir.NAME)]
        for folder, own in OWN.items():
            try:
                with safe.folder(self.root / folder) as opened:
                    names = os.listdir(opened)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                found.append(self.root / folder)
                continue
            found += [self.root / folder / name for name in names
                      if not own.fullmatch(name) and name != ".lock"
                      and not re.fullmatch(_TEMPORARY, name)]  # fmt: skip
        return sorted(path for path in found if path.name not in cachedir.NEUTRAL)

    def claim(self) -> bool:
        """Whether what killed builds and old specs left may be removed: see tasks.cachedir."""
        return cachedir.marked(self.root) or cachedir.claim(self.root, self.foreign())

    @contextlib.contextmanager
    def used(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Keep `prune` and `verify` away while the block runs."""
        self.claim()
        with host.locked(self.root / "locks" / "prune", shared=True, waiting=waiting):
            yield

    @contextlib.contextmanager
    def alone(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Wait until no stage is being built, and let none begin while the block runs."""
        self.claim()
        with host.locked(self.root / "locks" / "prune", waiting=waiting):
            yield

    def entries(self) -> Iterator[tuple[Path, list[Path]]]:
        """(record or only file, all files) of every entry, the longest unused first."""
        groups: dict[str, list[Path]] = {}
        for folder in ("layers", "images", "debs"):
            for path in self.own(folder):
                groups.setdefault(f"{folder}/{path.name.partition('.')[0]}", []).append(path)
        ordered = sorted(groups.values(), key=lambda paths: max(_used_at(path) for path in paths))
        for paths in ordered:
            yield next((path for path in paths if path.suffix == ".json"), paths[0]), paths

    def snapshots(self) -> list[Path]:
        """The kept indexes of repositories."""
        return [path for path in self.own("index") if path.name.startswith("snapshot-")]

    def drop_index(self, snapshot: Path) -> None:
        """Remove a snapshot that is broken, and apt's own lists: those are the same files."""
        host.remove_tree(snapshot)
        host.remove_tree(self.index / f"live-{snapshot.name.split('-')[1]}")

    def sweep(self) -> list[Path]:
        """Remove what killed builds left unfinished, beside others that run.

        Returns what looks like it and is not, which is left alone.
        """
        if not self.claim():
            return []
        left = [path for name in ("layers", "images", "debs", "index")
                for path in host.sweep(self.folders[name])]  # fmt: skip
        for path in self.own("index"):
            if path.name.startswith(".new-"):
                lock = self.index / f".{path.name[5:]}.lock"
                # Whoever makes such a folder holds its lock: without one, nobody does.
                descriptor = host.try_lock(lock)
                if descriptor is not None or not os.path.lexists(lock):
                    host.remove_tree(path)
                if descriptor is not None:
                    os.close(descriptor)
        return left

    def leftovers(self) -> list[Path]:
        """Temporary files; with `alone` held, all of them are of killed builds."""
        found: list[Path] = []
        for name in ("layers", "images", "debs", "index"):
            folder = self.folders[name]
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                with safe.folder(folder) as opened:
                    names = os.listdir(opened)
                found += [folder / one for one in names if re.fullmatch(_TEMPORARY, one)]
        return sorted(found)

    def unused(self, releases: Container[str]) -> list[Path]:
        """With `alone` held: locks of no entry, and apt's state of repositories long out of use.

        Those were not asked for a month, and no lock names their Release (`releases`, 32 digits).
        """
        entries = {path.stem for folder in set(FOLDERS.values())
                   for path in self.own(folder) if path.suffix == ".json"}  # fmt: skip
        found = [path for path in self.own("locks") if path.name not in {*entries, "prune"}]
        index = self.own("index")
        found += [path for path in index if path.name.startswith(".new-")]
        month_ago = time.time() - 30 * 86400
        for live in (path for path in index if path.name.startswith("live-")):
            name = live.name[5:]
            snapshots = [path for path in index if path.name.startswith(f"snapshot-{name}-")]
            if all(path.name.rpartition("-")[2] not in releases
                   and path.lstat().st_mtime < month_ago for path in snapshots):  # fmt: skip
                found += [live, *snapshots, self.index / f".{name}.lock"]
        return found

    def fault(self, paths: list[Path]) -> str:
        """Why the entry made of these files is not whole, or ""; reads every byte."""
        if paths[0].suffix == ".deb":
            try:
                digest = read_sha256(paths[0])
            except OSError as error:
                return f"it cannot be read: {error.strerror}"
            return "" if digest == paths[0].stem else "its SHA-256 is another"
        record = next((path for path in paths if path.suffix == ".json"), None)
        if record is None:
            return "it has no record"
        try:
            content = read_record(record)
        except OSError as error:
            return f"its record cannot be read: {error.strerror}"
        except ValueError as error:
            return f"its record is damaged: {error}"
        file = record.with_name(content["file"]["name"])
        if file not in paths:
            return "its file is missing"
        try:
            if file.lstat().st_size != content["file"]["size"]:
                return "its size is another"
            whole = read_sha256(file) == content["file"]["sha256"]
        except OSError as error:
            return f"its file cannot be read: {error.strerror}"
        return "" if whole else "its SHA-256 is another"


def _sum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its `sum`: a flipped bit of its facts is seen, too."""
    rest = {name: value for name, value in record.items() if name != "sum"}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()


def _used_at(path: Path) -> float:
    info = path.lstat()
    return max(info.st_mtime, info.st_atime)
