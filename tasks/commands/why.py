"""`doit why`: what a build would do now with each stage and with out/NAME/, and what changed."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BuildError
from ..host import space
from ..plan import lockfile
from ..plan.cause import Cause
from ..plan.debs import changed
from ..plan.lockfile import Lock
from ..plan.stage import Plan, Stage
from ..session.session import Session
from ..spec.words import network_told
from ..store import made_of
from .published import Published, published
from .reasons import Teller

FORMAT = 1
"""Of the JSON: another number where a program that reads it must change."""

WIDTH = 100

HIT, PULLED, BUILT, SKIPPED = "hit", "pulled", "built", "skipped"
"""What a build would do with a stage, in the words of build.json."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A stage, what would become of it, from which shared cache it would come, and why."""

    stage: Stage
    state: str
    place: str = ""
    causes: Sequence[Cause] = ()

    def plain(self) -> dict[str, Any]:
        """It for another program."""
        return {
            "stage": self.stage.kind,
            "name": self.stage.name,
            "key": self.stage.key,
            "state": self.state,
            **({"from": self.place} if self.place else {}),
            "causes": [one.plain() for one in self.causes],
        }


@dataclass(kw_only=True)
class Answer:
    """All that is said; `lock` is what is to be said of that, a line each, `state` in a word."""

    session: Session
    lock: list[str] = field(default_factory=list)
    state: str = "fits"
    stages: list[Told] = field(default_factory=list)
    out: list[Published] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def redone(self) -> bool:
        """Whether a build would redo anything."""
        return (
            self.plan is None
            or any(one.state in (PULLED, BUILT) for one in self.stages)
            or any(one.redone for one in self.out)
        )


def why(session: Session) -> bool:
    """Say of each stage what a build would do with it, and what changed since the spec's last one.

    False where something would be redone: the exit status is 2. Repositories are asked only where
    the lock does not fit the spec, or lock=latest is said; nothing is written.
    """
    form = session.variables.get("format", "text")
    if form not in ("text", "json"):
        raise BuildError(f"why format={form}: expected text or json")
    # A program reads the answer alone.
    with contextlib.redirect_stdout(sys.stderr) if form == "json" else contextlib.nullcontext():
        answer = Answer(session=session)
        lock = _lock(answer)
        if lock is not None:
            _stages(answer, lock)
    if form == "json":
        session.screen.line(_json(answer))
    else:
        for line in _text(answer):
            session.screen.line(session.mask(line))
    return not answer.redone


# ---------------------------------------------------------------- the lock


def _lock(answer: Answer) -> Lock | None:
    """The lock that a build would go by, resolved in memory where it would be; None if none is."""
    session = answer.session
    mode = session.lock_mode
    old = session.read_lock()
    current = old is not None and session.fits(old)
    asked = session.variables.get("lock") == "latest"
    if not current:
        answer.state = "missing" if old is None else "stale"
        told = f"{session.lock_path} is {lockfile.state(old)}: a build resolves it first"
        answer.lock.append(told)
        answer.lock += changed(session.project.own(old), old) if old is not None else []
        if mode == "frozen":
            answer.lock.append("with lock=frozen a build ends here")
            return None
    elif not asked:
        return old
    try:
        lock = _resolved(session, old, current=current, keep=mode == "keep")
    except (BuildError, OSError) as error:
        if isinstance(error, OSError):
            if error.errno not in space.HOST_ERRORS:
                raise
            error = session.explained(error, "resolving")
        if current:
            raise error from None
        answer.lock += f"a build would end here: {error}".split("\n")
        return None
    if current and lock != old:
        answer.state = "behind"
        answer.lock.append(f"{session.lock_path} would be written: its repositories have moved")
    return lock


