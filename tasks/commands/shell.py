"""`strata shell`: a shell, or one command, in a throwaway copy of a layer's tree.

in the cache, or made now ─→ opened ─→ its exit status      or, where the making fails, there
"""

from __future__ import annotations

import contextlib
from typing import NoReturn

from ..errors import BuildError
from ..host import terminal
from ..host.log import Log
from ..host.process import need_root
from ..host.visit import Visit
from ..plan.stage import Stage
from ..session.making import make
from ..session.needs import need_arch, need_host
from ..session.session import Session
from ..session.visits import programs, prompt, say
from ..spec.words import near, printable
from ..stages.make import build
from ..stages.opened import opened


def shell(session: Session) -> NoReturn:
    """Open it; ends with the status of what was run, as SystemExit."""
    need_root("a shell in a tree")
    wanted = stage_of(session)
    if not terminal.both():
        session.screen.quiet = True  # what the program prints may be for another one
    visit = Visit(programs=programs(session), env=prompt(session, wanted.name))
    what = f"{session.spec.path}: {wanted.title}"
    _ = session.shared
    need_arch(session)
    with contextlib.ExitStack() as using:
        using.enter_context(session.cache.used(session.screen.moving))
        _made(session, wanted)
        need_host(session, wanted)
        log = Log(None, progress=session.screen.moving, mask=session.mask, places=session.places)
        builder = session.builder(log, session.plan.lock)
        network = "network" in session.variables

        def told(_status: int) -> None:
            session.screen.moving("")
            using.close()  # prune need not wait for a person
            if visit.terminal and not session.variables.get("command"):
                for line in greeting(wanted, network=network):
                    say(line)

        visit.told = told
        opened(session.job(wanted), builder, visit, network=network)
    raise SystemExit(visit.require(what))


def stage_of(session: Session) -> Stage:
    """The stage that `layer=` names, else the last one of the tree."""
    stages = session.plan.tree
    name = session.variables.get("layer")
    if name is None:
        return stages[-1]
    named = {stage.name: stage for stage in stages} | {stage.task: stage for stage in stages}
    if name not in named:
        names = [stage.name for stage in stages]
        meant = near(name, names)
        raise BuildError(
            f"{session.spec.path}: layer={printable(name)}: it has no such layer",
            (f"did you mean {meant}? " if meant else "") + f"layers: {', '.join(names)}",
        )
    return named[name]


def greeting(stage: Stage, *, network: bool) -> list[str]:
    """What is said before the shell's prompt."""
    seen = "the host's network" if network else "no network (network=1 lets it see the host's)"
    return [
        f"a copy of {stage.title}, thrown away in the end; {seen}",
        f"exit or Ctrl-D leaves it; {terminal.LEAVE}",
    ]


def _made(session: Session, wanted: Stage) -> None:
    """Make what lacks of the tree, as a build does; where that fails, the visit is there."""
    stages = session.plan.tree
    stages = stages[: stages.index(wanted) + 1]
    lacking = [stage for stage in stages if not session.exchange.have(stage, stages)]
    if not lacking:
        return
    names = ", ".join(stage.title for stage in lacking)
    session.screen.note(f"not in the cache: {names}; made now, and opened where that fails")
    session.begin()
    session.visiting = True
    try:
        for stage in lacking:
            make(session, stage, build)
    except BuildError:
        if session.visit is None or session.visit.status is None:
            raise
        raise SystemExit(
            session.visit.require(f"{session.spec.path}: {lacking[0].title}")
        ) from None
    finally:
        session.exchange.finish()
