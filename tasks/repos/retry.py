"""Trying again what may pass: a server that is busy or away."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from ..debian import answers
from ..errors import BuildError, CommandFailed
from ..host.log import Log
from ..host.process import pause


def timeout() -> int:
    """Seconds without a byte after which a server is given up: STRATA_TIMEOUT, or 30."""
    return _number("STRATA_TIMEOUT", 30)


def retries() -> int:
    """How often a failure that may pass is tried again: STRATA_RETRIES, or 3."""
    return _number("STRATA_RETRIES", 3)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise BuildError(f"{name}={text}: expected a number of up to four digits")
    return int(text)


def patiently(
    work: Callable[[], None], log: Log, where: str, *, tries: int, changing: bool = False
) -> None:
    """Do `work` again, after growing pauses, while apt's complaint may pass: see answers.transient.

    `tries` times at most after the first, after 1, 2, 4 ... seconds; then its last CommandFailed.
    """
    for number in range(tries + 1):
        try:
            return work()
        except CommandFailed as error:
            cause = answers.transient(error.output, changing=changing)
            if not cause or number == tries:
                raise
            seconds = min(2**number, 30)
            log.step(f"{where}: {cause}; trying again in {seconds} s ({number + 1} of {tries})")
            pause(seconds)
