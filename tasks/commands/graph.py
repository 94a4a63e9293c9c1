"""`strata graph`: the stages of one spec or of several, with their state; asks no repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import holes
from ..plan import lockfile
from ..plan.stage import TREE, Stage
from ..session.session import Session
from .drawing import HIT, LACKING, PULLED, Node, dot, mermaid, svg, text
from .keys import each_spec, locked

if TYPE_CHECKING:
    from ..remote.shared import Shared

FORMS = {"text": text, "dot": dot, "mermaid": mermaid, "svg": svg}


def graph(session: Session) -> None:
    """Print it in the form that `format=` names; a stage of several specs stands there once."""
    form = session.variables.get("format", "text")
    if form not in FORMS:
        raise BuildError(f"format={form}: expected one of {', '.join(FORMS)}")
    if not session.variables.get("spec"):
        raise BuildError("graph: which spec?", "add spec=all, or spec=NAME")
    every = each_spec(session)
    lacking = [one for one in every if not locked(one)]
    if lacking:
        names = ",".join(one.variables["spec"] for one in lacking)
        raise BuildError(
            "; ".join(f"{one.lock_path}: {lockfile.state(one.read_lock())}" for one in lacking)
            + ": no stage is known before the lock is",
            f"strata lock spec={names}",
        )
    shared = session.shared  # one for all specs: this run closes it
    found = [nodes(one, shared, several=len(every) > 1) for one in every]
    session.screen.line(FORMS[form](joined(found)))


def nodes(session: Session, shared: Shared | None, *, several: bool) -> list[Node]:
    """The stages of one spec, the lowest first; of `several`, images say whose they are."""
    plan = session.plan
    published = {one.stage.task: one.name for one in plan.products}
    found = []
    below = ""
    for stage in plan.stages:
        if stage.kind not in TREE:
            parts = [one.entry for one in plan.below(stage)]
            below = parts[-1] if parts else ""
        state, size = _state(session, shared, stage)
        file = published.get(stage.task, "")
        makes = (f"{session.name}/{file}" if several else file,) if file else ()
        found.append(
            Node(entry=stage.entry, title=stage.title, key=stage.key, below=below, state=state,
                 size=size, specs=(session.name,), makes=makes)
        )  # fmt: skip
        if stage.kind in TREE:
            below = stage.entry
    return found


def _state(session: Session, shared: Shared | None, stage: Stage) -> tuple[str, int | None]:
    """Whether the cache has it, or a shared one would give it; what its file takes on the disk."""
    if not stage.kept:
        # It is wanted for what is made of it alone.
        above = [one for one in session.plan.tops if stage.task in one.on]
        states = {_state(session, shared, one)[0] for one in above}
        return (LACKING if LACKING in states else HIT), None
    entry = session.cache.get(stage)
    if entry is not None:
        return HIT, holes.used(entry.path)
    if shared is not None and shared.policy.pull and shared.where(stage):
        return PULLED, None
    return LACKING, None


def joined(specs: Sequence[Sequence[Node]]) -> list[Node]:
    """All stages of several specs, each once: equal keys stand on equal ones."""
    found: dict[str, Node] = {}
    for one in specs:
        for node in one:
            known = found.get(node.entry)
            if known is None:
                found[node.entry] = node
                continue
            # Of one spec, two images may be the same.
            names = tuple(dict.fromkeys((*known.specs, *node.specs)))
            made = tuple(dict.fromkeys((*known.makes, *node.makes)))
            found[node.entry] = replace(known, specs=names, makes=made)
    return list(found.values())
