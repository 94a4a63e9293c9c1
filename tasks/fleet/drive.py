"""The driver: sends each stage that is ready to the cluster, and notes what comes back.

schedule ─ready→ errand ─→ cluster ─→ outcome ─→ done: what stands on it is ready
                                              ─→ unfit: another worker
                                              ─→ failed: told once; what needs it is left out
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import BuildError
from ..host.log import Log
from ..plan.likeness import Likeness
from ..plan.lockfile import OWN
from ..plan.stage import Result, Stage, tools_of
from ..remote.configured import REMOTE
from ..remote.remotes import AT_ONCE
from ..repos.fetch import fetch
from ..session.needs import need_test
from ..session.session import Session
from ..version import VERSION
from .cluster import LOOK, Cluster
from .parcel import BUILT, FAILED, THERE, UNFIT, Errand, Outcome, carrying
from .schedule import Node, Schedule

GRACE = 20.0
"""Seconds that a stage waits for a worker which has not refused it: they come one by one."""

AGAIN = 5
"""How often a stage may come back from a worker that has refused it already."""

SHOWN = 3
"""Names of specs in a line; of more, how many."""


def there(
    session: Session,
    stages: Sequence[Stage],
    likenesses: Mapping[str, Likeness],
    *,
    near: bool,
    ends: Collection[str] = (),
) -> set[str]:
    """The entries of those stages that need not be made; `likenesses` are those of all specs.

    `ends` are entries that are only published from here.

    `near`: the workers use this checkout's own cache, and what it lacks is brought there. Else they
    have nothing but the shared one; what this checkout can vouch for is given to that.
    """
    if near:
        lacking = [stage for stage in stages if session.cache.intact(stage) is None]
        if lacking:
            session.exchange.have(lacking[0], lacking)
        return {stage.entry for stage in stages if session.cache.intact(stage) is not None}
    shared = session.shared
    assert shared is not None
    vouched = shared.policy.any or shared.policy.key is not None

    def one(stage: Stage) -> bool:
        here = session.cache.intact(stage) is not None
        if here and stage.entry in ends:
            return True
        if shared.where(stage):
            return True
        if not here or not vouched:
            return False
        return shared.give(stage, likenesses[stage.entry]) and bool(shared.where(stage))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(one, stages))
    return {stage.entry for stage, here in zip(stages, found, strict=True) if here}


def lend_debs(main: Session, session: Session, schedule: Schedule, *, near: bool) -> None:
    """Bring a spec's own .debs to where the workers find them: they may have no checkout."""
    plan = session.plan
    for stage in plan.stages:
        records = [one for one in plan.records(stage) if one.repository == OWN]
        if records and stage.entry in schedule.nodes:
            vars(session).update(scratch=main.scratch, trees=main.trees)
            fetch(records, session.builder(Log(None), plan.lock))
            if not near and session.shared is not None:
                session.shared.give_debs(stage.entry, records)


def addresses(session: Session) -> str:
    """The shared caches, as the user named them."""
    return session.variables.get("cache", "") or os.environ.get(REMOTE, "")


def errand_of(session: Session, stage: Stage, *, near: bool) -> Errand:
    """What a worker is told of a stage of this session's spec.

    BuildError as `Session.job` has, and for a boot test that this host could not run: its key has
    the versions of what this host has.
    """
    need_test(session, stage)
    shared = session.shared
    reach = session.reach(session.plan.lock)
    mode = ""
    if shared is not None:
        mode = ("both" if shared.policy.pull else "push") if shared.policy.push else "pull"
    like = session.likenesses[stage.entry]
    job = session.job(stage)
    return Errand(
        version=VERSION,
        job=job if near else carrying(job, session.root),
        caches=addresses(session) if shared is not None else "",
        mode=mode,
        trust=session.variables.get("cache_trust", ""),
        uris=reach.uris,
        past=reach.past,
        mirrors=session.mirrors,
        proxies=reach.proxies,
        direct=reach.direct,
        secrets=session.spec.secrets,
        like=like.name,
        tools=like.tools,
        checkout=str(session.root) if near else "",
        cache=str(session.cache.root) if near else "",
        log=str((session.out / session.logs / stage.log).relative_to(session.root)) if near else "",
    )


