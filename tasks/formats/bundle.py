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
from typing import IO, Any

from ..host import strict

NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}(/(?!\.)[A-Za-z0-9._-]{1,100}){0,4}")
"""Of a file in it: a plain path that leads nowhere else."""

LARGEST = 1 << 46
"""Bytes of a file in it."""

BROKEN = (tarfile.TarError, ValueError, OverflowError, EOFError)
"""What tarfile raises for what is no tar, or one that ends too early."""


def listed(files: Any) -> dict[str, tuple[str, int]]:
    """SHA-256 and size in bytes of each file by its name, as a record has what `write` found.

    strict.Damaged for what leads out of a folder, or is of another form.
    """
    found: dict[str, tuple[str, int]] = {}
    for name, told in strict.mapping(files, "its files").items():
        if not NAME.fullmatch(name):
            raise strict.Damaged(f"its files have no plain name: {name[:80]!r}")
        given = strict.items(told, f"its file {name}")
        if len(given) != 2:
            raise strict.Damaged(f"its file {name}: expected a digest and a size")
        named = dict(zip(("sha256", "size"), given, strict=True))
        what = f"file {name}'s "
        found[name] = (
            strict.text(named, "sha256", strict.SHA256, what),
            strict.number(named, "size", LARGEST, what),
        )
    folders = {name[: at.start()] for name in found for at in re.finditer("/", name)}
    for name in sorted(folders & found.keys()):
        raise strict.Damaged(f"its files have {name} as a file and as a folder")
    return found


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
    """What one of its files holds; strict.Damaged where there is none of this name.

    To read it raises one of BROKEN where the bundle ends before it does.
    """
    try:
        with tarfile.open(fileobj=bundle, mode="r:") as tar:
            for member in tar:
                if member.name == name and member.isreg():
                    found = tar.extractfile(member)
                    assert found is not None
                    return found
    except BROKEN as error:
        raise strict.Damaged(f"the bundle is damaged: {error}") from error
    raise strict.Damaged(f"the bundle has no {name}")


class _Hashed(io.RawIOBase):
    """A file whose SHA-256 is taken as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data
