"""What may be passed on in this machine's name: what it built, and what it trusts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plan.stage import Stage
from ..store.cache import Cache
from ..store.made import Made
from .remotes import Policy
from .signing import signers


@dataclass(frozen=True, kw_only=True)
class Vouching:
    """Of a run: `policy` is made when needed; `any`: cache_trust=any; `signs`: it has a key."""

    made: Made
    policy: Callable[[], Policy]
    any: bool
    signs: bool

    def accepts(self, stage: Stage, record: Mapping[str, Any]) -> bool:
        """Whether an entry counts in this run: not what nobody vouches for, unless that is wanted.

        Whoever signs takes nothing else from a cache that others may have filled.
        """
        if self.any:
            return True
        return "trust" not in record and (not self.signs or self.vouches(stage, record))

    def vouches(self, stage: Stage, record: Mapping[str, Any]) -> bool:
        """Whether a stage was built in this checkout, or has a signature that is trusted here."""
        if self.made.has(stage, str(record["sum"])):
            return True
        return bool(record.get("signatures")) and bool(signers(record, self.policy().trusted))

    def built(self, stage: Stage, below: Sequence[Stage], cache: Cache, *, sound: bool) -> None:
        """Remember that a stage was built here, and sign it where this machine signs; lock held.

        Not where it stands on what may have come from anywhere: `sound` is what is known of the
        trees that it was built on, and their records are looked at once more.
        """
        entries = [cache.get(one) for one in below]
        good = all(
            entry is not None and self.vouches(one, entry.record)
            for one, entry in zip(below, entries, strict=True)
        )
        if not good or not sound:
            return
        key = self.policy().key if self.signs else None
        if key is not None:
            cache.endorse(stage, lambda record: {key.name: key.sign(record)})
        self.made.note(stage, cache.sums[stage.entry])
