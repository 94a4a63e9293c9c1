"""The shared caches of a run: what is taken from them, and on whose word; what they are given.

    a stage that the cache lacks ─→ its record ─→ whose signature? ─→ its file, hashed as it comes
    a stage that was built here  ─→ its file, then its record, signed

None of them is needed: one that is down, slow, full, forbidden or wrong costs a warning, and the
stage is built.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..host import patience, space, strict
from ..plan.likeness import Likeness, tools_in
from ..plan.lockfile import Record
from ..plan.stage import Stage
from ..spec.words import counted
from ..store.cache import Cache
from ..store.made import Made
from ..store.record import checked, read_record
from . import signing
from .backend import Backend, Blob, Cut, Meter, Missing, RemoteFault, Silent, Unusable, opened, rest
from .signing import PublicKey, SecretKey

PROGRESS = 1 << 20
"""Bytes after which a download that was cut off counts as one that goes on."""

AT_ONCE = 8
"""Files that are on their way at a time."""


@dataclass(kw_only=True)
class Remote:
    """One shared cache, and whether it is still asked in this run."""

    backend: Backend
    reading: bool = True
    writing: bool = True
    told: set[str] = field(default_factory=set)
    rotten: set[str] = field(default_factory=set)
    """Files there that are not what they are called: to be sent again."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which way things go, and who is believed. `trusted` has the signer's own key, too."""

    pull: bool
    push: bool
    any: bool = False
    trusted: tuple[PublicKey, ...] = ()
    key: SecretKey | None = None


