"""Entries of the cache that a command reads as a user who may not be root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import safe

if TYPE_CHECKING:
    from ..store.record import Entry
    from .session import Session


def need_readable(session: Session, entry: Entry) -> None:
    """BuildError unless this user may read an entry's file."""
    try:
        os.close(safe.reading(entry.path))
    except PermissionError as error:
        raise BuildError(
            f"{session.shown(entry.path)}: cannot be read: {error.strerror}",
            "its tree has files that are not for everybody: run the same command with sudo",
        ) from error
