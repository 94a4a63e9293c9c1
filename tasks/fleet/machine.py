"""What a worker's process keeps from one stage to the next: its cache, trees and scratch."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import util
from pathlib import Path

from ..host.files import remove
from ..host.scratch import scratch_folder, scratch_root
from ..plan.stage import Stage
from ..remote.vouching import Vouching
from ..rootfs.overlay import Trees
from ..store.cache import Cache
from ..store.made import Made
from ..store.record import Entry
from ..store.seen import SeenFiles
from .parcel import Errand

TREES_KEPT = 12
"""Unpacked trees that a worker keeps for its next stages; with more, it begins anew."""


@dataclass(kw_only=True)
class Machine:
    """What a worker keeps from one stage to the next, for one stage at a time."""

    scratch: Path
    cache: Cache
    made: Made
    state: Path
    checkout: str
    trust: str
    """Of the runs that it works for: trees of one that takes anything are for no other."""
    tried: set[str] = field(default_factory=set)
    """What was found to work here, of tasks.host.trials."""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    vouching: Vouching | None = None
    """What counts of the cache, for the stage at hand."""

    def __post_init__(self) -> None:
        self.count = 0
        self.trees = self._new_trees()

    def _new_trees(self) -> Trees:
        def vouches(stage: Stage, entry: Entry) -> bool:
            assert self.vouching is not None
            return self.vouching.vouches(stage, entry.record)

        return Trees(self.folder("trees"), self.cache, vouches)

    def folder(self, what: str) -> Path:
        """A new folder of scratch."""
        self.count += 1
        folder = self.scratch / f"{what}-{self.count}"
        folder.mkdir()
        return folder

    def tidy(self) -> None:
        """Let go of trees when there are many: each may be a whole system."""
        if len(self.trees.names) > TREES_KEPT:
            old, self.trees = self.trees.folder, self._new_trees()
            remove(old)

    @property
    def places(self) -> dict[str, Path]:
        """The folders that a stage writes to."""
        return {"cache": self.cache.root, "scratch": scratch_root()}


_idle: list[Machine] = []

_guard = threading.Lock()


@contextlib.contextmanager
def machine_for(errand: Errand) -> Iterator[Machine]:
    """A machine that makes nothing else meanwhile; of those that a process has, or a new one."""
    os.umask(0o022)  # what a build makes has the same modes for every user
    with _guard:
        found = next(
            (one for one in _idle if (one.checkout, one.trust) == (errand.checkout, errand.trust)),
            None,
        )
        if found is not None:
            _idle.remove(found)
    machine = found or _new_machine(errand)
    try:
        yield machine
    finally:
        machine.tidy()
        with _guard:
            _idle.append(machine)


def _new_machine(errand: Errand) -> Machine:
    stack = contextlib.ExitStack()
    scratch = stack.enter_context(scratch_folder())
    # Dask's own processes end without what is registered with atexit.
    util.Finalize(None, stack.close, exitpriority=10)
    state = Path(errand.checkout) / ".doit" if errand.checkout else scratch / "state"
    state.mkdir(exist_ok=True)
    kept = errand.cache or os.environ.get("STRATA_CACHE") or str(scratch / "cache")
    cache = Cache(Path(kept).absolute(), SeenFiles(state / "seen.json"))
    return Machine(
        scratch=scratch,
        cache=cache,
        made=Made(state / "built"),
        state=state,
        checkout=errand.checkout,
        trust=errand.trust,
        stack=stack,
    )
