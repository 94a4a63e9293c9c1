"""Tasks and actions as doit takes them: an error for people fails a task, a bug keeps its trace."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from doit.exceptions import TaskError

from ..errors import BuildError
from ..host import space
from .reporter import Failed, Reporter

Task = dict[str, Any]


def action(work: Callable[[], Any]) -> Callable[[], Any]:
    """work as a doit action: a BuildError becomes a failed task, a bug keeps its traceback.

    work may return False where it is done and has said all, and the exit status is to be 2.
    """

    @functools.wraps(work)
    def run() -> Any:
        try:
            done = work()
        except BuildError as error:
            return _failed(error)
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            return _failed(Reporter.session.explained(error, "writing"))
        except UnicodeEncodeError as error:
            return _failed(_unwritable(error))
        return TaskError("", report=False) if done is False else True

    return run


def _failed(error: BuildError) -> Failed:
    return Failed(error, Reporter.session.mask_if_known(str(error)))


def _unwritable(error: UnicodeEncodeError) -> BuildError:
    """The error of a name that the locale's encoding lacks."""
    return BuildError(
        f"{error.object[max(error.start - 40, 0) : error.end + 40]!a}: this cannot be written "
        f"as {error.encoding}",
        "set LC_ALL=C.UTF-8, or PYTHONUTF8=1",
    )
