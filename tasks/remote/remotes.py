"""The shared caches of a run, in their order: which are still asked, and what is told of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..host import patience
from ..store.cache import Cache
from ..store.made import Made
from .backend import Backend, Cut, RemoteFault, Silent, rest
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


class Remotes:
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
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        """Those that were found by address and entry, until what they are of is taken."""

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