class Shared:
    """All shared caches of a run, in their order."""

    def __init__(
        self,
        backends: Sequence[Backend],
        policy: Policy,
        cache: Cache,
        made: Made,
        say: Callable[[str], None],
    ) -> None:
        self.remotes = [Remote(backend=one) for one in backends]
        self.policy = policy
        self._prepare()
        self.cache = cache
        self.made = made
        self.say = say
        self._lock = threading.Lock()
        self._stays: set[str] = set()

    def _prepare(self) -> None:
        for remote in self.remotes:
            remote.backend.writing = self.policy.push

    def sending(self) -> None:
        """Also send: what `push` is for."""
        self.policy = replace(self.policy, push=True)
        self._prepare()

    def taking(self) -> None:
        """Also take: what `pull` is for."""
        self.policy = replace(self.policy, pull=True)

    # ------------------------------------------------------------ taking

    def take(self, stage: Stage, moving: Callable[[str], None]) -> bool:
        """Bring a stage's entry into the cache, its lock held; False where no cache has it."""
        found: list[tuple[Remote, dict[str, Any]]] = []
        for remote in self._asked():
            with self._telling(remote, stage):
                record = self._asking(functools.partial(self.find, remote, stage))
                if record is not None and not record["doubtful"]:
                    self._fetch(remote, stage, record, moving)
                    return True
                found += [(remote, record)] if record is not None else []
        # What nobody vouches for comes last, also where it is taken.
        for remote, record in found:
            with self._telling(remote, stage):
                self._fetch(remote, stage, record, moving)
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
        if stage.kind == "image" and packed["sha256"] != record["file"]["sha256"]:
            raise Unusable("its record contradicts itself")
        # No more than what is known to be good is kept of what others wrote there.
        kept = {name: record["signatures"][name] for name in signers}
        return {**record, "signatures": kept, "doubtful": not signers}

    def where(self, stage: Stage) -> str:
        """The address of a cache that would give this stage, or ""."""
        for remote in self._asked():
            try:
                if self._asking(lambda one=remote: self.find(one, stage)):  # type: ignore[misc]
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
            if raw is not None:
                return tools_in(raw)
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
        self, remote: Remote, stage: Stage, record: dict[str, Any], moving: Callable[[str], None]
    ) -> None:
        blob = Blob(sha256=record["file"]["sha256"], size=record["file"]["size"])
        if space.free_bytes(self.cache.root) < blob.size:
            raise Unusable(f"there is no room here for its {blob.size / 1e6:.0f} MB")
        moving(f"fetching {blob.size / 1e6:.1f} MB from {remote.backend.shown}")

        def progress(came: int) -> None:
            moving(f"fetching {came / 1e6:.0f}/{blob.size / 1e6:.0f} MB")

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

    # ------------------------------------------------------------ giving

    def give(self, stage: Stage, like: Likeness) -> bool:
        """Send a stage's entry to each cache that lacks it; False where it stays here.

        A signer signs what was built in this checkout, and what came with a trusted signature.
        """
        entry = self.cache.intact(stage)
        if entry is None:
            return False
        try:
            record = read_record(self.cache.record(stage))
        except (OSError, ValueError):
            return False
        mine = self.made.has(stage, record.pop("sum"))
        signed = bool(signing.signers(record, self.policy.trusted))
        if record.pop("trust", None) or not (mine or signed):
            if self.policy.key or entry.doubtful:
                self.stays(stage)
                return False
        elif self.policy.key:
            signatures = dict(record.get("signatures", {}))
            signatures[self.policy.key.name] = self.policy.key.sign(record)
            record["signatures"] = signatures
        blob = Blob(sha256=entry.sha256, size=entry.size, private=bool(entry.facts.get("private")))
        sent = False
        for remote in self._given():
            try:
                send = functools.partial(self._send, remote, stage, record, blob, entry.path)
                if self._asking(send):
                    sent = True
                    remote.backend.put_record(like.name, like.dump(), [], replace=True)
            except RemoteFault as fault:
                self._full(remote, fault)
        return sent

    def stays(self, stage: Stage) -> None:
        """Say once that something is not sent since nobody vouches for it."""
        self._stays.add(stage.entry)
        self._tell_once(
            "foreign",
            f"{stage.title} is not sent: it came from elsewhere with nobody's trusted signature, "
            "or was built by another checkout, or stands on what was; nothing of that kind is",
        )

    def kept(self, stage: Stage) -> bool:
        """Whether a stage was not sent because nobody vouches for it."""
        return stage.entry in self._stays

    def _send(
        self, remote: Remote, stage: Stage, record: dict[str, Any], blob: Blob, path: Path
    ) -> bool:
        """The file first, the record last; what is there already stays, if it is to be believed."""
        there: dict[str, Any] | None = None
        try:
            raw = remote.backend.record(stage.entry)
            if raw is not None:
                there = self._believed(raw, stage)
        except Unusable:
            there = {}
        if there and not self._better(record, there) and self._whole(remote, there):
            return False
        if there and signing.statement(there) == signing.statement(record):
            good = signing.signers(there, self.policy.trusted)
            theirs = {name: there["signatures"][name] for name in good}
            record = {**record, "signatures": {**theirs, **record.get("signatures", {})}}
        self._send_file(remote, blob, path)
        data = json.dumps(record, indent=1, sort_keys=True).encode("ascii") + b"\n"
        return remote.backend.put_record(stage.entry, data, [blob], replace=there is not None)

    def _better(self, record: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
        """Whether our record is to take the place of one that is there.

        The first one stays; but what nobody believes must not keep out what is signed.
        """
        ours = set(signing.signers(record, self.policy.trusted))
        theirs = set(signing.signers(there, self.policy.trusted))
        if not ours or not theirs:
            return bool(ours)
        same = signing.statement(record) == signing.statement(there)
        return same and not ours <= theirs

    @staticmethod
    def _whole(remote: Remote, record: Mapping[str, Any]) -> bool:
        """Whether the file of a record is there, as far as can be told without reading it."""
        file = record["file"]
        there = remote.backend.size(file["sha256"]) == file["size"]
        return there and file["sha256"] not in remote.rotten

    def _send_file(self, remote: Remote, blob: Blob, path: Path) -> bool:
        """Send a file from its first byte; False where it is there."""
        if blob.sha256 not in remote.rotten and remote.backend.size(blob.sha256) == blob.size:
            return False
        with opened(path) as source:
            remote.backend.put_file(blob, source)
        return True

    def give_debs(self, name: str, records: Sequence[Record]) -> int:
        """Send the .debs that the cache has of these to each cache that lacks them; how many went.

        `name` is whose they are: what keeps them together where files alone would be collected.
        """
        files = {one.sha256: Blob(sha256=one.sha256, size=one.size) for one in records}
        here = [blob for blob in files.values() if self.cache.has_deb(blob.sha256)]
        count = 0
        for remote in self._given():

            def one(blob: Blob, remote: Remote = remote) -> bool:
                def send() -> bool:
                    path = self.cache.deb(blob.sha256)
                    return remote.writing and self._send_file(remote, blob, path)

                try:
                    return bool(self._asking(send))
                except RemoteFault as fault:
                    self._full(remote, fault)
                    return False

            with ThreadPoolExecutor(AT_ONCE) as pool:
                count += sum(pool.map(one, here))
            try:
                if here and remote.writing:
                    self._asking(functools.partial(remote.backend.keep, name, here))
            except RemoteFault as fault:
                self._full(remote, fault)
        return count

    # ------------------------------------------------------------ what goes wrong

    def _asked(self) -> list[Remote]:
        return [one for one in self.remotes if self.policy.pull and one.reading]

    def _given(self) -> list[Remote]:
        return [one for one in self.remotes if self.policy.push and one.writing]

    def _asking(self, work: Callable[[], Any]) -> Any:
        """Ask again, STRATA_RETRIES times, where an answer was cut off."""
        for failures in itertools.count(1):
            try:
                return work()
            except Silent:
                raise  # it was waited for once, and that is the bound
            except Cut:
                if failures > patience.retries():
                    raise
                rest(failures)

    def _lost(self, remote: Remote, fault: RemoteFault) -> None:
        remote.reading = remote.writing = False
        self._tell(remote, "lost", f"{fault}; it is not asked again in this run")

    def _full(self, remote: Remote, fault: RemoteFault) -> None:
        remote.writing = False
        self._tell(remote, "lost", f"{fault}; nothing more is sent to it in this run")

    def _tell(self, remote: Remote, kind: str, text: str) -> None:
        with self._lock:
            first = kind not in remote.told
            remote.told.add(kind)
        if first:
            self.say(f"warning: cache {remote.backend.shown}: {text}")

    def _tell_once(self, kind: str, text: str) -> None:
        with self._lock:
            first = all(kind not in remote.told for remote in self.remotes)
            for remote in self.remotes:
                remote.told.add(kind)
        if first:
            self.say(f"warning: {text}")

    @property
    def faults(self) -> bool:
        """Whether a cache was given up."""
        return any("lost" in remote.told for remote in self.remotes)

    def close(self) -> None:
        """Let connections go."""
        for remote in self.remotes:
            remote.backend.close()
