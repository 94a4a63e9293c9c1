"""`strata audit`: known faults of a spec's packages, by advisories that the user gives."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..session.session import Session
from ..spec.words import counted, printable
from ..stages import papers
from .publish import publication

if TYPE_CHECKING:
    from ..sbom.advisories import Fault
    from ..sbom.bill import Bill, Part

FORMS = ("text", "markdown", "json")

FORMAT = 1
"""Of the JSON: another number where a program that reads it must change."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a file says of a spec's packages; `counted` are the faults that ask for something."""

    spec: str
    release: str
    file: str
    packages: Mapping[str, Sequence[Part]]
    """Those that the release's advisories cover, by their source package."""
    versions: Mapping[str, str]
    """Of each source package, the oldest that is installed."""
    others: Sequence[Part]
    """Those of other archives and of the project's own, of which a release says nothing."""
    counted: Sequence[Fault]
    rest: Sequence[Fault]


def audit(session: Session) -> bool:
    """Say which faults are open; False where there are any: the exit status is 2."""
    form = session.variables.get("format", "text")
    if form not in FORMS:
        raise BuildError(f"format={form}: expected text, markdown or json")
    given = session.variables.get("file", "")
    if not given:
        raise BuildError(
            "audit: by which advisories?",
            "file=: Debian's security tracker as a JSON file, or OSV's records as a zip, a folder "
            "or a file",
        )
    to = publication(session).papers
    with session.cache.used(session.screen.progress):
        session.screen.moving("audit: reading the trees")
        bill = papers.bill(to, files=False)
    session.screen.moving("audit: reading the advisories")
    found = audited(
        bill,
        Path(os.environ.get("STRATA_FROM", "."), given),
        given,
        severity=session.variables.get("severity", ""),
        fixed=bool(session.variables.get("fixed")),
    )
    told = {"text": text, "markdown": markdown, "json": as_json}[form](found)
    session.screen.line("\n".join(told))
    return not found.counted


def audited(bill: Bill, path: Path, shown: str, *, severity: str, fixed: bool) -> Audit:
    """What a file says of a bill's packages.

    What counts is of this severity or above, or unrated: nobody has looked at it. `fixed`: and has
    a version that fixes it.
    """
    from ..sbom.advisories import COUNTS, SEVERITIES, Release, faults

    packages: dict[str, list[Part]] = {}
    others = []
    for part in bill.parts:
        if part.supplier == bill.distribution:
            packages.setdefault(_source(part)[0], []).append(part)
        else:
            others.append(part)
    major = bill.release.partition(".")[0] if bill.distribution == "Debian" else bill.release
    release = Release(codename=bill.codename, ecosystem=f"{bill.distribution}:{major}")
    oldest = {source: _oldest(parts) for source, parts in packages.items()}
    found = faults(path, release, oldest, shown)
    wanted = {"", *SEVERITIES[SEVERITIES.index(severity or "low") :]}

    def counts(one: Fault) -> bool:
        return one.status in COUNTS and one.severity in wanted and bool(one.fixed or not fixed)

    return Audit(
        spec=bill.name,
        release=" ".join(filter(None, (bill.distribution, bill.release, bill.codename))),
        file=printable(shown),
        packages=packages,
        versions=oldest,
        others=others,
        counted=[one for one in found if counts(one)],
        rest=[one for one in found if not counts(one)],
    )


_SIGNED = re.compile(r"linux-signed(-[a-z0-9]+)?")
"""Sources of signed kernels: what advisories call linux, in the version of its binaries."""


def _source(part: Part) -> tuple[str, str]:
    """The source package as advisories name it, and its version."""
    if _SIGNED.fullmatch(part.source):
        return "linux", re.sub(r"\+b[0-9]+$", "", part.version)
    return part.source, part.source_version


def _oldest(parts: Sequence[Part]) -> str:
    """Of one source there may be two versions, by a binary that another build left behind."""
    from ..debian.ordering import older

    first, *rest = (_source(part)[1] for part in parts)
    for one in rest:
        first = one if older(one, first) else first
    return first


# ---------------------------------------------------------------- the three forms; pure


def text(found: Audit) -> Iterator[str]:
    """For a person: a paragraph for each source package that has any."""
    yield _heading(found)
    for source in dict.fromkeys(one.source for one in found.counted):
        parts = found.packages[source]
        names = sorted(part.ref for part in parts)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        yield ""
        yield f"{source} {found.versions[source]} ({', '.join(names[:4])}{more})"
        for one in found.counted:
            if one.source == source:
                yield f"  {one.identifier:<16} {_state(one):<36}  {one.summary}".rstrip()
    yield from _rest(found)


def _heading(found: Audit) -> str:
    said = f"{len(found.counted)} open" if found.counted else "nothing open"
    return (
        f"{found.spec}: {said}; {counted(len(found.packages), 'source package')} of "
        f"{found.release}, by {found.file}"
    )


def _state(one: Fault) -> str:
    told = [one.severity or "unrated"]
    told += [one.status] if one.status != "open" else []
    told.append(f"fixed in {one.fixed}" if one.fixed else "no fix yet")
    return ", ".join(told)


def _rest(found: Audit) -> Iterator[str]:
    if found.rest:
        kinds = Counter(one.status for one in found.rest)
        told = ", ".join(f"{number} {status}" for status, number in sorted(kinds.items()))
        yield ""
        yield f"not counted: {told}; format=json has them"
    if found.others:
        names = ", ".join(part.ref for part in found.others[:5])
        more = f" and {len(found.others) - 5} more" if len(found.others) > 5 else ""
        yield ""
        yield f"not covered, as they are of other archives or the project's own: {names}{more}"


def markdown(found: Audit) -> Iterator[str]:
    """For a ticket: a table, of names and versions alone, of which none is Markdown."""
    yield f"### {_heading(found)}"
    if found.counted:
        yield ""
        yield "| package | version | fault | severity | status | fixed in |"
        yield "|---|---|---|---|---|---|"
    for one in found.counted:
        version = found.versions[one.source]
        cells = (one.source, f"`{version}`", one.identifier, one.severity or "unrated",
                 one.status, f"`{one.fixed}`" if one.fixed else "-")  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield from _rest(found)


def as_json(found: Audit) -> Iterator[str]:
    """For another program: all of them; `counts` says of which the exit status is."""
    told = {
        "format": FORMAT,
        "spec": found.spec,
        "release": found.release,
        "sources": len(found.packages),
        "open": len(found.counted),
        "faults": [
            {
                **asdict(one),
                "version": found.versions[one.source],
                "packages": sorted(part.ref for part in found.packages[one.source]),
                "counts": counts,
            }
            for counts, some in ((True, found.counted), (False, found.rest))
            for one in some
        ],
        "not_covered": [part.ref for part in found.others],
    }
    yield json.dumps(told, indent=1)
