"""What one run takes from shared caches, and gives to them: doit asks for one stage at a time."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import space
from ..host.process import check_signal
from ..plan.stage import Stage, each_once

if TYPE_CHECKING:
    from .session import Session


class Exchange:
    """Between the cache of a session and its shared ones."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pulled: set[str] = set()
        """The entries that came from shared caches."""
        self._asked: set[str] = set()
        self._sending: list[Future[None]] = []

    def have(self, stage: Stage, beside: Sequence[Stage] = ()) -> bool:
        """Whether the cache has a stage, whole; what it lacks is taken from a shared one.

        `beside` are others that are wanted as much: what is lacking of all comes at once.
        """
        cache, shared = self.session.cache, self.session.shared
        if cache.intact(stage) is not None:
            return True
        if shared is None or not shared.policy.pull:
            return False
        asked = [
            one
            for one in each_once((stage, *beside))
            if one.key not in self._asked and cache.intact(one) is None
        ]
        self._asked |= {one.key for one in asked}
        if not asked:
            return False
        from ..remote.remotes import AT_ONCE

        with ThreadPoolExecutor(min(AT_ONCE, len(asked))) as pool:
            list(pool.map(self._take, asked))
        return cache.intact(stage) is not None

    def within_reach(self, stage: Stage) -> bool:
        """Whether the cache or a shared one has a stage; nothing is fetched."""
        if self.session.cache.get(stage) is not None:
            return True
        shared = self.session.shared
        return shared is not None and bool(shared.where(stage))

    def _take(self, stage: Stage) -> None:
        session, shared = self.session, self.session.shared
        began = time.monotonic()
        assert shared is not None

        def moving(text: str) -> None:
            if session.screen.terminal:
                session.screen.step(stage.title, text)

        far = functools.partial(session.screen.count, stage.title)
        try:
            with (
                session.screen.doing(stage.title),
                session.cache.used(moving),
                session.cache.building(stage, moving) as entry,
            ):
                if entry is not None or not shared.take(stage, moving, far):
                    return
        except BuildError:
            return  # the stage, made now, meets it again
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            what = session.explained(error, f"fetching {stage.title}")
            session.screen.warned(f"warning: {what}")
            return
        self.pulled.add(stage.entry)
        session.note(stage, "pulled", began)

    def give(self, stage: Stage) -> None:
        """Send a stage that was just built, beside what is built next, where this run gives."""
        shared = self.session.shared
        if shared is not None and shared.policy.push:
            self._sending.append(self._lane.submit(self._send, stage))

    @cached_property
    def _lane(self) -> ThreadPoolExecutor:
        # One: what is built next is what others wait for, and wants the CPUs.
        return self.session.stack.enter_context(ThreadPoolExecutor(1))

    def _send(self, stage: Stage) -> None:
        """Give a stage and the .debs that it was made of."""
        session, shared = self.session, self.session.shared
        assert shared is not None
        with self._warned(stage):
            shared.give_debs(stage.entry, session.plan.records(stage))
            shared.give(stage, session.likenesses[stage.entry])

    def give_all(self) -> None:
        """Send also what the cache had already, where a shared one lacks it: an earlier run may not
        have reached that."""
        session, shared = self.session, self.session.shared
        if shared is None or not shared.policy.push:
            return
        for stage in session.plan.stages:
            known = session.results.get(stage.task)
            if stage.kept and (known is None or known.result != "built"):
                self._sending.append(self._lane.submit(self._send_late, stage))

    def _send_late(self, stage: Stage) -> None:
        """Give a stage of an earlier run; its .debs only where it was lacking."""
        session, shared = self.session, self.session.shared
        assert shared is not None
        with self._warned(stage):
            if shared.give(stage, session.likenesses[stage.entry]):
                shared.give_debs(stage.entry, session.plan.records(stage))

    @contextlib.contextmanager
    def _warned(self, stage: Stage) -> Iterator[None]:
        session = self.session
        try:
            yield
        except (BuildError, OSError) as error:
            session.screen.warned(f"warning: {stage.title} is not sent: {session.mask(str(error))}")

    def finish(self) -> None:
        """Wait for what is on its way to shared caches."""
        while self._sending:
            check_signal()
            if not self._sending[0].done():
                self.session.screen.progress("sending what was built to the shared cache")
            self._sending.pop(0).result()

    def cancel(self) -> None:
        """Send no more: a signal ended the run. What is on its way looks at it by itself."""
        for one in self._sending:
            one.cancel()
