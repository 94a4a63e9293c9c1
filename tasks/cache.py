"""The cache: one immutable file and one small record for each key. It alone writes below cache/."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import host
from tasks.errors import DamagedEntry
from tasks.plan import Stage, canonical

FORMAT = 2
FOLDERS = {"base": "layers", "layer": "layers", "image": "images"}
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
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
            self.known: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
        except (OSError, ValueError):
            self.known = {}

    @staticmethod
    def _mark(path: Path) -> list[int]:
        info = path.stat()
        return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file, read only if it may have changed."""
        mark = self._mark(path)
        entry = self.known.get(str(path))
        if isinstance(entry, list) and len(entry) == 2 and entry[0] == mark:
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
            if folder not in path.parents or not isinstance(entry, list) or len(entry) != 2:
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
            if self.path.is_dir():
                remove(self.path)
            host.write_text(self.path, json.dumps(known))
            self.changed = False


def read_sha256(path: Path) -> str:
    """SHA-256 of a file's content, read now."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or what stands in its place; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        host.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def seal(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder into it, for `broken` to compare."""
    sums = {path.name: read_sha256(path) for path in folder.iterdir()}
    host.write_text(folder / SEAL, json.dumps(sums, indent=1, sort_keys=True) + "\n", sync=False)


def broken(folder: Path) -> str:
    """The first file of a sealed folder that is not what it was, or ""; reads every byte."""
    name = SEAL
    try:
        sums: dict[str, str] = dict(json.loads((folder / SEAL).read_text(encoding="utf-8")))
        for name in sorted({*sums, *(path.name for path in folder.iterdir())} - {SEAL}):
            if read_sha256(folder / name) != sums.get(name):
                return name
    except (OSError, ValueError, TypeError):
        return name
    return ""


class Cache:
    """cache/ of a project, or the folder that STRATA_CACHE names."""

    def __init__(self, root: Path, memory: Memory) -> None:
        self.root = root
        self.memory = memory

    @property
    def debs(self) -> Path:
        """Folder of <sha256>.deb files."""
        return self.root / "debs"

    @property
    def index(self) -> Path:
        """Folder of apt's lists; this checkout's own where the cache is another user's."""
        path = self.root / "index"
        mine = os.access(path if path.exists() else self.root, os.W_OK) or not self.root.exists()
        return path if mine else self.memory.path.parent / "index"

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
            if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EIO):
                raise
            return False

    def take_deb(self, source: Path, sha256: str) -> bool:
        """Move a downloaded file into debs/ unless its SHA-256 is another; whether it was right."""
        if read_sha256(source) != sha256:
            return False
        target = self.deb(sha256)
        source.chmod(0o644)
        try:
            source.replace(target)
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
            record = json.loads(self.record(stage).read_text(encoding="utf-8"))
            path = self.file(stage)
            if (
                record["format"] == FORMAT
                and record["key"] == stage.key
                and record["inputs"] == json.loads(json.dumps(stage.inputs))
                and record["file"]["name"] == path.name
                and path.stat().st_size == record["file"]["size"]
                and record["sum"] == _sum(record)
            ):
                return Entry(path=path, sha256=str(record["file"]["sha256"]),
                             size=record["file"]["size"], facts=dict(record["facts"]))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
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
            digest = sha256() if sha256 else read_sha256(temporary)
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

    @contextlib.contextmanager
    def used(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Keep `prune` and `verify` away while the block runs."""
        with host.locked(self.root / "locks" / "prune", shared=True, waiting=waiting):
            yield

    @contextlib.contextmanager
    def alone(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Wait until no stage is being built, and let none begin while the block runs."""
        with host.locked(self.root / "locks" / "prune", waiting=waiting):
            yield

    def entries(self) -> Iterator[tuple[Path, list[Path]]]:
        """(record or only file, all files) of every entry, the longest unused first."""
        groups: dict[str, list[Path]] = {}
        for folder in ("layers", "images"):
            for path in sorted((self.root / folder).glob("[!.]*-*")):
                groups.setdefault(f"{folder}/{path.name.partition('.')[0]}", []).append(path)
        for path in sorted(self.debs.glob("[!.]*.deb")):
            groups[f"debs/{path.stem}"] = [path]
        ordered = sorted(groups.values(), key=lambda paths: max(_used_at(path) for path in paths))
        for paths in ordered:
            yield next((path for path in paths if path.suffix == ".json"), paths[0]), paths

    def snapshots(self) -> list[Path]:
        """The kept indexes of repositories."""
        return sorted(self.index.glob("snapshot-*"))

    def drop_index(self, snapshot: Path) -> None:
        """Remove a snapshot that is broken, and apt's own lists: those are the same files."""
        host.remove_tree(snapshot)
        host.remove_tree(self.index / f"live-{snapshot.name.split('-')[1]}")

    def sweep(self) -> None:
        """Remove what killed builds left unfinished, beside others that run."""
        for folder in (*FOLDERS.values(), "debs", "index"):
            host.sweep(self.root / folder)
        for path in self.index.glob(".new-*"):
            lock = self.index / f".{path.name[5:]}.lock"
            descriptor = host.try_lock(lock)
            if descriptor is not None:
                host.remove_tree(path)
                os.close(descriptor)

    def leftovers(self) -> list[Path]:
        """Temporary and partial files; with `alone` held, all of them are of killed builds."""
        folders = (*sorted(set(FOLDERS.values())), "debs", "index")
        return sorted(
            path
            for folder in folders
            for pattern in (".*.tmp", ".*.part")
            for path in (self.root / folder).glob(pattern)
        )

    def unused(self, releases: Container[str]) -> list[Path]:
        """With `alone` held: locks of no entry, and apt's state of repositories long out of use.

        Those were not asked for a month, and no lock names their Release (`releases`, 32 digits).
        """
        entries = {path.stem for folder in set(FOLDERS.values())
                   for path in (self.root / folder).glob("*-*.json")}  # fmt: skip
        found = [path for path in (self.root / "locks").glob("*-*") if path.name not in entries]
        found += self.index.glob(".new-*")
        month_ago = time.time() - 30 * 86400
        for live in self.index.glob("live-*"):
            name = live.name[5:]
            snapshots = list(self.index.glob(f"snapshot-{name}-*"))
            if all(path.name.rpartition("-")[2] not in releases
                   and path.stat().st_mtime < month_ago for path in snapshots):  # fmt: skip
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
            content = json.loads(record.read_text(encoding="utf-8"))
            file = record.with_name(str(content["file"]["name"]))
            if file not in paths:
                return "its file is missing"
            if file.stat().st_size != content["file"]["size"]:
                return "its size is another"
            if content["sum"] != _sum(content):
                return "its record was changed"
            return (
                "" if read_sha256(file) == content["file"]["sha256"] else "its SHA-256 is another"
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"its record cannot be read: {error}"


def _sum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its `sum`: a flipped bit of its facts is seen, too."""
    rest = {name: value for name, value in record.items() if name != "sum"}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()


def _used_at(path: Path) -> float:
    info = path.lstat()
    return max(info.st_mtime, info.st_atime)
