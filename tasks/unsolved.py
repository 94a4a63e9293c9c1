"""Why apt did not solve what was asked, by its own tables: policy(version tables) and showpkg.

Its words are read in one place, `unmet`: only there apt says which dependency it stumbled over.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import BuildError

Ask = Callable[..., str]
"""Runs apt-cache with these words, in the same private apt."""


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
    """The version tables of `apt-cache policy NAME...`."""
    found: dict[str, Policy] = {}
    for block in re.split(r"^(?=\S+:$)", text, flags=re.MULTILINE):
        head, _, body = block.partition("\n")
        if not head.endswith(":"):
            continue
        candidate = re.search(r"^ +Candidate: (\S+)", body, re.MULTILINE)
        offers = []
        for part in re.split(r"^ (?:\*\*\*|   ) (?=\S)", body, flags=re.MULTILINE)[1:]:
            version, priority = [*part.split(None, 2), "", "0"][:2]
            places = re.findall(r"http://(\d+)\.strata\.invalid (\S+)", part)
            offers.append(
                Offer(
                    version=version, priority=int(priority),
                    sites=tuple(int(site) for site, _suite in places),
                    suites=tuple(suite.rpartition("/")[0] or suite for _site, suite in places),
                )
            )  # fmt: skip
        name = candidate[1] if candidate and candidate[1] != "(none)" else ""
        found[head[:-1]] = Policy(candidate=name, offers=tuple(offers))
    return found


def providers(text: str) -> list[str]:
    """The packages that provide another, of its `apt-cache showpkg`."""
    lines = text.partition("Reverse Provides:")[2].splitlines()
    return sorted({line.split()[0] for line in lines if line.strip()})


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """One line of apt's list of unmet dependencies."""

    package: str
    kind: str
    on: str
    relation: str
    but: str


_UNMET = re.compile(
    r"^(?: (?P<package>\S+) :|  +) (?P<kind>(?:Pre)?-?Depends|Recommends|Conflicts|Breaks): "
    r"(?P<on>[^\s(]+)(?: \((?P<relation>[^)]*)\))?(?P<but>.*)$"
)


def unmet(out: str) -> list[Unmet]:
    """apt's list of unmet dependencies; those of one package stand below each other."""
    found: list[Unmet] = []
    package = ""
    for line in out.partition("unmet dependencies:\n")[2].splitlines():
        match = _UNMET.match(line)
        if match is None:
            break
        package = match["package"] or package
        found.append(Unmet(package=package, kind=match["kind"], on=match["on"],
                           relation=match["relation"] or "", but=match["but"]))  # fmt: skip
    return found


def explained(
    where: str, wanted: Sequence[str], out: str, err: str, ask: Ask, *, repos: Sequence[str],
    suites: Sequence[Sequence[str]], essential: set[str],
    satisfies: Callable[[str, str], bool],
) -> BuildError:  # fmt: skip
    """The cause, and a remedy that works.

    `repos` and `suites` are each repository's name and the names that its suite has; `essential`
    what is installed and marked so; `satisfies` compares a version with `>= 2`.
    """
    lines = out.splitlines()
    start = next((number for number, line in enumerate(lines) if "unmet dependencies" in line
                  or line.endswith("will be REMOVED:")), len(lines))  # fmt: skip
    reason = [line for line in [*lines[start:], *err.splitlines()] if line.strip()]
    text = "\n".join("    " + line for line in reason[:15])
    asked = [request(one) for one in wanted if not one.endswith("-")]
    known = policies(ask("policy", *sorted({one.package for one in asked})))
    told = [_single(one, known, ask, repos, suites) for one in asked]
    causes = [cause for cause in told if cause is not None]
    if causes:
        same = [what for what, _hint in causes]
        absent = [one.package for one, cause in zip(asked, told, strict=True)
                  if cause and cause[0] == f"no repository has {one.package}"]  # fmt: skip
        if len(absent) == len(causes):
            same = [f"no repository has {', '.join(sorted(set(absent)))}"]
        return BuildError(f"{where}: {'; '.join(dict.fromkeys(same))}:\n{text}", causes[0][1])
    found = unmet(out)
    hints = [hint for one in found if (hint := _dependency(one, ask, repos, essential, satisfies))]
    hint = hints[0] if hints else (
        "leave out one of them, or add the repository that has what is missing"
    )  # fmt: skip
    return BuildError(f"{where}: apt cannot install these packages together:\n{text}", hint)


