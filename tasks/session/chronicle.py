"""What becomes of the stages of one run, as it goes; in the end it is the newest of the history."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..store import history, made_of

if TYPE_CHECKING:
    from ..plan.stage import Stage
    from .session import Session


class Chronicle:
    """Of a run that builds: `begin` says that it does, `close` writes it down."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.began = time.time() - (time.monotonic() - session.started)
        self.result = "interrupted"
        self.building = False
        self.published: Mapping[str, str] | None = None
        """SHA-256 of what this run has in out/NAME/, by name; None where it did not come so far."""
        self.changed: bool | None = None
        """Whether what is published was changed; None where it was not come to."""
        self._failed: dict[str, tuple[float, float]] = {}

    def begin(self) -> None:
        """This run builds, so it is one that the history has."""
        self.building = True

    def end(self, *, failed: bool) -> None:
        """doit is through with its tasks."""
        self.result = "failed" if failed else "done"

    def refused(self, error: BuildError) -> None:
        """There is no plan: doit says so itself, and ends."""
        self.result = "failed"
        self.tell(error)

    def tell(self, error: BuildError, *, task: str = "", log: str = "") -> None:
        """An error as an event, for another program; without secrets, as on the screen."""
        said = error.fields(self.session.mask_if_known)
        self.session.screen.event("failure", task=task, **said, log=log)

    @contextlib.contextmanager
    def failing(self, stage: Stage, began: float) -> Iterator[None]:
        """Note a stage that the block does not bring to its end; `began` by time.monotonic()."""
        try:
            yield
        except BaseException:
            self._failed[stage.task] = (began, time.monotonic())
            raise

    def close(self, *, planned: bool) -> None:
        """Write the run down, once; one that never had a plan is none, and gets none here."""
        session = self.session
        session.screen.event(
            "done",
            result=self.result,
            seconds=round(time.monotonic() - session.started, 3),
            published=self.changed,
        )
        session.screen.events = False  # that is the last one
        if not self.building or not planned:
            return
        self.building = False
        with contextlib.suppress(BuildError, OSError):
            build = history.Build(
                began=round(self.began, 3),
                seconds=round(time.monotonic() - session.started, 3),
                result=self.result,
                lock=session.lock_digest,
                changes=tuple(session.changes),
                stages=tuple(map(self._took, session.plan.stages)),
            )
            history.remember(session.state, session.name, build)
        if self.published is None:
            with contextlib.suppress(BuildError, OSError):
                self.keep()

    def keep(self) -> None:
        """Remember what each stage was made of; of a run that did not publish, of those it had."""
        session, plan = self.session, self.session.plan
        there = {
            stage.task: self._took(stage).result not in ("failed", "skipped")
            for stage in plan.stages
        }
        files, kept = self.published, {}
        if files is None:
            last = made_of.last(session.state, session.name)
            files, kept = last.files, {one.task: one for one in last.stages}

        def made() -> made_of.Build:
            from ..plan.notes import notes

            told = notes(session.spec, plan.lock)
            stages = [
                made_of.Stage(
                    task=one.task, key=one.key, there=there[one.task], inputs=one.inputs,
                    notes=told.get(one.task, {}),
                )
                if self.published is not None or there[one.task] else kept.get(one.task)
                for one in plan.stages
            ]  # fmt: skip
            return made_of.Build(files=files, stages=tuple(one for one in stages if one))

        marks = [(one.task, one.key, there[one.task]) for one in plan.stages]
        with contextlib.suppress(BuildError, OSError):  # a file that is gone by now
            made_of.remember(session.state, session.name, files, marks, made)

    def _took(self, stage: Stage) -> history.Took:
        session = self.session
        known = session.result(stage)
        result, began, seconds = known.result, known.began, known.seconds
        if stage.task in self._failed and result != "built":
            start, end = self._failed[stage.task]
            result, began, seconds = "failed", start - session.started, end - start
        return history.Took(
            stage=stage.kind,
            name=stage.name,
            key=stage.key,
            result=result,
            began=round(began, 3),
            seconds=round(seconds, 3),
            bytes=known.bytes,
        )
