"""What a bill of materials says, before it is in one of its two forms: packages and files.

All of it comes of the lock and of what the locked packages brought into the tree, so the same lock
has the same bill, wherever and whenever it is made. Pure.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..debian.deb822 import seconds
from ..errors import printable
from ..plan.keys import checksum
from ..plan.lockfile import OWN, Lock, Record
from ..plan.stage import Plan
from ..rootfs.inventory import Inventory, Sums
from ..spec.model import LAST_EPOCH, Spec

NAMESPACE = uuid.UUID("6b1f0b0c-5f0b-5d6e-9c1e-3d6d6a0f7a53")
"""Of the serial numbers that are made here (RFC 9562, version 5); drawn once."""

FILES = {"cdx": "sbom.cdx.json", "spdx": "sbom.spdx.json"}
"""What the two forms are called in out/NAME/."""

LONGEST = 500
"""Characters of a text that a package says of itself."""

_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~!$&'()*+,;=:@%/?#-]*)?")

_PERSON = re.compile(r"\s*(.*?)\s*<([^<>\s]+@[^<>\s]+)>\s*")

_RELATION = re.compile(r"\s*([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?\s*(?:[(\[<]|$)")

_SOURCE = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:\s+\(([A-Za-z0-9.+:~-]+)\))?")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One package of an image."""

    ref: str
    """What it is called in the bill: NAME, or NAME:ARCHITECTURE of a foreign one."""
    name: str
    version: str
    architecture: str
    sha256: str
    file: str
    purl: str
    supplier: str
    """The Origin of the repository that it comes from, "" of the project's own."""
    source: str
    source_version: str
    maintainer: tuple[str, str]
    """Name and address, both "" where the tree does not tell."""
    homepage: str
    summary: str
    licences: tuple[str, ...]
    """Expressions of SPDX that hold for parts of it; () where its copyright file is for people."""
    layer: str
    repository: str
    depends: tuple[str, ...]
    """The refs of those that satisfy its dependencies here."""


@dataclass(frozen=True, kw_only=True)
class Bill:
    """All of one image's tree; `epoch` is its date, in seconds."""

    name: str
    version: str
    arch: str
    distribution: str
    release: str
    codename: str
    epoch: int
    lock: str
    parts: tuple[Part, ...]
    own: Mapping[str, Sums]
    """Files that the spec itself gives, by their path in the tree."""
    files: Mapping[str, Sums]
    """All others, where the spec asks for them."""

    @property
    def serial(self) -> uuid.UUID:
        """Drawn of what it says: another bill has another one."""
        return uuid.uuid5(NAMESPACE, checksum(_plain(self)))


def _plain(bill: Bill) -> dict[str, Any]:
    found = asdict(bill)
    return {**found, "parts": [list(one.values()) for one in found["parts"]]}


def bill_of(spec: Spec, plan: Plan, lock: str, found: Inventory, override: int | None) -> Bill:
    """The bill of a spec's tree; `lock` is the digest of the lock's text."""
    first = plan.lock.repos[0].fields
    targets = own_files(plan)
    return Bill(
        name=spec.name,
        # A bill of one lock is one version of it, where the spec has no other.
        version=plan.version or lock[:12],
        arch=spec.arch,
        distribution=printable(first.get("Origin", "")),
        release=printable(first.get("Version", "")),
        codename=codename(plan.lock),
        epoch=dated(plan.lock) if override is None else override,
        lock=lock,
        parts=tuple(_parts(plan.lock, found)),
        own={path: one for path, one in found.files.items() if path in targets},
        files={path: one for path, one in found.files.items() if path not in targets},
    )


def own_files(plan: Plan) -> set[str]:
    """Where the spec's own files are in the tree."""
    found: set[str] = set()
    for stage in plan.layers:
        for target, kind, *_rest in stage.inputs.get("files", ()):
            if kind == "file":
                # Of a merged /usr: a tarball has what is in /bin below /usr.
                found |= {target, f"/usr{target}"}
    return found


def dated(lock: Lock) -> int:
    """The newest Date of the locked repositories, in seconds; 0 where none has one."""
    dates = [date for repo in lock.repos if (date := seconds(repo.date)) is not None]
    return min(max(dates, default=0), LAST_EPOCH)


