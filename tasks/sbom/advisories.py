"""Known faults of source packages, as files that others publish tell them.

Two forms: the JSON of Debian's security tracker, and records of OSV (its schema is 1.7 now): one, a
list, a folder or a zip of them. Each is read within bounds, and its form checked.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..debian.ordering import FORM, compared, older
from ..errors import BuildError, printable
from ..host import safe, strict

LIMIT = 512 << 20
"""Bytes of a file of JSON: the tracker's has 70 million."""

RECORD = 16 << 20
"""Bytes of one OSV record."""

MOST = 1_000_000
"""Records of a folder or zip; all of Debian's are 60,000."""

SEVERITIES = ("low", "medium", "high", "critical")

_WORDS = {"moderate": "medium", "negligible": "low", "important": "high"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")

OPEN, MINOR, ENDED = "open", "no-dsa", "end-of-life"

UNIMPORTANT, UNDETERMINED = "unimportant", "undetermined"

COUNTS = (OPEN, MINOR, ENDED)
"""What an installed version is open to. Debian calls no fault of its build unimportant."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One that an installed version has, or may have."""

    source: str
    identifier: str
    status: str
    severity: str
    """One of SEVERITIES, "" where nobody has rated it."""
    fixed: str
    """The version of the same release that has it no more, "" for none yet."""
    summary: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """Of which release advisories are wanted: bookworm, and as OSV has it, Debian:12."""

    codename: str
    ecosystem: str


def faults(path: Path, release: Release, installed: Mapping[str, str], shown: str) -> list[Fault]:
    """What a file knows of source packages, by the version of each that is installed.

    BuildError, which calls the file `shown`, for what is neither of the two forms, is too large, or
    has nothing of this release.
    """
    try:
        found = list(_faults(path, release, installed))
    except strict.Damaged as error:
        raise BuildError(
            f"{shown}: neither Debian's security tracker nor OSV wrote this: {error}", HINT
        ) from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise BuildError(f"{shown}: cannot be read: {said}", HINT) from error
    once: dict[tuple[str, str], Fault] = {}
    for one in found:
        known = once.get((one.source, one.identifier))
        # Several records may be of one fault: what one of them knows counts.
        if known is None:
            once[one.source, one.identifier] = one
        else:
            once[one.source, one.identifier] = replace(
                known, fixed=known.fixed or one.fixed, severity=known.severity or one.severity
            )
    return [once[name] for name in sorted(once)]


HINT = "give the tracker's JSON file, or OSV's records: a zip, a folder or a file of them"


def _faults(path: Path, release: Release, installed: Mapping[str, str]) -> Iterator[Fault]:
    if path.is_dir():
        yield from _records(_of_folder(path), release, installed)
        return
    with open(safe.named(path), "rb") as file:
        if zipfile.is_zipfile(file):
            yield from _records(_of_zip(file), release, installed)
            return
        file.seek(0)
        raw = file.read(LIMIT + 1)
    if len(raw) > LIMIT:
        raise strict.Damaged(f"it has more than {LIMIT >> 20} MiB")
    if raw.lstrip()[:1] == b"[":
        raw = b'{"vulns":' + raw + b"}"
    document = strict.parse(raw)
    if "affected" in document and "id" in document:
        yield from osv(document, release, installed)
    elif isinstance(document.get("vulns"), list):
        for one in document["vulns"]:
            yield from osv(strict.mapping(one, "a record"), release, installed)
    else:
        yield from tracker(document, release, installed)


# ---------------------------------------------------------------- Debian's security tracker


def tracker(
    document: Mapping[str, Any], release: Release, installed: Mapping[str, str]
) -> Iterator[Fault]:
    """Of the tracker's JSON: by source package and fault what each release has."""
    there = False
    for source, told in document.items():
        every = strict.mapping(told, printable(source)[:80])
        version = installed.get(source)
        if version is None and there:
            continue
        for identifier, one in every.items():
            what = f"{source[:80]}, {identifier[:80]}"
            fault = strict.mapping(one, what)
            releases = strict.mapping(strict.field(fault, "releases", f"{what}: "), what)
            state = releases.get(release.codename)
            there = there or state is not None
            if version is None or state is None:
                continue
            found = _tracked(strict.mapping(state, what), version, what)
            if found is not None:
                status, severity, fixed = found
                yield Fault(
                    source=source,
                    identifier=_identifier(identifier),
                    status=status,
                    severity=severity,
                    fixed=fixed,
                    summary=_summary(fault.get("description", "")),
                )
    if not there:
        raise strict.Damaged(f"it has no release {release.codename!r}")


def _tracked(state: dict[str, Any], version: str, what: str) -> tuple[str, str, str] | None:
    """Status, severity and fixed version of what a version has; None if it is not affected."""
    status = strict.text(state, "status", what=f"{what}: ")
    fixed = _version(state.get("fixed_version", ""), what)
    urgency = str(state.get("urgency", "")).rstrip("*").strip()
    severity = urgency if urgency in SEVERITIES else ""
    if fixed and not older(version, fixed):
        return None  # 0 stands for: never was
    if status == "undetermined":
        return UNDETERMINED, severity, ""
    if status not in ("open", "resolved"):
        raise strict.Damaged(f"{what}: its status is malformed: {status[:80]!r}")
    if status == "resolved" and not fixed:
        return None
    if urgency == "unimportant":
        return UNIMPORTANT, severity, fixed
    if urgency == "end-of-life":
        return ENDED, severity, fixed
    return (MINOR if "nodsa" in state and not fixed else OPEN), severity, fixed


# ---------------------------------------------------------------- OSV


def _of_folder(path: Path) -> Iterator[bytes]:
    names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    if len(names) > MOST:
        raise strict.Damaged(f"it has more than {MOST} records")
    for name in names:
        with open(safe.named(path / name), "rb") as file:
            raw = file.read(RECORD + 1)
        if len(raw) > RECORD:
            raise strict.Damaged(f"{printable(name)[:80]} is too large")
        yield raw


def _of_zip(file: Any) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".json")]
        if len(members) > MOST:
            raise strict.Damaged(f"it has more than {MOST} records")
        left = LIMIT * 16
        for one in members:
            with archive.open(one) as opened:
                raw = opened.read(RECORD + 1)
            left -= len(raw)
            if len(raw) > RECORD or left < 0:
                raise strict.Damaged(f"{printable(one.filename)[:80]} is too large")
            yield raw


