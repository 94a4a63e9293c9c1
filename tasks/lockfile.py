"""The lock: which .debs make an image, as frozen dataclasses and as the text of specs/NAME.lock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.errors import BuildError

FORMAT = 1


@dataclass(frozen=True, kw_only=True, order=True)
class Record:
    """One locked .deb; `size` in bytes, `path` below the URI of the repository of that name."""

    package: str
    version: str
    architecture: str
    sha256: str
    size: int
    path: str
    repository: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What a key sees of it: where the bytes came from is no part of what they are."""
        return self.package, self.version, self.architecture, self.sha256


@dataclass(frozen=True, kw_only=True)
class LockedRepo:
    """A repository as it was: SHA-256 of its InRelease (or Release, or Packages) and its fields."""

    name: str
    release: str
    date: str
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class LockedLayer:
    """What one layer adds and, by name or name:arch, takes away."""

    name: str
    records: tuple[Record, ...]
    removes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole lock; `inputs` is the digest of the spec's fields that it was resolved from."""

    inputs: str
    arch: str
    repos: tuple[LockedRepo, ...]
    base: tuple[Record, ...]
    layers: tuple[LockedLayer, ...]

    def installed(self, layers: int | None = None) -> list[Record]:
        """All packages of the finished image, or after the first `layers` layers, by name."""
        found = {self._slot(record): record for record in self.base}
        for layer in self.layers[:layers]:
            for name in layer.removes:
                package, _, architecture = name.partition(":")
                found.pop((package, architecture or self.arch), None)
            found.update({self._slot(record): record for record in layer.records})
        return sorted(found.values())

    def _slot(self, record: Record) -> tuple[str, str]:
        native = record.architecture in ("all", self.arch)
        return record.package, self.arch if native else record.architecture


def dump(lock: Lock) -> str:
    """The lock's text: JSON with a record a line, so that a version control diff is readable."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def block(values: list[str], indent: str) -> str:
        inner = (",\n" + indent + "  ").join(values)
        return f"[\n{indent}  {inner}\n{indent}]" if values else "[]"

    layers = [
        "{"
        + f'"name": {line(layer.name)}, "removes": {line(list(layer.removes))}, "records": '
        + block([line(asdict(record)) for record in layer.records], "    ")
        + "}"
        for layer in lock.layers
    ]
    return (
        "{\n"
        f'  "format": {FORMAT},\n'
        f'  "inputs": {line(lock.inputs)},\n'
        f'  "arch": {line(lock.arch)},\n'
        f'  "repos": {block([line(asdict(repo)) for repo in lock.repos], "  ")},\n'
        f'  "base": {block([line(asdict(record)) for record in lock.base], "  ")},\n'
        f'  "layers": {block(layers, "  ")}\n'
        "}\n"
    )


_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_ARCHITECTURE = re.compile(r"[a-z0-9-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


def _record(value: Mapping[str, Any], repos: set[str]) -> Record:
    record = Record(**value)
    fits = (
        _PACKAGE.fullmatch(record.package)
        and _VERSION.fullmatch(record.version)
        and _ARCHITECTURE.fullmatch(record.architecture)
        and _SHA256.fullmatch(record.sha256)
        and type(record.size) is int
        and record.size >= 0
        and record.repository in repos
        and re.fullmatch(r"[^\x00-\x1f\x7f'\"<>\\]+", record.path)
        and ".." not in record.path.split("/")
    )
    if not fits:
        raise ValueError(f"the record of {str(record.package)[:80]!r} is malformed")
    return record


def parse(text: str, *, where: str) -> Lock:
    """The lock of a text. Its values go to commands and paths, so each one's form is checked.

    Raises BuildError, naming `where`, for anything that `dump` would not have written.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not {FORMAT}")
        repos = tuple(LockedRepo(**repo) for repo in document["repos"])
        for repo in repos:
            texts = (repo.name, repo.date, *repo.fields, *repo.fields.values())
            if not _SHA256.fullmatch(repo.release) or not all(map(_LINE.fullmatch, texts)):
                raise ValueError(f"the repository {str(repo.name)[:80]!r} is malformed")
        names = {repo.name for repo in repos}
        layers = tuple(
            LockedLayer(
                name=str(layer["name"]),
                records=tuple(_record(record, names) for record in layer["records"]),
                removes=tuple(layer["removes"]),
            )
            for layer in document["layers"]
        )
        for layer in layers:
            for name in layer.removes:
                if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?", name):
                    raise ValueError(f"layer {layer.name!r} removes {str(name)[:80]!r}")
        return Lock(
            inputs=str(document["inputs"]),
            arch=str(document["arch"]),
            repos=repos,
            base=tuple(_record(record, names) for record in document["base"]),
            layers=layers,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BuildError(
            f"{where}: not a lock that Strata wrote: {reason}",
            "restore it from version control, or delete it and build with lock=latest",
        ) from error


def digest(text: str) -> str:
    """SHA-256 of a lock's text: build.json's `lock`."""
    return hashlib.sha256(text.encode()).hexdigest()