def _resolved(session: Session, old: Lock | None, *, current: bool, keep: bool) -> Lock:
    """As a build resolves it, in memory."""
    from ..repos.resolve import renew

    session.begin()
    with session.aside("why") as log:
        builder = session.builder(log, old)
        # .debs that are not here belong to layers that are new by them.
        outcome = renew(session.spec, builder, old, keep=keep, current=current, scan="here")
    assert outcome.lock is not None or old is not None
    return outcome.lock or old  # type: ignore[return-value]


# ---------------------------------------------------------------- the stages


def _stages(answer: Answer, lock: Lock) -> None:
    """What becomes of each stage, and of what is published."""
    session = answer.session
    plan = answer.plan = session.plan = session.planned(lock)
    last = made_of.last(session.state, session.name)
    states: dict[str, tuple[str, str]] = {}
    wanted = {stage.entry for stage in session.ends}
    # What stands on others comes first: what is made wants all that it is made of.
    for stage in reversed(plan.stages):
        if stage.entry in wanted and not stage.kept:
            states[stage.entry] = (BUILT, "")
        elif stage.entry in wanted:
            states[stage.entry] = _state(session, stage)
        else:
            here = stage.kept and session.cache.get(stage) is not None
            states[stage.entry] = (HIT if here else SKIPPED, "")
        if states[stage.entry][0] == BUILT:
            wanted |= {below.entry for below in plan.below(stage)}
    teller = Teller(session=session, plan=plan, last=last)
    for stage in plan.stages:
        state, place = states[stage.entry]
        told = teller.told(stage) if state == BUILT else ()
        answer.stages.append(Told(stage=stage, state=state, place=place, causes=told))
    hits = {stage.entry for stage in session.ends if states[stage.entry][0] == HIT}
    answer.out = published(session, plan, last.files, hits)


def _state(session: Session, stage: Stage) -> tuple[str, str]:
    """What a build would do with a stage that it needs, and from where it would come."""
    if session.cache.intact(stage) is not None:
        return HIT, ""
    shared = session.shared
    place = shared.where(stage) if shared is not None and shared.policy.pull else ""
    return (PULLED, place) if place else (BUILT, "")


# ---------------------------------------------------------------- the answer


def _text(answer: Answer) -> list[str]:
    """For a person."""
    session = answer.session
    lines = []
    for number, line in enumerate(answer.lock):
        lines.append(f"{'' if number else 'lock':<6}  {line}")
    if answer.plan is None:
        return lines
    lines += map(network_told, session.spec.unreproducible)
    hits: list[str] = []
    for one in (one for one in answer.stages if one.state != SKIPPED):
        if one.state == HIT:
            hits.append(one.stage.title)
            continue
        lines += _hits(hits)
        hits = []
        would = f"would be pulled from {one.place}" if one.place else "would be built"
        lines.append(f"{one.stage.kind:<6}  {one.stage.name:<16} {one.stage.key[:8]} {would}")
        lines += [f"        {line}" for cause in one.causes for line in cause.lines]
    lines += _hits(hits)
    lines += [f"{'out':<6}  {one.line}" for one in answer.out]
    if not answer.redone:
        lines.append("nothing would be redone: every image is in the cache")
    return lines


def _hits(titles: Sequence[str]) -> list[str]:
    """What stays, stages that follow each other in one line."""
    if not titles:
        return []
    # A title is not parted.
    text = ", ".join(title.replace(" ", "\xa0") for title in titles)
    lines = textwrap.wrap(
        text, WIDTH - 8, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    heads = [HIT, *[""] * len(lines)]
    return [
        f"{head:<6}  {line}".replace("\xa0", " ") for head, line in zip(heads, lines, strict=False)
    ]


def _json(answer: Answer) -> str:
    """For a program; without a lock that can be resolved there are no stages."""
    session = answer.session
    told: Mapping[str, Any] = {
        "format": FORMAT,
        "spec": session.name,
        "redone": answer.redone,
        "lock": {"path": str(session.lock_path), "state": answer.state, "notes": answer.lock},
        "stages": [one.plain() for one in answer.stages],
        "published": [one.plain() for one in answer.out],
    }
    return session.mask(json.dumps(told, indent=1))
