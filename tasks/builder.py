"""What a machine lends a stage: its cache, trees, scratch, log and the way to repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .host.log import Log
from .host.visit import Visit
from .plan.debs import Own
from .plan.job import Job
from .remote.shared import Shared
from .rootfs.overlay import Trees
from .store.cache import Cache


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How packages are reached: each repository's address by its name, and proxies."""

    arch: str
    foreign: tuple[str, ...] = ()
    uris: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Where a snapshot service has a repository as it was locked, in the order to look."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    direct: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    """Who named what ${mirror} and its kin stand for, but for the host itself."""
    own: Own = field(default_factory=dict)
    """The project's own .debs, by the layer that they are given in."""
    root: Path = Path()
    """The project's folder."""


@dataclass(frozen=True, kw_only=True)
class Builder:
    """What a stage works with; `scratch` is this process's own, and the trees lie in it."""

    cache: Cache
    scratch: Path
    trees: Trees
    log: Log
    reach: Reach
    state: Path
    """Folder of what may be remembered from run to run; nothing is lost with it."""
    shared: Shared | None = None
    """Where .debs may be that no repository has any more."""
    visit: Visit | None = None
    """What a person is given where a stage fails."""
    say: Callable[[str], None] = lambda _text: None
    """Gets a line for a person."""

    def doubtful(self, job: Job) -> bool:
        """Whether what a stage is made of came with nobody's word that counts here."""
        return self.trees.standing((*job.below, *job.made_of)).doubtful

    def private(self, job: Job) -> bool:
        """Whether something that it is made of is not for everybody, as /etc/shadow is."""
        entries = map(self.cache.require, (*job.below, *job.made_of))
        return any(bool(entry.facts.get("private")) for entry in entries)
