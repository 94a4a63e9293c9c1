"""A bundle: the files of a folder that is published, as one uncompressed tar of plain files.

Its bytes depend on names and contents alone. What is read of one is not believed: it may have come
from a shared cache.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ..errors import BuildError

NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}(/(?!\.)[A-Za-z0-9._-]{1,100}){0,4}")
"""Of a file in it: a plain path that leads nowhere else."""


def write(target: Path, files: Mapping[str, bytes | Path]) -> dict[str, list[str | int]]:
    """Write a bundle of these files; by name SHA-256 and size in bytes of each."""
    found: dict[str, list[str | int]] = {}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sorted(files.items()):
            assert NAME.fullmatch(name), name
            member = tarfile.TarInfo(name)
            if isinstance(source, bytes):
                member.size = len(source)
                tar.addfile(member, io.BytesIO(source))
                digest = hashlib.sha256(source).hexdigest()
            else:
                member.size = source.stat().st_size
                with source.open("rb") as file:
                    reader = _Hashed(file)
                    tar.addfile(member, reader)
                digest = reader.digest.hexdigest()
            found[name] = [digest, member.size]
    return found


def reader(bundle: IO[bytes], name: str) -> IO[bytes]:
    """What one of its files holds; BuildError where there is none of this name."""
    try:
        with tarfile.open(fileobj=bundle, mode="r:") as tar:
            for member in tar:
                if member.name == name and member.isreg():
                    found = tar.extractfile(member)
                    assert found is not None
                    return found
    except tarfile.TarError as error:
        raise BuildError(f"a bundle is damaged: {error}", "run the same command again") from error
    raise BuildError(f"a bundle has no {name}", "run the same command again")


class _Hashed(io.RawIOBase):
    """A file whose SHA-256 is taken as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data
