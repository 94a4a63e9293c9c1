"""One stage of a run: built unless another run makes it meanwhile, logged, noted, passed on."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..errors import BuildError, CommandFailed
from ..host import space
from ..host.process import need_root
from ..host.tools import tool
from ..plan.stage import Stage, each_once
from .headings import begin, placed
from .needs import need_arch, need_host, need_test, runs, tools_needed

if TYPE_CHECKING:
    from ..builder import Builder
    from .session import Session


def make(session: Session, stage: Stage, build: Callable[[Any, Builder], None]) -> None:
    """Build a stage unless another run makes it meanwhile, note the result, say a line."""
    need_root(f"building {stage.name}")
    need_test(session, stage)
    for name in tools_needed(stage):
        tool(name)
    if not stage.kept:
        _pass_by(session, stage, build)
        return
    began = time.monotonic()

    waiting = functools.partial(session.screen.step, stage.title)
    with (
        session.chronicle.failing(stage, began),
        session.screen.doing(stage.title),
        session.cache.used(waiting),
        session.cache.building(stage, waiting) as entry,
    ):
        if entry is None:
            session.told.began(stage)
            need_host(session, stage)
            if runs(stage):
                need_arch(session)
            # The log begins here, not where this waits: its builder may be writing to it.
            with session.log(stage.log, stage.title) as log:
                job = session.job(stage)
                begin(log, session, stage, job)
                try:
                    build(job, session.builder(log, session.plan.lock, stage))
                except CommandFailed as error:
                    raise placed(error, session, stage, job) from error
                except OSError as error:
                    if error.errno not in space.HOST_ERRORS:
                        raise
                    raise session.explained(error, stage.title, log.began) from error
            below = (*job.below, *job.made_of)
            sound = session.trees.standing(below).vouched
            session.vouching.built(stage, below, session.cache, sound=sound)
    session.note(stage, "hit" if entry else "built", began)
    if entry is None:
        session.exchange.give(stage)


def _pass_by(session: Session, stage: Stage, build: Callable[[Any, Builder], None]) -> None:
    """Make what the cache does not keep, in scratch, for those that are made of it next."""
    began = time.monotonic()
    with (
        session.chronicle.failing(stage, began),
        session.screen.doing(stage.title),
        session.log(stage.log, stage.title) as log,
    ):
        session.told.began(stage)
        job = session.job(stage)
        begin(log, session, stage, job)
        try:
            build(job, session.builder(log, session.plan.lock, stage))
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            raise session.explained(error, stage.title, log.began) from error
    session.passed(stage, began)


def make_beside(session: Session, stage: Stage, build: Callable[[Any, Builder], None]) -> None:
    """Make a stage, and beside it others of its kind that are lacking: all are wanted.

    What fails of these is silent here: doit comes to each of them, which then fails by itself.
    doit's own threads would run stages side by side that wait for one another's trees.
    """
    if stage.task in session.results:
        return  # doit looked before it was made beside another
    lacking = [
        other
        for other in each_once((stage, *session.plan.tops))
        if other != stage
        and other.kind == stage.kind
        # Made of the very same, which is there by now.
        and other.on == stage.on
        and other.task not in session.results
        and session.cache.intact(other) is None
    ]

    def beside(other: Stage) -> None:
        with contextlib.suppress(BuildError, OSError, SystemExit):
            make(session, other, build)

    assert session.trees  # made now, and once
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for other in lacking:
            pool.submit(beside, other)
        make(session, stage, build)