def _records(
    every: Iterator[bytes], release: Release, installed: Mapping[str, str]
) -> Iterator[Fault]:
    known, family = 0, release.ecosystem.partition(":")[0].encode()
    for raw in every:
        # Most are of other releases and need not be read.
        if family in raw:
            known += 1
            yield from osv(strict.parse(raw), release, installed)
    if not known:
        raise strict.Damaged(f"it has no records of {release.ecosystem}")


def osv(
    record: Mapping[str, Any], release: Release, installed: Mapping[str, str]
) -> Iterator[Fault]:
    """Of one record: what of it the installed versions have."""
    told = _identifier(record.get("id"))
    if record.get("withdrawn"):
        return
    others = [*_texts(record.get("upstream")), *_texts(record.get("aliases"))]
    names = [one for one in (told.removeprefix("DEBIAN-").removeprefix("UBUNTU-"), *others)
             if one.startswith("CVE-")]  # fmt: skip
    for affected in strict.items(record.get("affected", []), f"{told}: affected"):
        one = strict.mapping(affected, told)
        package = strict.mapping(one.get("package", {}), told)
        source, version = package.get("name"), installed.get(str(package.get("name")))
        if version is None or not _same(str(package.get("ecosystem")), release.ecosystem):
            continue
        fixed = _affected(one, version, told)
        if fixed is None:
            continue
        for name in dict.fromkeys(map(_identifier, names or [told])):
            yield Fault(
                source=str(source),
                identifier=name,
                status=OPEN,
                severity=_rated(record, one),
                fixed=fixed,
                summary=_summary(record.get("summary") or record.get("details") or ""),
            )


def _same(ecosystem: str, wanted: str) -> bool:
    """Ubuntu's long ones have a word more: `Ubuntu:22.04:LTS`."""
    return ecosystem == wanted or ecosystem.startswith(f"{wanted}:")


def _affected(affected: dict[str, Any], version: str, what: str) -> str | None:
    """The version that fixes it, "" for none; None where this version is not affected.

    As OSV's own description says it: the last event that is not after a version counts.
    """
    if version in _texts(affected.get("versions")):
        return _first_fix(affected, version, what)
    for given in strict.items(affected.get("ranges", []), what):
        one = strict.mapping(given, what)
        if one.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for kind, at in sorted(_events(one, what), key=lambda event: _Ordered(event[1])):
            order = compared(at, version)
            if kind == "introduced" and (at == "0" or order <= 0):
                inside = True
            elif (kind == "fixed" and order <= 0) or (kind == "last_affected" and order < 0):
                inside = False
        if inside:
            return _first_fix(affected, version, what)
    return None


class _Ordered:
    """A version to be sorted by; 0 comes before all."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __lt__(self, other: _Ordered) -> bool:
        if "0" in (self.version, other.version):
            return self.version == "0" != other.version
        return older(self.version, other.version)


def _first_fix(affected: dict[str, Any], version: str, what: str) -> str:
    fixes = [
        at
        for one in strict.items(affected.get("ranges", []), what)
        for kind, at in _events(strict.mapping(one, what), what)
        if kind == "fixed" and older(version, at)
    ]
    return min(fixes, key=_Ordered, default="")


def _events(one: dict[str, Any], what: str) -> Iterator[tuple[str, str]]:
    for event in strict.items(one.get("events", []), what):
        for kind, at in strict.mapping(event, what).items():
            if kind in ("introduced", "fixed", "last_affected"):
                yield kind, _version(at, what)


def _rated(record: Mapping[str, Any], affected: Mapping[str, Any]) -> str:
    """What the record's makers rate it; a CVSS vector is no rating of theirs."""
    told = [affected.get("ecosystem_specific"), affected.get("database_specific"),
            record.get("database_specific")]  # fmt: skip
    words = [one.get(name) for one in told if isinstance(one, dict)
             for name in ("urgency", "ubuntu_priority", "severity")]  # fmt: skip
    for given in (record.get("severity"), affected.get("severity")):
        words += [one.get("score") for one in given or () if isinstance(one, dict)] \
            if isinstance(given, list) else []  # fmt: skip
    for word in words:
        lower = str(word).lower()
        if (severity := _WORDS.get(lower, lower)) in SEVERITIES:
            return severity
    return ""


# ---------------------------------------------------------------- forms


def _identifier(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise strict.Damaged(f"it calls a fault {str(value)[:80]!r}")
    return value


def _version(value: Any, what: str) -> str:
    if value != "" and (not isinstance(value, str) or not FORM.fullmatch(value)):
        raise strict.Damaged(f"{what}: a version is malformed: {str(value)[:80]!r}")
    return str(value)


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _summary(value: Any) -> str:
    text = printable(" ".join(str(value).split()))
    return text if len(text) <= 120 else f"{text[:117]}..."