def _places(policy: Policy, repos: Sequence[str]) -> str:
    """`2 (backports), 1 (main)`: the newest few versions and where they are."""
    said = []
    for offer in policy.offers[:5]:
        names = ", ".join(dict.fromkeys(repos[site] for site in offer.sites if site < len(repos)))
        said.append(f"{offer.version} ({names})" if names else offer.version)
    return ", ".join(said)


def _single(
    one: Request, known: Mapping[str, Policy], ask: Ask, repos: Sequence[str],
    suites: Sequence[Sequence[str]],
) -> tuple[str, str] | None:  # fmt: skip
    """What is wrong with one request by itself, and what to do."""
    policy = known.get(one.package) or known.get(one.name)
    offers = policy.offers if policy else ()
    if policy is None or not offers:
        return _absent(one, ask)
    if one.version:
        if any(fnmatch.fnmatchcase(offer.version, one.version) for offer in offers):
            return None
        return (f"no repository has {one.package} in version '{one.version}'",
                f"there is {_places(policy, repos)}")  # fmt: skip
    if one.suite:
        having = {name for offer in offers for site in offer.sites if site < len(suites)
                  for name in suites[site]}  # fmt: skip
        if one.suite in having:
            return None
        every = {name for names in suites for name in names}
        what = f"no repository's suite '{one.suite}' has {one.package}"
        if one.suite not in every:
            what = f"no repository is of the suite '{one.suite}'"
        return f"{what}", f"{one.package} is in {', '.join(sorted(having)) or 'none'}: " + (
            f"there is {_places(policy, repos)}"
        )
    if not policy.candidate:
        site = offers[0].sites[0] if offers[0].sites else 0
        return (f"{one.package} is only where a priority under 0 forbids it: "
                f"{_places(policy, repos)}",
                f"ask for {one.package}={offers[0].version}, or give it a priority in "
                f"repos.{repos[site]}.pins")  # fmt: skip
    return None


def _absent(one: Request, ask: Ask) -> tuple[str, str]:
    given = providers(ask("showpkg", one.package))
    if given:
        names = ", ".join(given[:8]) + (" ..." if given[8:] else "")
        return (f"{one.package} is a virtual package, provided by {names}",
                f"name one of them in its place, such as {given[0]}")  # fmt: skip

    def is_there(package: str) -> bool:
        policy = policies(ask("policy", package)).get(package)
        return policy is not None and bool(policy.offers)

    if one.arch and is_there(one.name):
        return (f"no repository has {one.package}, though {one.name} for another architecture",
                f"ask for {one.name}, or add a repository that has {one.arch}")  # fmt: skip
    known = ask("pkgnames", one.name[:1]).split()
    near = difflib.get_close_matches(one.name, known, 1, 0.75)
    meant = f"did you mean {near[0]}? " if near else ""
    return (f"no repository has {one.package}",
            f"{meant}check the spelling, and that the repository is in repos")  # fmt: skip


def _dependency(
    one: Unmet, ask: Ask, repos: Sequence[str], essential: set[str],
    satisfies: Callable[[str, str], bool],
) -> str:  # fmt: skip
    """What to do about one unmet dependency, "" if that is not clear."""
    name = one.on.partition(":")[0]
    if one.kind in ("Conflicts", "Breaks"):
        if name in essential:
            return (f"{one.package} cannot be where {name} is, which is essential: leave it out, "
                    f"or list {name}- beside it if the image can do without")  # fmt: skip
        return f"{one.package} and {name} cannot both be there: leave out one of them"
    policy = policies(ask("policy", one.on)).get(one.on) or policies(ask("policy", name)).get(name)
    if policy is None or not policy.offers:
        given = providers(ask("showpkg", name))
        if given and not one.relation:
            return f"{name} is provided by {', '.join(given[:8])}: name the one that fits"
        return (f"no repository has {name}, which {one.package} needs: add the one that has it, "
                f"or leave out {one.package}")  # fmt: skip
    fitting = [offer for offer in policy.offers if satisfies(offer.version, one.relation)]
    if not fitting:
        return (f"{one.package} needs {name} ({one.relation}), and there is only "
                f"{_places(policy, repos)}: add the repository that has it, or take another "
                f"version of {one.package}")  # fmt: skip
    best = fitting[0]
    if best.version != policy.candidate:
        place = ", ".join(dict.fromkeys(repos[site] for site in best.sites if site < len(repos)))
        return (f"{one.package} needs {name} {best.version}, which is in {place}, but its "
                f"priority ({best.priority}) holds it back: ask for {name}={best.version}, too, "
                f"or raise its priority in repos.{place.partition(',')[0]}.pins")  # fmt: skip
    return ""
