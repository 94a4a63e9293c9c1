"""Which stages of all specs are to be made, and in which order: pure, Dask knows nothing of it.

    specs' plans ─→ one node for each key ─→ those that nobody has ─→ ready as what is below is done

A stage is ready when all that it stands on is in the cache: bases come first, then their layers,
then images. Of those that are ready the one with the longest way to its images goes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..plan.stage import Plan, Stage

Ask = Callable[[Sequence[Stage]], Collection[str]]
"""Gets stages; the names of those entries that are in the cache already."""


@dataclass(kw_only=True)
class Node:
    """One stage of all specs, of each key one; `spec` is whose job makes it."""

    stage: Stage
    spec: str
    specs: list[str] = field(default_factory=list)
    """All that need it, `spec` first."""
    below: set[str] = field(default_factory=set)
    """Entries that must be made before it."""
    above: set[str] = field(default_factory=set)
    height: int = 0
    """How many stages, one after the other, wait for it."""


class Schedule:
    """The stages that are to be made: `ready`, then `done` or `failed` with each, until `over`."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = dict(nodes)
        for name, node in self.nodes.items():
            for other in node.below:
                self.nodes[other].above.add(name)
        # From the images down.
        for name in reversed(_sorted(self.nodes)):
            for other in self.nodes[name].below:
                below = self.nodes[other]
                below.height = max(below.height, self.nodes[name].height + 1)
        self._left = {name: set(node.below) for name, node in self.nodes.items()}
        self.lost: set[str] = set()
        """What failed, and what stands on that."""

    @property
    def over(self) -> bool:
        """Whether each stage is done, or lost."""
        return not self._left

    @property
    def left(self) -> int:
        """How many are neither done nor lost."""
        return len(self._left)

    def ready(self) -> list[Node]:
        """What can be made at once, at the beginning."""
        return self._first([name for name, below in self._left.items() if not below])

    def done(self, name: str) -> list[Node]:
        """Note that a stage is there; what can be made now, the most urgent first."""
        self._left.pop(name, None)
        freed = []
        for other in self.nodes[name].above:
            if other in self._left:
                self._left[other].discard(name)
                if not self._left[other]:
                    freed.append(other)
        return self._first(freed)

    def failed(self, name: str) -> set[str]:
        """Note that a stage cannot be made; the specs that go without an image."""
        names = [name]
        specs: set[str] = set()
        while names:
            one = names.pop()
            if one not in self.lost:
                self.lost.add(one)
                self._left.pop(one, None)
                specs |= set(self.nodes[one].specs)
                names += self.nodes[one].above
        return specs

    def _first(self, names: Iterable[str]) -> list[Node]:
        ready = [self.nodes[name] for name in names]
        return sorted(ready, key=lambda node: (-node.height, node.stage.entry))


def schedule(
    plans: Mapping[str, Plan], ask: Ask, ends: Mapping[str, Sequence[Stage]] | None = None
) -> Schedule:
    """The stages of all specs' plans that are to be made; `ask` tells what is there.

    It is asked from the `ends` downwards, what a build of each spec wants: of what is there nothing
    below is needed. A whole disk is no stage of its own here: whoever makes a file of it writes it.
    """
    lacking: dict[str, set[str]] = {name: set() for name in plans}
    there: set[str] = set()
    asked: set[str] = set()
    ways = {name: list((ends or {}).get(name, plan.ends)) for name, plan in plans.items()}
    while any(ways.values()):
        new = {one.entry: one for way in ways.values() for one in way if one.entry not in asked}
        there |= set(ask(list(new.values()))) if new else set()
        asked |= new.keys()
        for name, plan in plans.items():
            without = [one for one in ways[name] if one.entry not in there]
            lacking[name] |= {one.entry for one in without}
            below = {part.entry: part for one in without for part in plan.parts(one)}
            ways[name] = [one for entry, one in below.items() if entry not in lacking[name] | there]
    nodes: dict[str, Node] = {}
    for name, plan in plans.items():
        for stage in plan.stages:
            if stage.entry in lacking[name]:
                _add(nodes, stage, name, [one.entry for one in plan.parts(stage)])
    return Schedule(nodes)


def _add(nodes: dict[str, Node], stage: Stage, spec: str, below: Collection[str]) -> None:
    node = nodes.setdefault(stage.entry, Node(stage=stage, spec=spec))
    for name in below:
        if name in nodes:
            node.below |= {name, *nodes[name].below}
    if spec not in node.specs:
        node.specs.append(spec)


def _sorted(nodes: Mapping[str, Node]) -> list[str]:
    """Each after what is below it, which has all that is below that."""
    return sorted(nodes, key=lambda name: len(nodes[name].below))


def simulated(plan: Schedule, seconds: Mapping[str, float], workers: int) -> float:
    """How long so many workers would take, of whom each makes one stage at a time.

    `seconds` has by entry what a stage took. As the fleet does: what is ready goes to whoever is
    free, the longest way first.
    """
    now, busy, free = 0.0, [(0.0, "")][:0], workers
    waiting = plan.ready()
    while waiting or busy:
        while waiting and free:
            node = waiting.pop(0)
            heapq.heappush(busy, (now + seconds[node.stage.entry], node.stage.entry))
            free -= 1
        now, name = heapq.heappop(busy)
        free += 1
        waiting += plan.done(name)
        waiting.sort(key=lambda node: (-node.height, node.stage.entry))
    return now
