"""A project's own .debs: which files `debs` of a layer names, and what each is.

What a .deb says of itself is checked as a lock's records are: it goes to apt, to paths and to dpkg.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import BuildError
from ..host import safe
from ..spec.model import Layer, Spec, project_of
from ..spec.words import short
from .deb import checked, control_fields, control_members
from .lockfile import OWN, PATH, Lock, Record

FILES_LIMIT = 1000
"""Of a layer: a pattern that takes in more is none of packages."""


@dataclass(frozen=True, kw_only=True)
class OwnDeb:
    """One .deb of the project; `stanza` is what apt goes by, `source` the file that is read."""

    record: Record
    stanza: str
    source: Path
    gone: bool = False
    """The project has it no more: `source` is the cache's."""


Own = Mapping[str, tuple[OwnDeb, ...]]
"""By the name of the layer that they are given in; layers without any are left out."""


@dataclass(kw_only=True)
class Project:
    """Where a spec's .debs are: in its project, or, of those that are gone, in the cache.

    `cached` gives the file of a SHA-256 if the cache has it. A file is read once.
    """

    spec: Spec
    cached: Callable[[str], Path | None]
    read: dict[Path, OwnDeb] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that specs/ is in."""
        return self.folders[-1]

    @property
    def folders(self) -> list[Path]:
        """Where paths are looked for: beside the spec, in specs/, in the project."""
        path = self.spec.path
        project = project_of(path, self.spec.name)
        specs = path.parents[self.spec.name.count("/")]
        return list(dict.fromkeys([path.parent, specs, project]))

    def own(self, lock: Lock | None) -> Own:
        """What each layer has; BuildError for a path that names nothing, or no .deb.

        Of files that are gone since they were locked, the cache may have the bytes.
        """
        found = {}
        for layer in self.spec.layers:
            if layer.debs:
                found[layer.name] = self._of_layer(layer, lock)
        return found

    def _of_layer(self, layer: Layer, lock: Lock | None) -> tuple[OwnDeb, ...]:
        where = self.where(layer)
        by_digest: dict[str, OwnDeb] = {}
        for pattern in layer.debs:
            matches = self._matching(pattern)
            debs = [self._read(path, path, where) for path in matches]
            debs = debs or self._gone(pattern, layer, lock, where)
            if not debs:
                raise self._nothing(pattern, where)
            for one in debs:
                by_digest.setdefault(one.record.sha256, one)
        if len(by_digest) > FILES_LIMIT:
            raise BuildError(f"{where}: more than {FILES_LIMIT} files", "name fewer")
        by_slot: dict[tuple[str, str], OwnDeb] = {}
        for one in by_digest.values():
            slot = one.record.package, one.record.native(self.spec.arch)
            other = by_slot.setdefault(slot, one)
            if other is not one:
                raise BuildError(
                    f"{where}: {other.record.path} ({other.record.version}) and "
                    f"{one.record.path} ({one.record.version}) are both {one.record.package}",
                    "remove one of them, or name the one that is meant: a pattern takes in both",
                )
        return tuple(sorted(by_digest.values(), key=lambda one: one.record))

    def where(self, layer: Layer) -> str:
        """The field, as a message names it."""
        above = layer.name == "packages" and layer is self.spec.layers[0]
        return f"{self.spec.path}: " + ("debs" if above else f"layers.{layer.name}.debs")

    def _matching(self, pattern: str) -> list[Path]:
        """The files that a path or pattern names, in the first folder that has any."""
        for folder in self.folders:
            if os.path.lexists(folder / pattern):
                return [folder / pattern]
            names = sorted(glob.glob(pattern, root_dir=folder)) if glob.has_magic(pattern) else []
            if names:
                return [folder / name for name in names[: FILES_LIMIT + 1]]
        return []

    def _nothing(self, pattern: str, where: str) -> BuildError:
        named = "matches no file" if glob.has_magic(pattern) else "is missing"
        places = " and ".join(f"{folder}/" for folder in self.folders)
        return BuildError(
            f"{where}: {_shown(pattern)} {named}",
            f"paths are relative to {places}: build the packages first, or correct the path",
        )

    def _gone(self, pattern: str, layer: Layer, lock: Lock | None, where: str) -> list[OwnDeb]:
        """What the lock has for a pattern that names nothing any more, if the cache has it all."""
        layers = [one for one in lock.layers if one.name == layer.name] if lock else []
        meant = {os.path.relpath(folder / pattern, self.root) for folder in self.folders}
        debs = []
        for record in (record for one in layers for record in one.records):
            if record.repository == OWN and any(_names(one, record.path) for one in meant):
                source = self.cached(record.sha256)
                if source is None:
                    return []
                one = self._read(source, self.root / record.path, where)
                debs.append(replace(one, gone=True))
        return debs

    def _read(self, source: Path, path: Path, where: str) -> OwnDeb:
        """A .deb as a record and a stanza; `path` is where it is, or was, in the project."""
        if source not in self.read:
            self.read[source] = self._read_now(source, path, where)
        return self.read[source]

    def _read_now(self, source: Path, path: Path, where: str) -> OwnDeb:
        place = os.path.relpath(path, self.root)
        if not PATH.fullmatch(place) or not place.isprintable():
            raise BuildError(
                f"{where}: {_shown(place)!r} is no path that a lock can name",
                "it must be below the project, in UTF-8, without quotes, < > and \\ in it",
            )
        try:
            own = source == path
            with open(safe.inside(path, self.root) if own else safe.reading(source), "rb") as file:
                raw = control_members(file, ["control"], whole=True)
                if "control" not in raw:
                    raise ValueError("no control file in it")
                fields = checked(control_fields(raw["control"]))
                file.seek(0)
                sha256, size = _digest(file)
        except OSError as error:
            raise BuildError(f"{where}: {_shown(path)} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise BuildError(
                f"{where}: {_shown(path)} is no .deb that can be used: {error}",
                "expected what dpkg-deb(1) builds",
            ) from error
        arches = (self.spec.arch, *self.spec.foreign)
        if fields["Architecture"] not in (*arches, "all"):
            raise BuildError(
                f"{where}: {_shown(path)} is of the architecture {fields['Architecture']}, and the "
                f"image of {' and '.join(arches)}",
                f"build it for {self.spec.arch}, or give the one that is",
            )
        record = Record(
            package=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            sha256=sha256,
            size=size,
            path=place,
            repository=OWN,
        )
        stanza = "".join(f"{name}: {value}\n" for name, value in fields.items())
        stanza += f"Maintainer: none\nSize: {size}\nSHA256: {sha256}"
        return OwnDeb(record=record, stanza=stanza, source=source)


def _shown(name: object) -> str:
    """A path as a message has it: a file of the project may be called anything."""
    return short("".join(sign if sign.isprintable() else "?" for sign in str(name)))


def _digest(file: BinaryIO) -> tuple[str, int]:
    """(SHA-256, size) of the rest of an open file."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _names(pattern: str, path: str) -> bool:
    parts = PurePosixPath(path)
    return len(parts.parts) == len(PurePosixPath(pattern).parts) and parts.match(pattern)


def digests(own: Own) -> dict[str, list[str]]:
    """What a lock depends on of them: another file of the same bytes is the same."""
    return {name: sorted(one.record.sha256 for one in debs) for name, debs in own.items()}


def changed(own: Own, lock: Lock) -> list[str]:
    """A sentence for each .deb that a lock does not have."""
    records = [one for layer in lock.layers for one in layer.records if one.repository == OWN]
    was, paths = {one.sha256 for one in records}, {one.path for one in records}
    new = {one.record for debs in own.values() for one in debs if one.record.sha256 not in was}
    return [
        f"{one.path} {'has other bytes' if one.path in paths else 'is new'}" for one in sorted(new)
    ]


def sources(own: Own) -> dict[str, Path]:
    """The project's file of each SHA-256, of those that it still has."""
    all_: Sequence[OwnDeb] = [one for debs in own.values() for one in debs]
    return {one.record.sha256: one.source for one in all_ if not one.gone}
