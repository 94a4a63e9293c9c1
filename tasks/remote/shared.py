"""The shared caches of a run: what is taken from them, and on whose word; what they are given.

    a stage that the cache lacks ─→ its record ─→ whose signature? ─→ its file, hashed as it comes
    a stage that was built here  ─→ its file, then its record, signed

None of them is needed: one that is down, slow, full, forbidden or wrong costs a warning, and the
stage is built.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..plan.likeness import Likeness
from ..plan.lockfile import Record
from ..plan.stage import Stage
from . import signing
from .backend import Blob, RemoteFault, Unusable, opened
from .remotes import AT_ONCE, Remote
from .taking import Taking


class Shared(Taking):
    """All shared caches of a run: what is taken from them, and what they are given."""

    def give(self, stage: Stage, like: Likeness) -> bool:
        """Send a stage's entry to each cache that lacks it; False where it stays here.

        A signer signs what was built in this checkout, and what came with a trusted signature.
        """
        entry = self.cache.intact(stage)
        if entry is None:
            return False
        record = dict(entry.record)
        mine = self.made.has(stage, record.pop("sum"))
        signed = signing.signers(record, self.policy.trusted)
        # No more than what is known to be good: who restored this record may have written to it.
        kept = record.pop("signatures", {})
        signatures = {name: kept[name] for name in signed}
        if record.pop("trust", None) or not (mine or signed):
            if self.policy.key or entry.doubtful:
                self.stays(stage)
                return False
        elif self.policy.key:
            signatures[self.policy.key.name] = self.policy.key.sign(record)
        if signatures:
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
        if there and not self._better(record, there):
            if self._whole(remote, there):
                return False
            if signing.statement(there) == signing.statement(record):
                # Its record is as good as ours, or better.
                return self._send_file(remote, blob, path)
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
