"""git, asked of a project: it reads, writes nothing, and goes by no configuration but its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import printable
from .process import capture
from .tools import tool

ENV = {
    # No configuration but the project's own: neither the caller's nor the host's.
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    # Nothing is written: git would refresh its index.
    "GIT_OPTIONAL_LOCKS": "0",
}

GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What git ended with; `said` is what it says of a failure, in a line."""

    status: int
    out: str
    said: str


def git(project: Path, *words: str) -> Answer:
    """Run git in a folder; BuildError where the host has none."""
    tool("git")
    status, out, err = capture([*_as_owner(project), *GIT, *words], env=ENV, cwd=project)
    # Below a mount point, git says after what is wrong where it stopped to look.
    lines = err.strip().splitlines() or [f"exit status {status}"]
    said = next((line for line in lines if line.startswith("fatal: ")), lines[-1])
    return Answer(status=status, out=out, said=printable(said))


def _as_owner(project: Path) -> Sequence[str]:
    """What lets root run git as the project's owner.

    What a project's own .git/config names (filters, say) git runs: who wrote that runs it. And git
    takes no project of somebody else's.
    """
    info = project.stat()
    if os.geteuid() != 0 or info.st_uid == 0:
        return ()
    return ("setpriv", f"--reuid={info.st_uid}", f"--regid={info.st_gid}", "--clear-groups", "--")