@dataclass(frozen=True, kw_only=True)
class Parked:
    """From when on, and until when, a stage may be sent to another worker, by this host's clock."""

    since: float
    until: float


@dataclass(kw_only=True)
class Drive:
    """One run of a fleet over the specs of `sessions`."""

    sessions: Mapping[str, Session]
    schedule: Schedule
    cluster: Cluster
    say: Callable[[str], None]
    """Gets a line that stays."""
    warn: Callable[[str], None]
    """Gets one that stays whatever the user wants to see."""
    moving: Callable[[str], None]
    complete: Callable[[str], None]
    """Gets the name of a spec of which each image is there."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """What became of each stage, by its entry."""
    failed: set[str] = field(default_factory=set)
    """Specs that go without an image."""

    def __post_init__(self) -> None:
        self.attempts: dict[str, int] = {}
        self.tried: dict[str, dict[str, Outcome]] = {}
        self.unfit: dict[object, set[str]] = {}
        self.parked: dict[str, Parked] = {}
        self.again: dict[str, int] = {}
        self.told: set[str] = set()
        self.silent = ""
        self.images = {
            name: {one.entry for one in session.ends} & self.schedule.nodes.keys()
            for name, session in self.sessions.items()
        }

    def run(self) -> None:
        """Make all that is to be made; BuildError where the cluster itself is gone."""
        self.cluster.look()
        self._send(self.schedule.ready())
        while not self.schedule.over:
            arrived = self.cluster.next()
            self.cluster.look()
            self._tell_of_workers()
            self._unpark()
            if arrived is not None and arrived[0] not in self.outcomes:
                self._note(self.schedule.nodes[arrived[0]], arrived[1])
            self.moving(
                f"{self.schedule.left} of {len(self.schedule.nodes)} stages to come, "
                f"{len(self.cluster.workers)} workers"
            )
        self.cluster.look(now=True)
        self._tell_of_workers()

    def _send(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            near = self.cluster.own
            try:
                text = errand_of(self.sessions[node.spec], node.stage, near=near).packed()
            except BuildError as error:
                outcome = Outcome(result=FAILED, message=error.message, hint=error.hint)
            except OSError as error:
                outcome = Outcome(result=FAILED, message=f"{error.filename}: {error.strerror}")
            else:
                self._submit(node, text)
                continue
            self._fail(node, outcome)

    def _submit(self, node: Node, text: str) -> None:
        name = node.stage.entry
        self.attempts[name] = self.attempts.get(name, 0) + 1
        # A worker that could not make one of this kind cannot make this one.
        bad = self.unfit.get(_needs(node.stage), set()) | self.tried.get(name, {}).keys()
        good = [address for address in self.cluster.workers if address not in bad]
        among = good if bad & self.cluster.workers.keys() else []
        self.cluster.submit(name, self.attempts[name], text, priority=node.height, among=among)

    def _note(self, node: Node, outcome: Outcome) -> None:
        for line in outcome.said:
            self._once(f"{line} (worker {outcome.worker})", line)
        if outcome.result in (BUILT, THERE):
            self._done(node, outcome)
        elif outcome.result == UNFIT:
            self._elsewhere(node, outcome)
        else:
            self._fail(node, outcome)

    def _done(self, node: Node, outcome: Outcome) -> None:
        stage = node.stage
        self.outcomes[stage.entry] = outcome
        size = f"{outcome.bytes / 1e6:10.1f} MB" if outcome.bytes else f"{'-':>13}"
        self.say(
            f"{stage.title:<22} {stage.key[:8]}  {outcome.result:<8}{outcome.seconds:7.1f} s{size}"
            f"  worker {outcome.worker}: {_names(node.specs)}"
        )
        for name in node.specs:
            session = self.sessions[name]
            if outcome.result == BUILT:
                first = name == node.spec
                session.results[_own(session, stage).task] = Result(
                    result="built" if first else "hit",
                    seconds=outcome.seconds if first else 0.0,
                    bytes=outcome.bytes,
                )
            if stage.entry in self.images[name]:
                self.images[name].discard(stage.entry)
                if not self.images[name] and name not in self.failed:
                    self.complete(name)
        self._send(self.schedule.done(stage.entry))

    def _elsewhere(self, node: Node, outcome: Outcome) -> None:
        """Send a stage to another worker, if there is or comes one that has not refused it."""
        name = node.stage.entry
        tried = self.tried.setdefault(name, {})
        # Dask sends it back where those that were preferred have gone meanwhile.
        again = outcome.address in tried
        self.again[name] = self.again.get(name, 0) + again
        tried[outcome.address] = outcome
        self.unfit.setdefault(_needs(node.stage), set()).add(outcome.address)
        if self.again[name] > AGAIN or (self.cluster.own and not self._others(name)):
            self._nobody(node)
            return
        self._once(
            f"warning: worker {outcome.worker}: {outcome.message}; another one is asked",
            f"{outcome.address} {outcome.message}",
        )
        now = time.monotonic()
        self.parked[name] = Parked(since=now + again * LOOK, until=now + GRACE)
        self._unpark()

    def _others(self, name: str) -> list[str]:
        """The workers that have not refused a stage."""
        return [one for one in self.cluster.workers if one not in self.tried[name]]

    def _unpark(self) -> None:
        """Send what waits for another worker, if there is one."""
        for name, parked in list(self.parked.items()):
            node, now = self.schedule.nodes[name], time.monotonic()
            if self._others(name) and now >= parked.since:
                del self.parked[name]
                self._send([node])
            elif now > parked.until:
                del self.parked[name]
                self._nobody(node)

    def _nobody(self, node: Node) -> None:
        tried = self.tried[node.stage.entry]
        messages = [f"worker {one.worker}: {one.message}" for one in tried.values()]
        told = "\n    ".join(dict.fromkeys(messages))
        hint = next(reversed(tried.values())).hint
        message = f"no worker can make it:\n    {told}"
        self._fail(node, Outcome(result=FAILED, message=message, hint=hint))

    def _fail(self, node: Node, outcome: Outcome) -> None:
        stage, session = node.stage, self.sessions[node.spec]
        self.outcomes[stage.entry] = outcome
        lost = self.schedule.failed(stage.entry)
        self.failed |= lost
        where = f" on worker {outcome.worker}" if outcome.worker else ""
        text = "  " + "\n  ".join([outcome.message, *outcome.hint.splitlines()])
        if outcome.tail and not self.cluster.own:
            with session.log(stage.log, stage.title) as log:
                for line in outcome.tail:
                    log.line(line)
            text += f"\n  its last lines are in {log.path}"
        self.warn(
            f"{stage.title}: failed{where}; without it: {_names(sorted(lost))}\n"
            + session.mask(text)
        )

    def _tell_of_workers(self) -> None:
        while self.cluster.lost:
            self.say(
                f"worker {self.cluster.lost.pop()} is gone: what it was making goes to another"
            )
        text = self.cluster.missing()
        if text and text != self.silent:
            self.warn(f"waiting: {text}")
        self.silent = text

    def _once(self, line: str, what: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.warn(line)


def _needs(stage: Stage) -> object:
    """What a worker must have for a stage: which could not make one cannot make its like."""
    inputs = stage.inputs
    own = tuple(inputs.get(name) for name in ("arch", "firmware", "firmware_version"))
    return stage.kind, own, tuple(sorted(tools_of(inputs).items()))


def _own(session: Session, stage: Stage) -> Stage:
    """The stage of this key as the spec itself calls it."""
    return next(one for one in session.plan.stages if one.entry == stage.entry)


def _names(specs: Sequence[str]) -> str:
    more = f" and {len(specs) - SHOWN} more" if len(specs) > SHOWN else ""
    return ", ".join(specs[:SHOWN]) + more
