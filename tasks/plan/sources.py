"""Files of the project that partitions hold as they are."""

from __future__ import annotations

import os
from typing import Any

from ..errors import BuildError
from ..host import safe
from ..host.files import digest_of
from ..spec.model import Spec, project_of


def source_digests(spec: Spec) -> dict[str, dict[str, list[Any]]]:
    """SHA-256 and size in bytes of each, by disk and partition.

    BuildError for one that cannot be read, or that a link leads to from outside of the project.
    """
    root = project_of(spec.path, spec.name)
    found: dict[str, dict[str, list[Any]]] = {}
    for disk in spec.disks:
        for part in disk.partitions:
            if part.source is None:
                continue
            try:
                with open(safe.inside(part.source, root), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    digest = digest_of(file)
            except OSError as error:
                raise BuildError(
                    f"{spec.path}: disks.{disk.name}.partitions.{part.name}.source: {part.source} "
                    f"cannot be read: {error.strerror}",
                    "a file of the project",
                ) from error
            found.setdefault(disk.name, {})[part.name] = [digest, size]
    return found
