"""doit's reporter: a line per stage, one clear message per failure, and what is being run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from doit.exceptions import TaskFailed
from doit.reporter import ZeroReporter

from ..errors import BuildError
from ..host.process import interrupted

if TYPE_CHECKING:
    from .session import Session


def variables() -> dict[str, str]:
    """The name=value words of the command line; doit keeps them in a dictionary of its own."""
    from doit import doit_cmd

    return dict(doit_cmd._CMDLINE_VARS or {})


class Failed(TaskFailed):  # type: ignore[misc]  # doit has no types
    """What doit is told of an error, which it brings to the reporter whole."""

    def __init__(self, error: BuildError, message: str) -> None:
        super().__init__(message)
        self.error = error


class Reporter(ZeroReporter):  # type: ignore[misc]  # doit has no types
    """What doit tells while it runs; stages print their own lines when they are done."""

    desc = "a line per stage"
    session: ClassVar[Session]
    running: ClassVar[bool] = False
    chosen: ClassVar[tuple[str, ...]] = ()

    def __init__(self, outstream: Any, options: dict[str, Any]) -> None:
        self.failed = False

    @classmethod
    def selected(cls, name: str) -> bool:
        """Whether the user asked for this task by name."""
        return name in cls.chosen

    @classmethod
    def selected_of(cls, names: Sequence[str]) -> bool:
        """Whether the user asked for one of these tasks, or for one stage of them."""
        return any(task.partition(":")[0] in names for task in cls.chosen)

    def initialize(self, tasks: dict[str, Any], selected_tasks: list[str]) -> None:
        """Before the first task."""
        Reporter.running = True
        Reporter.chosen = tuple(selected_tasks)

    def skip_ignore(self, task: Any) -> None:
        """A task that `doit ignore` put aside."""
        self.session.screen.line(f"{task.name}: ignored, as `doit ignore` asked")

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task failed: its message, or the traceback of a bug."""
        if not fail.report or self.failed:
            return
        self.failed = True
        self.session.told.failed(task.name)
        self.session.screen.close()
        self.session.screen.line(f"{task.name}: failed")
        sys.stdout.flush()
        # What is none of these is a bug's traceback.
        error = fail.error if isinstance(fail, Failed) else BuildError("a fault of Strata's own")
        self.session.chronicle.tell(error, task=task.name, log=self.session.log_of(task.name))
        if fail.traceback:
            sys.stderr.write(self.session.mask_if_known("".join(fail.traceback)))
        sys.stderr.write(f"ERROR: {fail.message}\n" if fail.message else "")

    def cleanup_error(self, exception: Any) -> None:
        """Clean-up failed."""
        sys.stderr.write(exception.get_msg() + "\n")

    def runtime_error(self, msg: str) -> None:
        """doit itself failed."""
        sys.stderr.write(f"ERROR: {msg}\n")

    def complete_run(self) -> None:
        """After the last task; what was built is given to shared caches, also if another failed."""
        Reporter.running = False
        if interrupted():  # doit comes here even so, and all has been said
            return
        self.session.chronicle.end(failed=self.failed)
        self.session.exchange.finish()
        self.session.told.rest()
        self.session.screen.close()
