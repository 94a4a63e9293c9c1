"""Files of the project that a spec names and whose bytes go as they are into what is built."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import BuildError
from ..host import safe
from .model import project_of
from .rules import places
from .words import short


def file_size(path: Path, spec: Path, name: str, where: str) -> int:
    """Bytes of a regular file in the project that has any; BuildError, with the field, otherwise.

    `spec` is the file of the spec of this name: the project is the one that it is in. What is
    outside is not read: a commit could name, or link to, what root alone may read.
    """
    try:
        descriptor = safe.inside(path, project_of(spec, name))
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise BuildError(
                f"{where}: {short(str(path))} is no file", "name a file in it"
            ) from error
        # The errors of `safe` say themselves what is not as it should be.
        outside = error.errno == safe.NOT_REGULAR
        hint = "copy it into the project" if outside else places(path, spec)
        told = f"{where}: {short(str(path))} cannot be read: {short(str(error.strerror))}"
        raise BuildError(told, short(hint)) from error
    try:
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if not size:
        raise BuildError(f"{where}: {path} is empty", "write it, or leave the field out")
    return size
