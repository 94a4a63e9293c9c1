"""Trying again what may pass: a server that is busy or away."""

from __future__ import annotations

from collections.abc import Callable

from ..debian import answers
from ..errors import CommandFailed
from ..host.log import Log
from ..host.process import pause


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
