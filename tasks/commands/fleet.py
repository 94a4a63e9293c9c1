"""`strata fleet`: the images of several specs, made by the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ..errors import BuildError
from ..fleet import cluster as clusters
from ..fleet.drive import Drive, lend_debs, there
from ..fleet.parcel import BUILT
from ..fleet.schedule import Schedule, schedule
from ..host import space
from ..host.files import write_text
from ..host.process import need_root
from ..remote.signing import TRUSTED_KEYS
from ..session.needs import need_test
from ..session.session import Session
from ..spec.load import chosen_specs, find_spec
from ..spec.words import counted
from .publish import publish

OURS = ("scheduler", "workers")
"""Variables that are of the fleet, and of no spec's session."""


def fleet(session: Session) -> None:
    """Make the images of all specs that are named; BuildError when one could not be made."""
    began = time.monotonic()
    address = session.variables.get("scheduler", "")
    near = not address
    _check(session, address)
    _ = session.signer  # what it cannot be is said before anything is made
    sessions = _planned(session)
    plans = {name: one.plan for name, one in sessions.items()}
    session.begin()
    likenesses = {name: like for one in sessions.values() for name, like in one.likenesses.items()}
    ends = {name: one.ends for name, one in sessions.items()}
    last = {stage.entry for stages in ends.values() for stage in stages}
    todo = schedule(
        plans, lambda stages: there(session, stages, likenesses, near=near, ends=last), ends
    )
    for one in sessions.values():
        one.exchange.pulled |= session.exchange.pulled
    for one in sessions.values():
        lend_debs(session, one, todo, near=near)
    for node in todo.nodes.values():
        need_test(sessions[node.spec], node.stage)
    _say_plan(session, sessions, todo)
    with _publishing(sessions) as publishing:
        for name in plans:
            if not any(stage.entry in todo.nodes for stage in ends[name]):
                publishing.begin(name)
        drive = None
        if not todo.over:
            with _cluster(session, address) as cluster:
                drive = Drive(
                    sessions=sessions,
                    schedule=todo,
                    cluster=cluster,
                    say=session.screen.note,
                    warn=session.screen.line,
                    moving=session.screen.moving,
                    complete=publishing.begin,
                )
                drive.run()
    failed = publishing.failed | (drive.failed if drive else set())
    _summary(session, sessions, todo, drive, time.monotonic() - began)
    if failed:
        names = ", ".join(sorted(failed))
        raise BuildError(
            f"{counted(len(failed), 'spec')} of {len(sessions)} failed: {names}",
            "what each said is above; what was built is in the cache",
        )


def _check(session: Session, address: str) -> None:
    """BuildError for what can be known before anything is asked."""
    clusters.imported()
    shared = session.shared
    if not address:
        clusters.asked_workers(session.variables)
        need_root("a fleet of this machine's own workers")
        return
    clusters.spoken(address)
    if session.variables.get("workers"):
        raise BuildError(
            "workers= is of this machine's own: a scheduler has those that were started for it",
            "leave out workers=, or scheduler=",
        )
    if shared is None:
        raise BuildError(
            "workers elsewhere share nothing with this machine but a shared cache",
            "cache=URL, one that they reach, too; STRATA_REMOTE does the same",
        )
    shared.sending()
    shared.taking()
    if not shared.policy.trusted and not shared.policy.any:
        raise BuildError(
            "this host believes nobody, so it could take nothing that the workers make",
            f"{TRUSTED_KEYS} names their keys; cache_trust=any takes all that is there",
        )


def _planned(session: Session) -> dict[str, Session]:
    """A session for each spec, with its plan. BuildError that names each spec without one."""
    text = session.variables.get("spec", "")
    if not text:
        find_spec(session.specs.relative_to(session.root), text)
    found: dict[str, Session] = {}
    faults = []
    for name in chosen_specs(session.specs.relative_to(session.root), text):
        given = {word: value for word, value in session.variables.items() if word not in OURS}
        one = Session(root=session.root, variables={**given, "spec": name}, screen=session.screen)
        # One cache, one scratch and one set of shared caches, with what is known of them.
        for part in ("cache", "made", "shared"):
            vars(one)[part] = getattr(session, part)
        try:
            _ = one.plan
        except BuildError as error:
            faults.append(one.mask_if_known(str(error)))
        found[one.name] = one
    if faults:
        raise BuildError("\n".join(faults).removesuffix("\n"))
    return found


