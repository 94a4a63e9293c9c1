"""An image's version: the spec's text, what git says of the project, or the lock's date."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ..debian.deb822 import seconds
from ..errors import BuildError, printable
from ..spec.model import LAST_EPOCH, Spec
from ..spec.rules import VERSION, check_files
from .lockfile import Lock

FORM = r"[A-Za-z0-9][A-Za-z0-9._~^+-]{0,63}"
"""What os-release(5) takes for IMAGE_VERSION without a riddle, and what a file's name may hold."""


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
    from ..host.git import git

    where = f"{spec.path}: version: git"
    remedy = "commit the project, or give version as a text, or let it be version: date"
    try:
        asked = git(project, "describe", "--tags", "--always", "--dirty")
    except BuildError as error:
        raise error.retold(lambda message: f"{where}: {message}") from error
    if asked.status != 0:
        said = asked.said
        raise BuildError(f"{where}: git cannot describe {project}: {said}", remedy)
    found = asked.out.strip()
    if not re.fullmatch(FORM, found):
        raise BuildError(
            f"{where}: git describes it as {printable(found)!r}, and a version has up to 64 "
            "letters, digits and . _ ~ ^ + -, the first a letter or digit",
            "name the tag so, or give version as a text",
        )
    return found
