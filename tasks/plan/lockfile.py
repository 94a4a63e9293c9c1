"""The lock: which .debs make an image, as frozen dataclasses and as the text of specs/NAME.lock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import BuildError
from ..host import strict
from ..spec.model import SETTINGS

FORMAT = 2
"""2 has `manual`. A lock of format 1 is read, and fits no spec: see plan.resolution_inputs."""


SCAN = 2
"""Version of tasks.reads, which finds what they look at: a lock made with another is stale."""


RESTORE = "restore it from version control, or delete it and build with lock=latest"


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

    def native(self, arch: str) -> str:
        """Its architecture once it is installed in an image of `arch`, which `all` is of, too."""
        return arch if self.architecture == "all" else self.architecture


@dataclass(frozen=True, kw_only=True)
class LockedRepo:
    """A repository as it was: SHA-256 of its InRelease (or Release, or Packages) and its fields."""

    name: str
    release: str
    date: str
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class LockedLayer:
    """What one layer adds and, by name or name:arch, takes away.

    `manual` are the packages, by name or name:arch, that apt took for what the layer asks for,
    whether they came with it or were there before.
    """

    name: str
    records: tuple[Record, ...]
    removes: tuple[str, ...]
    manual: tuple[str, ...] = ()
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings that its packages' scripts may look at, with the names of these packages."""
    reproducible: bool = True
    """False where a script of it sees the network: the lock does not say what comes of that."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole lock; `inputs` is the digest of the spec's fields that it was resolved from.

    `manual` is of the base what LockedLayer.manual is of a layer; `form` is that of the text.
    `scan` is the SCAN by which the layers' `reads` were found, 0 if none was. `kept`: lock=keep
    made it, so its versions may be older than the ones that its repositories had.
    """

    inputs: str
    scan: int = 0
    arch: str
    repos: tuple[LockedRepo, ...]
    base: tuple[Record, ...]
    layers: tuple[LockedLayer, ...]
    manual: tuple[str, ...] = ()
    form: int = FORMAT
    kept: bool = False

    def installed(self, layers: int | None = None) -> list[Record]:
        """All packages of the finished image, or after the first `layers` layers, by name."""
        found = {self.slot(record): record for record in self.base}
        for layer in self.layers[:layers]:
            for name in layer.removes:
                found.pop(slot(name, self.arch), None)
            found.update({self.slot(record): record for record in layer.records})
        return sorted(found.values())

    def slot(self, record: Record) -> tuple[str, str]:
        """Package and architecture: of what has the same ones, only one can be installed."""
        return record.package, record.native(self.arch)

    def marks(self, layer: int | None) -> tuple[list[str], list[str]]:
        """(auto, manual): the marks that a layer, or the base (None), sets, as name:arch.

        As apt's: what was asked for is manual, also if it was there before; what comes only because
        something needs or recommends it is auto; a package that is upgraded keeps its mark.
        """
        records = self.base if layer is None else self.layers[layer].records
        asked = self.manual if layer is None else self.layers[layer].manual
        manual = {slot(name, self.arch) for name in asked}
        came = {self.slot(record) for record in records}
        if layer is not None:
            came -= {self.slot(record) for record in self.installed(layer)}
        return _names(came - manual), _names(manual)


def state(lock: Lock | None) -> str:
    """What a lock is that does not fit its spec."""
    if lock is None:
        return "missing"
    return "older than the spec" if lock.form == FORMAT else "of an older version of Strata"


def slot(name: str, arch: str) -> tuple[str, str]:
    """(package, architecture) of a name or name:arch; `arch` is the image's own."""
    package, _, architecture = name.partition(":")
    return package, architecture or arch


def short_name(package: str, architecture: str, arch: str) -> str:
    """A package by its name, or name:arch where it is not of the image's own architecture."""
    return package if architecture in ("all", arch) else f"{package}:{architecture}"


def _names(slots: Iterable[tuple[str, str]]) -> list[str]:
    return sorted(f"{package}:{architecture}" for package, architecture in slots)