def moment(epoch: int) -> str:
    """Seconds as both forms write a date."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def codename(lock: Lock, repository: str = "") -> str:
    """The release that a repository is of, without what stands after it: bookworm-security."""
    by_name = {repo.name: repo.fields for repo in lock.repos}
    for fields in (by_name.get(repository, {}), lock.repos[0].fields):
        if name := fields.get("Codename") or fields.get("Suite"):
            return re.split(r"[-/]", name)[0]
    return ""


# ---------------------------------------------------------------- packages


def _parts(lock: Lock, found: Inventory) -> Iterator[Part]:
    layers = {record: layer.name for layer in lock.layers for record in layer.records}
    records = lock.installed()
    satisfied = _Satisfied(lock, records, found)
    origins = {repo.name: repo.fields.get("Origin", "") for repo in lock.repos}
    for record in records:
        fields = _fields(lock, record, found)
        named = _SOURCE.fullmatch(fields.get("Source", "").strip())
        source = named[1] if named else record.package
        version = (named[2] if named else None) or record.version
        origin = origins.get(record.repository, "")
        homepage = fields.get("Homepage", "")
        yield Part(
            ref=reference(lock, record),
            name=record.package,
            version=record.version,
            architecture=record.architecture,
            sha256=record.sha256,
            file=record.path.rpartition("/")[2],
            purl=purl(lock, record, origin, source, version),
            supplier=printable(origin),
            source=source,
            source_version=version,
            maintainer=_person(fields.get("Maintainer", "")),
            homepage=homepage if _ADDRESS.fullmatch(homepage) else "",
            summary=_short(fields.get("Description", "").partition("\n")[0]),
            licences=found.licences.get(record.package, ()),
            layer=layers.get(record, "base"),
            repository="" if record.repository == OWN else record.repository,
            depends=satisfied.of(record, fields),
        )


def reference(lock: Lock, record: Record) -> str:
    """What a package is called in a bill."""
    native = record.native(lock.arch)
    return record.package if native == lock.arch else f"{record.package}:{native}"


def _fields(lock: Lock, record: Record, found: Inventory) -> Mapping[str, str]:
    """dpkg's fields of a package, {} where the tree has no dpkg status or another version."""
    fields = found.fields.get((record.package, record.architecture), {})
    return fields if fields.get("Version") == record.version else {}


def purl(lock: Lock, record: Record, origin: str, source: str, version: str) -> str:
    """A package's purl; https://github.com/package-url/purl-spec, type deb.

    Its namespace is who made it: a vendor's package is no Debian's, and what is of the project or
    of nobody that says so is `generic`.
    """
    from packageurl import PackageURL

    vendor = re.sub(r"[^a-z0-9.]+", "-", origin.lower()).strip("-.")
    vendor = "debian" if vendor == "debian-backports" else vendor
    if record.repository == OWN or not vendor:
        given = {"arch": record.architecture, "checksum": f"sha256:{record.sha256}"}
        made = PackageURL("generic", None, record.package, record.version, given)
        return str(made.to_string())
    given = {"arch": record.architecture, "distro": codename(lock, record.repository)}
    if source != record.package or version != record.version:
        given["upstream"] = source if version == record.version else f"{source}@{version}"
    given = {name: value for name, value in given.items() if value}
    made = PackageURL("deb", vendor, record.package, record.version, given)
    return str(made.to_string())


def _person(text: str) -> tuple[str, str]:
    found = _PERSON.fullmatch(_short(text.partition("\n")[0]))
    return (_short(found[1] or found[2]), _short(found[2])) if found else (_short(text), "")


def _short(text: str) -> str:
    return printable(" ".join(text.split()))[:LONGEST]


class _Satisfied:
    """Which packages of an image satisfy what others depend on."""

    def __init__(self, lock: Lock, records: Sequence[Record], found: Inventory) -> None:
        self._lock = lock
        self._real: dict[tuple[str, str], str] = {}
        self._provided: dict[str, list[str]] = {}
        self._any: dict[str, str] = {}
        for record in records:
            ref = reference(lock, record)
            self._real[record.package, record.native(lock.arch)] = ref
            self._any.setdefault(record.package, ref)
            for name in _names(_fields(lock, record, found).get("Provides", "")):
                self._provided.setdefault(name[0], []).append(ref)

    def of(self, record: Record, fields: Mapping[str, str]) -> tuple[str, ...]:
        """The refs of those that one stands on; the first of alternatives that is there."""
        arch = record.native(self._lock.arch)
        found: set[str] = set()
        for field in ("Pre-Depends", "Depends"):
            for ways in _names(fields.get(field, "")):
                found.add(next((ref for name in ways if (ref := self._find(name, arch))), ""))
        return tuple(sorted(found - {"", reference(self._lock, record)}))

    def _find(self, name: str, arch: str) -> str:
        real = self._real.get((name, arch)) or self._any.get(name)
        return real or next(iter(self._provided.get(name, ())), "")


def _names(relations: str) -> list[list[str]]:
    """The names of a field of relations, of alternatives in their order (Debian policy 7.1)."""
    found = []
    for one in relations.split(","):
        ways = [match[1] for way in one.split("|") if (match := _RELATION.match(way))]
        if ways:
            found.append(ways)
    return found


def declared(part: Part) -> str:
    """The whole of its licences as one expression, "" where none is known."""
    if len(part.licences) == 1:
        return part.licences[0]
    grouped = (f"({one})" if re.search(r" (AND|OR) ", one) else one for one in part.licences)
    return " AND ".join(grouped)
