"""A person where a stage fails: what is said before, and what they are given."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..host import terminal
from ..host.log import Log, last_lines
from ..host.visit import SHELLS, Visit

if TYPE_CHECKING:
    from ..plan.stage import Stage
    from .session import Session

SETTLE = 0.2
"""Seconds in which what a stage said last has come to its log."""


def programs(session: Session) -> Sequence[Sequence[str]]:
    """What is run: `command=` by a shell, or one that a person types to."""
    command = session.variables.get("command", "")
    return [("/bin/sh", "-c", command)] if command else SHELLS


def prompt(session: Session, name: str) -> Mapping[str, str]:
    """What tells a person in a shell that it is none of the host's: Debian's bash shows it."""
    where = f"{session.name}:{name}"
    return {"debian_chroot": where, "PS1": f"({where}) \\w# "}


def where_failed(session: Session, stage: Stage, log: Log) -> Visit | None:
    """What is given where a stage fails; None where nobody asks for it, or nobody sits there."""
    asked = "shell_on_failure" in session.variables and terminal.both()
    if not (session.visiting or asked):
        return None

    def told(status: int) -> None:
        session.screen.moving("")
        time.sleep(SETTLE)
        lines = last_lines(list(log.tail))
        say(f"{stage.title} failed (exit status {status})" + (f":\n{lines}" if lines else ""))
        if log.path:
            say(f"  the whole output is in {log.path}")
        if not session.variables.get("command"):
            say(f"a shell in it, as the failure left it; {terminal.LEAVE}")
            say("what is changed there is thrown away, and the stage stays failed")

    visit = Visit(
        programs=programs(session), env=prompt(session, stage.name), failed=True, told=told
    )
    session.visit = visit
    return visit


def say(text: str) -> None:
    """A line for a person, apart from what a program prints."""
    print(text, file=sys.stderr, flush=True)