def dump(lock: Lock) -> str:
    """The lock's text: JSON with a record a line, so that a version control diff is readable."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def block(values: list[str], indent: str) -> str:
        inner = (",\n" + indent + "  ").join(values)
        return f"[\n{indent}  {inner}\n{indent}]" if values else "[]"

    layers = [
        "{"
        + f'"name": {line(layer.name)}, "removes": {line(list(layer.removes))}, "manual": '
        + block([line(name) for name in layer.manual], "    ")
        + (
            f', "reads": {line({name: list(layer.reads[name]) for name in sorted(layer.reads)})}'
            if lock.scan
            else ""
        )
        + ("" if layer.reproducible else ', "reproducible": false')
        + ', "records": '
        + block([line(asdict(record)) for record in layer.records], "    ")
        + "}"
        for layer in lock.layers
    ]
    return (
        "{\n"
        f'  "format": {FORMAT},\n'
        f'  "inputs": {line(lock.inputs)},\n'
        f'  "arch": {line(lock.arch)},\n'
        + ('  "kept": true,\n' if lock.kept else "")
        + (f'  "scan": {lock.scan},\n' if lock.scan else "")
        + f'  "repos": {block([line(asdict(repo)) for repo in lock.repos], "  ")},\n'
        f'  "manual": {block([line(name) for name in lock.manual], "  ")},\n'
        f'  "base": {block([line(asdict(record)) for record in lock.base], "  ")},\n'
        f'  "layers": {block(layers, "  ")}\n'
        "}\n"
    )


_PACKAGE = r"[a-z0-9][a-z0-9+.-]*"

_QUALIFIED = f"{_PACKAGE}(:[a-z0-9-]+)?"

_SHA256 = strict.SHA256

_LINE = r"[^\x00-\x08\x0a-\x1f\x7f]*"

_FORMS = {
    "package": _PACKAGE,
    "version": r"[A-Za-z0-9.+:~-]+",
    "architecture": r"[a-z0-9-]+",
    "sha256": _SHA256,
    "path": r"(?!(.*/)?\.\.(/|$))[^\x00-\x1f\x7f'\"<>\\]+",
}


def _text(value: Any, form: str, what: str) -> str:
    """value if it is a text of this form; a ValueError that says what it is instead."""
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise ValueError(f"{what} is malformed: {str(value)[:80]!r}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is malformed: expected a list")
    return value


def record_of(value: Mapping[str, Any], repos: set[str]) -> Record:
    """A record of its JSON; ValueError or TypeError for what `dump` would not have written."""
    record = Record(**value)
    what = f"of the record of {str(record.package)[:80]!r} the"
    for name, form in _FORMS.items():
        _text(getattr(record, name), form, f"{what} {name}")
    if type(record.size) is not int or not 0 <= record.size < 1 << 40:
        raise ValueError(f"{what} size is malformed: {str(record.size)[:80]!r}")
    if record.repository not in repos:
        raise ValueError(
            f"{what} repository is malformed: there is no {str(record.repository)[:80]!r}"
        )
    return record


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError(f"{what} is malformed: {str(value)[:80]!r}")
    return value


def _truth(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{what} is malformed: {str(value)[:80]!r}")
    return value


def _repo(value: Mapping[str, Any]) -> LockedRepo:
    repo = LockedRepo(**value)
    what = f"of the repository {str(repo.name)[:80]!r} the"
    _text(repo.release, _SHA256, f"{what} release")
    _text(repo.name, _LINE, f"{what} name")
    _text(repo.date, _LINE, f"{what} date")
    if not isinstance(repo.fields, dict):
        raise ValueError(f"{what} fields are malformed: expected a mapping")
    for name, text in repo.fields.items():
        _text(name, _LINE, f"{what} name of a field")
        _text(text, _LINE, f"{what} field {name[:80]!r}")
    return repo


def _names_of(value: Any, what: str) -> tuple[str, ...]:
    """A list of packages, each by name or name:arch."""
    return tuple(_text(one, _QUALIFIED, what) for one in _list(value, what))


def _layer(value: Mapping[str, Any], repos: set[str], manual: bool) -> LockedLayer:
    name = _text(value["name"], r"[A-Za-z0-9][A-Za-z0-9+._-]*", "the name of a layer")
    return LockedLayer(
        name=name,
        records=tuple(record_of(one, repos) for one in _list(value["records"], f"layer {name!r}")),
        removes=_names_of(value["removes"], f"what layer {name!r} removes"),
        manual=_names_of(value["manual"], f"manual of layer {name!r}") if manual else (),
        reads=_reads(value.get("reads", {}), f"layer {name!r} reads"),
        reproducible=_truth(value.get("reproducible", True), f"reproducible of layer {name!r}"),
    )


def _reads(value: Any, what: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is malformed: expected a mapping")
    return {
        _text(name, "|".join(SETTINGS), what): tuple(
            _text(one, _PACKAGE, f"{what} {name}") for one in _list(packages, what)
        )
        for name, packages in value.items()
    }


def parse(text: str, *, where: str) -> Lock:
    """The lock of a text. Its values go to commands and paths, so each one's form is checked.

    Raises BuildError, naming `where`, for anything that `dump` would not have written.
    """
    try:
        document = strict.parse(text)
        form = document["format"]
        if type(form) is not int or form not in (1, FORMAT):
            raise ValueError(f"format {form!r} is not {FORMAT}")
        manual = form != 1
        repos = tuple(_repo(repo) for repo in _list(document["repos"], "repos"))
        names = {repo.name for repo in repos}
        _once([repo.name for repo in repos], "the repository")
        lock = Lock(
            inputs=_text(document["inputs"], r"[0-9a-f]{32}", "inputs"),
            arch=_text(document["arch"], _FORMS["architecture"], "arch"),
            scan=_number(document.get("scan", 0), "scan"),
            repos=repos,
            base=tuple(record_of(record, names) for record in _list(document["base"], "base")),
            layers=tuple(_layer(one, names, manual) for one in _list(document["layers"], "layers")),
            manual=_names_of(document["manual"], "manual") if manual else (),
            form=form,
            kept=_truth(document.get("kept", False), "kept"),
        )
        _once([layer.name for layer in lock.layers], "the layer")
        groups = [("base", lock.base), *((layer.name, layer.records) for layer in lock.layers)]
        for name, records in groups:
            _once([":".join(lock.slot(one)) for one in records], f"of {name!r} the package")
        there: set[tuple[str, str]] = set()
        bottom = LockedLayer(name="base", records=lock.base, removes=(), manual=lock.manual)
        for one in (bottom, *lock.layers):  # as Lock.installed, of each layer in one pass
            there -= {slot(name, lock.arch) for name in one.removes}
            there |= {lock.slot(record) for record in one.records}
            lost = [name for name in one.manual if slot(name, lock.arch) not in there]
            if lost:
                raise ValueError(f"manual has {lost[0]!r}, which is not installed there")
        return lock
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BuildError(f"{where}: not a lock that Strata wrote: {reason}", RESTORE) from error


def answer_of(adds: Any, removes: Any, repos: set[str]) -> tuple[list[Record], list[str]]:
    """What apt answered, of its JSON; ValueError or TypeError for what is none."""
    records = [record_of(one, repos) for one in _list(adds, "adds")]
    names = list(_names_of(removes, "what is removed"))
    _once([f"{record.package}:{record.architecture}" for record in records], "the package")
    return records, names


def _once(names: list[str], what: str) -> None:
    """ValueError for a name that stands twice: one of the two would be taken in silence."""
    if (name := strict.twice(names)) is not None:
        raise ValueError(f"{what} {name[:80]!r} stands twice")


def digest(text: str) -> str:
    """SHA-256 of a lock's text: build.json's `lock`."""
    return hashlib.sha256(text.encode()).hexdigest()
