"""What is taken from shared caches, and on whose word.

a stage that the cache lacks ─→ its record ─→ whose signature? ─→ its file, hashed as it comes
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..host import patience, space, strict
from ..plan.likeness import Likeness, tools_in
from ..plan.lockfile import Record
from ..plan.stage import Stage
from ..spec.words import counted
from ..store.record import ABOVE, checked
from ..store.stale import stale
from . import signing
from .backend import Blob, Cut, Meter, Missing, RemoteFault, Silent, Unusable
from .remotes import AT_ONCE, PROGRESS, Remote, Remotes

Far = Callable[[int, int, str], None]
"""Gets how far a step is: how much of how much is done, in which unit."""


def unheard(_done: int, _total: int, _unit: str) -> None:
    """Nobody asks how far it is."""


class Taking(Remotes):
    """The shared caches, as stages and .debs come from them."""

    def take(self, stage: Stage, moving: Callable[[str], None], far: Far = unheard) -> bool:
        """Bring a stage's entry into the cache, its lock held; False where no cache has it."""
        found: list[tuple[Remote, dict[str, Any]]] = []
        for remote in self._asked():
            with self._telling(remote, stage):
                record = self._records.pop((remote.backend.shown, stage.entry), None)
                if record is None:
                    record = self._asking(functools.partial(self.find, remote, stage))
                if record is not None and stale(self.cache.root, record["facts"]):
                    continue  # it goes with another one than there is here
                if record is not None and not record["doubtful"]:
                    self._fetch(remote, stage, record, moving, far)
                    return True
                found += [(remote, record)] if record is not None else []
        # What nobody vouches for comes last, also where it is taken.
        for remote, record in found:
            with self._telling(remote, stage):
                self._fetch(remote, stage, record, moving, far)
                return True
        return False

    @contextlib.contextmanager
    def _telling(self, remote: Remote, stage: Stage) -> Iterator[None]:
        """What goes wrong with a stage or a cache costs a warning."""
        try:
            yield
        except Unusable as fault:
            self._tell(remote, "unusable", f"{stage.title}: {fault}; it is not used")
        except RemoteFault as fault:
            self._lost(remote, fault)

    def find(self, remote: Remote, stage: Stage) -> dict[str, Any] | None:
        """The record of just this stage in a shared cache, if it may be used. RemoteFault."""
        raw = remote.backend.record(stage.entry)
        if raw is None:
            return None
        record = self._believed(raw, stage)
        signers = signing.signers(record, self.policy.trusted)
        if not signers and not self.policy.any:
            named = sorted(filter(signing.is_name, record.get("signatures", {})))
            names = ", ".join(named[:5])
            by = f"signed by {names}, none of whom is trusted here" if names else "not signed"
            self._tell(
                remote,
                "unsigned",
                f"{stage.title} is there, {by}: it and its like are not used\n"
                f"  {signing.TRUSTED_KEYS} names whom to trust; cache_trust=any takes them all",
            )
            return None
        packed = record["facts"].get("packed")
        if stage.kind in ABOVE and packed["sha256"] != record["file"]["sha256"]:
            raise Unusable("its record contradicts itself")
        # No more than what is known to be good is kept of what others wrote there.
        kept = {name: record["signatures"][name] for name in signers}
        return {**record, "signatures": kept, "doubtful": not signers}

    def where(self, stage: Stage) -> str:
        """The address of a cache that would give this stage, or ""."""
        for remote in self._asked():
            try:
                record = self._asking(functools.partial(self.find, remote, stage))
                if record is not None:
                    self._records[remote.backend.shown, stage.entry] = record
                    return remote.backend.shown
            except Unusable:
                continue
            except RemoteFault as fault:
                self._lost(remote, fault)
        return ""

    def like(self, like: Likeness) -> dict[str, str]:
        """The tools with which another host made what this one would make, as it says, or none."""
        for remote in self._asked():
            try:
                raw = self._asking(functools.partial(remote.backend.record, like.name))
            except Unusable:
                continue
            except RemoteFault as fault:
                self._lost(remote, fault)
                continue
            if raw is not None and (tools := tools_in(raw)):
                return tools
        return {}

    def take_debs(
        self, records: Sequence[Record], folder: Path, moving: Callable[[str], None]
    ) -> list[Record]:
        """Bring .debs into the cache, by way of files in `folder`; those that no cache has.

        Each is what the lock says by its SHA-256, so whoever gave it need not be trusted.
        """
        left = list(records)
        for remote in self._asked():
            if not left:
                break

            def one(record: Record, remote: Remote = remote) -> bool:
                return self._take_deb(remote, record, folder)

            moving(f"asking {remote.backend.shown} for {counted(len(left), 'package')}")
            with ThreadPoolExecutor(AT_ONCE) as pool:
                came = list(pool.map(one, left))
            left = [record for record, here in zip(left, came, strict=True) if not here]
        return left

    def _take_deb(self, remote: Remote, record: Record, folder: Path) -> bool:
        if not remote.reading:
            return False
        path = folder / f"shared-{record.sha256}.deb"
        try:
            self._download(remote, Blob(sha256=record.sha256, size=record.size), path)
            return self.cache.take_deb(path, record.sha256)
        except Missing:
            return False
        except Unusable as fault:
            self._tell(remote, "unusable", f"package {record.package}: {fault}; it is not used")
        except RemoteFault as fault:
            self._lost(remote, fault)
        finally:
            path.unlink(missing_ok=True)
        return False

    def _fetch(
        self,
        remote: Remote,
        stage: Stage,
        record: dict[str, Any],
        moving: Callable[[str], None],
        far: Far,
    ) -> None:
        blob = Blob(sha256=record["file"]["sha256"], size=record["file"]["size"])
        if space.free_bytes(self.cache.root) < blob.size:
            raise Unusable(f"there is no room here for its {blob.size / 1e6:.0f} MB")
        moving(f"fetching {blob.size / 1e6:.1f} MB from {remote.backend.shown}")

        def progress(came: int) -> None:
            far(came, blob.size, "bytes")

        try:
            with self.cache.put(
                stage,
                record["facts"],
                lambda: blob.sha256,
                signatures=record.get("signatures"),
                doubtful=record["doubtful"],
            ) as temporary:
                self._download(remote, blob, temporary, progress)
        except Missing as error:
            raise Unusable("its record is there, and its file is not") from error

    def _download(
        self,
        remote: Remote,
        blob: Blob,
        target: Path,
        progress: Callable[[int], None] = lambda _came: None,
    ) -> None:
        """Write a file as it comes, and go on where it was cut off.

        Unusable where it is another one, however it ends; no more than that is written.
        """
        digest = hashlib.sha256()
        meter = Meter(remote.backend.patience)
        came = failures = since = 0
        with target.open("wb") as file:
            while True:
                cut = None
                try:
                    for block in remote.backend.chunks(blob.sha256, came):
                        came += len(block)
                        if came > blob.size:
                            remote.rotten.add(blob.sha256)
                            raise Unusable("what came is longer than its record says")
                        digest.update(block)
                        file.write(block)
                        meter.moved(len(block))
                        progress(came)
                except Cut as error:
                    if isinstance(error, Silent) and not came:
                        raise
                    cut = error
                if came == blob.size:
                    break
                # A few bytes each time are no progress: a server could go on so for ever.
                if came - since >= PROGRESS:
                    failures, since = 0, came
                failures += 1
                if failures > patience.retries():
                    if cut is not None:
                        raise cut
                    remote.rotten.add(blob.sha256)
                    raise Unusable(f"what came ends after {came} of {blob.size} bytes")
                meter.rest(failures)
        if digest.hexdigest() != blob.sha256:
            remote.rotten.add(blob.sha256)
            raise Unusable("what came has another SHA-256 than its record says")

    def _believed(self, raw: bytes, stage: Stage) -> dict[str, Any]:
        """A record whose form is a record's, of this very stage; Unusable for another one."""
        try:
            if len(raw) > strict.RECORD_LIMIT:
                raise strict.Damaged(f"it has more than {strict.RECORD_LIMIT} bytes")
            record = strict.parse(raw, paths=True)
            entry = checked(record)
        except ValueError as error:
            raise Unusable(f"its record is malformed: {error}") from error
        if entry != stage.entry or record["inputs"] != json.loads(json.dumps(stage.inputs)):
            raise Unusable("its record is of another stage")
        return record
