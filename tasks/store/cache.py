"""The cache: one immutable file and one small record for each key. It alone writes below cache/."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DamagedEntry
from ..host import cachedir, safe
from ..host.files import (
    digest_of,
    read_sha256,
    remove,
    sweep_temporary,
    write_text,
    written,
)
from ..host.locks import locked, try_lock
from ..plan.stage import Stage
from .record import DOUBTFUL, FOLDERS, FORMAT, OWN, TEMPORARY_NAME, Entry, read_record, record_sum
from .seen import SeenFiles
from .stale import stale


class Cache:
    """cache/ of a project, or the folder that STRATA_CACHE names."""

    def __init__(self, root: Path, memory: SeenFiles, debs: Path | None = None) -> None:
        self.root = root
        self.memory = memory
        self.debs = debs or root / "debs"
        """Folder of <sha256>.deb files."""
        self.accepts: Callable[[Stage, Mapping[str, Any]], bool] = _sound
        """Whether an entry with this record counts in this run, whole as it may be."""
        self.sums: dict[str, str] = {}
        """The checksums of the records that this process has written, by entry."""

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
            if error.errno not in (
                errno.ENOENT,
                errno.EISDIR,
                errno.ELOOP,
                errno.EIO,
                safe.NOT_REGULAR,
            ):
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
            with written(target, sync=False) as temporary:
                shutil.copyfile(source, temporary)
        return True

    def get(self, stage: Stage) -> Entry | None:
        """The entry of a stage if there is one, going by its record and its file's size.

        The record must hold the very inputs of the stage: equal keys alone are not believed. Nor
        does one count that was made of other bytes than the cache has: see stale.py.
        """
        if not stage.kept:
            return None
        try:
            record = read_record(self.record(stage))
            path = self.file(stage)
            if (
                record["stage"] == stage.kind
                and record["key"] == stage.key
                and record["inputs"] == json.loads(json.dumps(stage.inputs))
                and record["file"]["name"] == path.name
                and path.lstat().st_size == record["file"]["size"]
                and self.accepts(stage, record)
                and not stale(self.root, record["facts"])
            ):
                return Entry(
                    path=path,
                    sha256=record["file"]["sha256"],
                    size=record["file"]["size"],
                    facts=record["facts"],
                    record=record,
                )
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
        with locked(self.root / "locks" / stage.entry, waiting=waiting):
            entry = self.intact(stage)
            if entry is None:
                self.drop(stage)
            yield entry

    @contextlib.contextmanager
    def put(
        self,
        stage: Stage,
        facts: dict[str, Any],
        sha256: Callable[[], str] | None = None,
        *,
        signatures: Mapping[str, str] | None = None,
        doubtful: bool = False,
    ) -> Iterator[Path]:
        """A temporary path to write the file to; when the block ends it becomes the entry.

        `facts` may be filled by the block, but for `private`: a file that only its owner and the
        folder's group may read, whatever the umask. `sha256` gives the file's digest if it is known
        then. Of what comes from elsewhere, `signatures` are kept; what is `doubtful` counts only in
        runs that take it outright.
        """
        mode = 0o640 if facts.get("private") else 0o644
        with written(self.file(stage), mode=mode) as temporary:
            yield temporary
            digest = sha256() if sha256 else digest_of(temporary.open("rb"))
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
            **({"signatures": dict(signatures)} if signatures else {}),
            **({"trust": DOUBTFUL} if doubtful else {}),
        }
        self._write(stage, record)
        self.memory.note(path, digest)

    def _write(self, stage: Stage, record: dict[str, Any]) -> None:
        record["sum"] = self.sums[stage.entry] = record_sum(record)
        write_text(self.record(stage), json.dumps(record, indent=1, sort_keys=True) + "\n")

    def endorse(self, stage: Stage, sign: Callable[[Mapping[str, Any]], Mapping[str, str]]) -> None:
        """Add signatures to the record of a stage that was just made, its lock held."""
        record = read_record(self.record(stage))
        if record["sum"] == self.sums.get(stage.entry):
            record["signatures"] = {**record.get("signatures", {}), **sign(record)}
            self._write(stage, record)

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
            found += [
                self.root / folder / name
                for name in names
                if not own.fullmatch(name)
                and name != ".lock"
                and not re.fullmatch(TEMPORARY_NAME, name)
            ]
        return sorted(path for path in found if path.name not in cachedir.NEUTRAL)

    def claim(self) -> bool:
        """Whether what killed builds and old specs left may be removed: see tasks.cachedir."""
        return cachedir.marked(self.root) or cachedir.claim(self.root, self.foreign())

    @contextlib.contextmanager
    def used(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Keep `prune` and `verify` away while the block runs."""
        self.claim()
        with locked(self.root / "locks" / "prune", shared=True, waiting=waiting):
            yield

    @contextlib.contextmanager
    def alone(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Wait until no stage is being built, and let none begin while the block runs."""
        self.claim()
        with locked(self.root / "locks" / "prune", waiting=waiting):
            yield

    def entries(self) -> Iterator[tuple[Path, list[Path]]]:
        """(record or only file, all files) of every entry, the longest unused first."""
        groups: dict[str, list[Path]] = {}
        for folder in ("layers", "images", "debs"):
            for path in self.own(folder):
                groups.setdefault(f"{folder}/{path.name.partition('.')[0]}", []).append(path)
        ordered = sorted(groups.values(), key=lambda paths: max(used_at(path) for path in paths))
        for paths in ordered:
            yield next((path for path in paths if path.suffix == ".json"), paths[0]), paths

    def snapshots(self) -> list[Path]:
        """The kept indexes of repositories."""
        return [path for path in self.own("index") if path.name.startswith("snapshot-")]

    def drop_index(self, snapshot: Path) -> None:
        """Remove a snapshot that is broken, and apt's own lists: those are the same files."""
        remove(snapshot)
        remove(self.index / f"live-{snapshot.name.split('-')[1]}")

    def sweep(self) -> list[Path]:
        """Remove what killed builds left unfinished, beside others that run.

        Returns what looks like it and is not, which is left alone.
        """
        if not self.claim():
            return []
        left = [
            path
            for name in ("layers", "images", "debs", "index")
            for path in sweep_temporary(self.folders[name])
        ]
        for path in self.own("index"):
            if path.name.startswith(".new-"):
                lock = self.index / f".{path.name[5:]}.lock"
                # Whoever makes such a folder holds its lock: without one, nobody does.
                descriptor = try_lock(lock)
                if descriptor is not None or not os.path.lexists(lock):
                    remove(path)
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
                found += [folder / one for one in names if re.fullmatch(TEMPORARY_NAME, one)]
        return sorted(found)

    def unused(self, releases: Container[str]) -> list[Path]:
        """With `alone` held: locks of no entry, and apt's state of repositories long out of use.

        Those were not asked for a month, and no lock names their Release (`releases`, 32 digits).
        """
        entries = {
            path.stem
            for folder in set(FOLDERS.values())
            for path in self.own(folder)
            if path.suffix == ".json"
        }
        found = [path for path in self.own("locks") if path.name not in {*entries, "prune"}]
        index = self.own("index")
        found += [path for path in index if path.name.startswith(".new-")]
        month_ago = time.time() - 30 * 86400
        for live in (path for path in index if path.name.startswith("live-")):
            name = live.name[5:]
            snapshots = [path for path in index if path.name.startswith(f"snapshot-{name}-")]
            if all(
                path.name.rpartition("-")[2] not in releases and path.lstat().st_mtime < month_ago
                for path in snapshots
            ):
                found += [live, *snapshots, self.index / f".{name}.lock"]
        return found


def _sound(_stage: Stage, record: Mapping[str, Any]) -> bool:
    return "trust" not in record


def used_at(path: Path) -> float:
    """When a file was read or written last, in seconds since 1970, as its filesystem notes it."""
    info = path.lstat()
    return max(info.st_mtime, info.st_atime)