def _cluster(session: Session, address: str) -> contextlib.AbstractContextManager[clusters.Cluster]:
    if address:
        return clusters.connected(address)
    return clusters.local(clusters.asked_workers(session.variables), session.scratch)


class _Publishing:
    """Specs are published one after the other, beside what is still being made."""

    def __init__(self, sessions: Mapping[str, Session], lane: ThreadPoolExecutor) -> None:
        self.sessions = sessions
        self.lane = lane
        self.futures: list[Future[None]] = []
        self.failed: set[str] = set()

    def begin(self, name: str) -> None:
        """Publish a spec of which each image is there."""
        self.futures.append(self.lane.submit(self._publish, name))

    def _publish(self, name: str) -> None:
        session = self.sessions[name]
        screen = session.screen
        try:
            ends = session.ends
            session.exchange.have(ends[0], ends)
            for end in ends:
                if session.cache.intact(end) is None:
                    raise BuildError(
                        f"{name}: {end.title} is made, and cannot be had from the shared cache"
                    )
            for stage in session.plan.stages:
                known = session.result(stage)
                if known.result == "hit" and stage.entry in session.exchange.pulled:
                    known = replace(known, result="pulled")
                session.results.setdefault(stage.task, known)
            publish(session)
        except BuildError as error:
            self.failed.add(name)
            screen.line(f"{name}: failed\n  {session.mask(str(error))}")
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            self.failed.add(name)
            screen.line(f"{name}: failed\n  {session.explained(error, 'publishing')}")


@contextlib.contextmanager
def _publishing(sessions: Mapping[str, Session]) -> Iterator[_Publishing]:
    """What is published is, when the block has ended; a fault of Strata's own is raised then."""
    with ThreadPoolExecutor(1) as lane:
        publishing = _Publishing(sessions, lane)
        try:
            yield publishing
        except BaseException:
            lane.shutdown(wait=False, cancel_futures=True)
            raise
    for future in publishing.futures:
        future.result()


def _say_plan(session: Session, sessions: Mapping[str, Session], todo: Schedule) -> None:
    total = {stage.entry for one in sessions.values() for stage in one.plan.stages}
    session.screen.note(
        f"{counted(len(sessions), 'spec')}, {counted(len(total), 'stage')}: "
        f"{len(todo.nodes)} to be made"
    )


def _summary(
    session: Session,
    sessions: Mapping[str, Session],
    todo: Schedule,
    drive: Drive | None,
    seconds: float,
) -> None:
    """A line of totals; .doit/fleet.json has what each stage took, and where."""
    outcomes = drive.outcomes if drive else {}
    built = [one for one in outcomes.values() if one.result == BUILT]
    workers = {one.address for one in built}
    lost = len(todo.lost)
    session.screen.note(
        f"built {counted(len(built), 'stage')}"
        + (f", {lost} not" if lost else "")
        + f": {sum(one.seconds for one in built):.1f} s of work in {seconds:.1f} s"
        + (f" on {counted(len(workers), 'worker')}" if workers else "")
    )
    stages = [
        {
            "entry": name,
            "title": node.stage.title,
            "specs": node.specs,
            "below": sorted(node.below),
            "result": outcomes[name].result if name in outcomes else "left out",
            "seconds": round(outcomes[name].seconds, 3) if name in outcomes else 0,
            "worker": outcomes[name].worker if name in outcomes else "",
        }
        for name, node in todo.nodes.items()
    ]
    told = {"seconds": round(seconds, 3), "specs": list(sessions), "stages": stages}
    with contextlib.suppress(OSError, BuildError):
        write_text(session.state / "fleet.json", json.dumps(told, indent=1) + "\n")
