"""An image's version: the spec's text, what git says of the project, or the lock's date."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ..debian.deb822 import seconds
from ..errors import BuildError, printable
from ..host.process import capture
from ..host.tools import tool
from ..spec.model import LAST_EPOCH, Spec
from ..spec.rules import VERSION, check_files
from .lockfile import Lock

FORM = r"[A-Za-z0-9][A-Za-z0-9._~^+-]{0,63}"
"""What os-release(5) takes for IMAGE_VERSION without a riddle, and what a file's name may hold."""

GIT_ENV = {
    # No configuration but the project's own: neither the caller's nor the host's.
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    # Nothing is written: git would refresh its index.
    "GIT_OPTIONAL_LOCKS": "0",
}

GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
       "describe", "--tags", "--always", "--dirty")  # fmt: skip


def image_version(spec: Spec, lock: Lock, project: Path) -> str:
    """The version, "" for a spec without one; BuildError where there is nothing to make it of."""
    said = spec.settings.version
    if said == "git":
        return git_version(spec, project)
    if said == "date":
        return _date(spec, lock)
    return said


def published_files(spec: Spec, version: str) -> list[str]:
    """The images' files by their names; BuildError where a version makes two of them one."""
    found = [image.file.replace(VERSION, version) for image in spec.images]
    if any(VERSION in image.file for image in spec.images):
        check_files(spec, found)
    return found


def _date(spec: Spec, lock: Lock) -> str:
    """The newest Date of the locked repositories, in UTC: of the lock, not of the clock."""
    dates = [date for repo in lock.repos if (date := seconds(repo.date)) is not None]
    if not dates:
        raise BuildError(
            f"{spec.path}: version: date: no repository of the lock has a Date",
            "give version as a text, or let the repository's Release have one",
        )
    return time.strftime("%Y%m%d", time.gmtime(min(max(dates), LAST_EPOCH)))


# ---------------------------------------------------------------- git


def git_version(spec: Spec, project: Path) -> str:
    """What git describes the project as; BuildError where it does not, with its own words."""
    where = f"{spec.path}: version: git"
    remedy = "commit the project, or give version as a text, or let it be version: date"
    try:
        tool("git")
    except BuildError as error:
        raise error.retold(lambda message: f"{where}: {message}") from error
    status, out, err = capture([*_as_owner(project), *GIT], env=GIT_ENV, cwd=project)
    if status != 0:
        # Below a mount point, git says after what is wrong where it stopped to look.
        lines = err.strip().splitlines() or [f"exit status {status}"]
        said = printable(next((line for line in lines if line.startswith("fatal: ")), lines[-1]))
        raise BuildError(f"{where}: git cannot describe {project}: {said}", remedy)
    found = out.strip()
    if not re.fullmatch(FORM, found):
        raise BuildError(
            f"{where}: git describes it as {printable(found)!r}, and a version has up to 64 "
            "letters, digits and . _ ~ ^ + -, the first a letter or digit",
            "name the tag so, or give version as a text",
        )
    return found


def _as_owner(project: Path) -> Sequence[str]:
    """What lets root run git as the project's owner.

    What a project's own .git/config names (filters, say) git runs: who wrote that runs it. And git
    takes no project of somebody else's.
    """
    info = project.stat()
    if os.geteuid() != 0 or info.st_uid == 0:
        return ()
    return ("setpriv", f"--reuid={info.st_uid}", f"--regid={info.st_gid}", "--clear-groups", "--")
