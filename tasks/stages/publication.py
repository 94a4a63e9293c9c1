"""Of which build what is published: all that out/NAME/ is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..plan.stage import Plan, Result, Stage
from ..spec.model import Spec
from ..store.cache import Cache
from . import papers

if TYPE_CHECKING:
    from ..remote.signing import SecretKey


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is published where: of one build of a spec, whose images are in the cache."""

    out: Path
    spec: Spec
    plan: Plan
    uris: Mapping[str, str]
    """Each repository's address on this host, by its name, as far as it is known."""
    cache: Cache
    places: Mapping[str, Path]
    lock_digest: str
    locked: str
    """kept, asked or written: what became of the lock."""
    started: float
    """When the build began, by time.monotonic()."""
    result: Callable[[Stage], Result]
    say: Callable[[str], None]
    progress: Callable[[str], None]
    signer: SecretKey | None = None
    untested: bool = False
    """Whether the spec has boot tests, and the user said test=off."""

    @property
    def papers(self) -> papers.Asked:
        """What goes with the images."""
        return papers.Asked(
            *(self.out, self.spec, self.plan, self.cache, self.lock_digest),
            *(self.signer, self.progress),
        )
