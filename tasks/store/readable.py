"""Whether a user who may not be root can read what the cache has."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import BuildError
from ..host import safe


def need_readable(path: Path, shown: str) -> None:
    """BuildError unless this user may read an entry's file, which they know as `shown`."""
    try:
        os.close(safe.reading(path))
    except PermissionError as error:
        raise BuildError(
            f"{shown}: cannot be read: {error.strerror}",
            "its tree has files that are not for everybody: run the same command with sudo",
        ) from error
