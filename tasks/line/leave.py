"""The end of a process, which need not be taken apart: all that it has goes with it.

Python destroys each module and object one by one, a tenth of what a build with nothing to do takes.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def exit_with(work: Callable[[], int]) -> NoReturn:
    """Exit with the status that `work` returns, once threads and exit handlers of it have ended.

    SystemExit and errors of `work` end the process as they always do.
    """
    status: list[int] = []
    # The handlers that come later are done before this one, and threads are waited for before all.
    atexit.register(_leave, status)
    status.append(work())
    sys.exit(status[0])


def _leave(status: list[int]) -> None:
    """Out, if what was wanted is done and told."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (AttributeError, OSError, ValueError):
        return  # closed, or nobody reads: Python says it in its own way
    if status:
        os._exit(status[0] & 0xFF)
