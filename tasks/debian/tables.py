"""What apt's own tables say, taken apart: requests, policy, showpkg, unmet dependencies.

Its words are read in one place, `unmet`: only there apt says which dependency it stumbled over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request in apt's syntax, taken apart."""

    name: str
    arch: str
    version: str
    suite: str

    @property
    def package(self) -> str:
        """As apt-cache knows it."""
        return f"{self.name}:{self.arch}" if self.arch else self.name


def request(wanted: str) -> Request:
    """`name[:arch][=version|/suite]`; a final + is left away."""
    rest, _, version = wanted.partition("=")
    rest, _, suite = rest.partition("/")
    name, _, arch = rest.partition(":")
    return Request(name=name, arch=arch.rstrip("+"), version=version, suite=suite)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One version of a package, where it is, and the priority that it has there."""

    version: str
    priority: int
    sites: tuple[int, ...]
    suites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What `apt-cache policy` says of one package."""

    candidate: str
    offers: tuple[Offer, ...]


def policies(text: str) -> dict[str, Policy]:
    """The version tables of `apt-cache policy NAME...`; its list of sources is none."""
    found: dict[str, Policy] = {}
    for block in re.split(r"^(?=\S+:$)", text, flags=re.MULTILINE):
        head, _, body = block.partition("\n")
        if not head.endswith(":"):
            continue
        candidate = re.search(r"^ +Candidate: (\S+)", body, re.MULTILINE)
        if candidate is None:
            continue
        offers = []
        for part in re.split(r"^ (?:\*\*\*|   ) (?=\S)", body, flags=re.MULTILINE)[1:]:
            version, priority = [*part.split(None, 2), "", "0"][:2]
            places = re.findall(r"http://(\d+)\.strata\.invalid (\S+)", part)
            offers.append(
                Offer(
                    version=version,
                    priority=int(priority),
                    sites=tuple(int(site) for site, _suite in places),
                    suites=tuple(suite.rpartition("/")[0] or suite for _site, suite in places),
                )
            )
        name = candidate[1] if candidate[1] != "(none)" else ""
        found[head[:-1]] = Policy(candidate=name, offers=tuple(offers))
    return found


def providers(text: str) -> dict[str, list[str]]:
    """The packages that provide another, each with the versions it does so in, if it says any.

    `text` is the other's `apt-cache showpkg`.
    """
    found: dict[str, list[str]] = {}
    for line in text.partition("Reverse Provides:")[2].splitlines():
        if match := re.match(r"(\S+) \S+ \(=\s*([^)]*)\)", line):
            found.setdefault(match[1], [])
            found[match[1]] += [match[2]] if match[2] else []
    return dict(sorted(found.items()))


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """One line of apt's list of unmet dependencies."""

    package: str
    kind: str
    on: str
    relation: str
    but: str
    alternative: bool = False  # to the one before: either would do


_UNMET = re.compile(
    r"^(?: (?P<package>\S+) :|  +) (?P<kind>(?:Pre)?-?Depends|Recommends|Conflicts|Breaks): "
    r"(?P<on>[^\s(]+)(?: \((?P<relation>[^)]*)\))?(?P<but>.*)$"
)


_ALTERNATIVE = re.compile(
    r"^ {3,}(?P<on>[a-z0-9][^\s(]+)(?: \((?P<relation>[^)]*)\))?(?P<but>( but .*)?( or)?)$"
)


def unmet(out: str) -> list[Unmet]:
    """apt's list of unmet dependencies; those of one package stand below each other."""
    found: list[Unmet] = []
    package = ""
    for line in out.partition("unmet dependencies:\n")[2].splitlines():
        match = _UNMET.match(line)
        other = _ALTERNATIVE.match(line) if match is None and found else None
        if match is not None:
            package = match["package"] or package
            kind = match["kind"]
        else:
            kind = found[-1].kind if found else ""
        if (entry := match or other) is not None:
            found.append(
                Unmet(
                    package=package,
                    kind=kind,
                    on=entry["on"],
                    relation=entry["relation"] or "",
                    but=entry["but"].removesuffix(" or"),
                    alternative=other is not None,
                )
            )
    return found
