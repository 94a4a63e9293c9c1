"""Why apt did not solve what was asked, by its own tables, and what helps: see tables.py."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import BuildError
from .tables import Policy, Request, Unmet, policies, providers, request, unmet

Ask = Callable[..., str]
"""Runs apt-cache with these words, in the same private apt."""


def contradiction(where: str, wanted: Sequence[str], arch: str) -> None:
    """BuildError for a package that a list both asks for and refuses; `arch` is the image's.

    Only the order of apt's words would decide then, or apt speaks of packages that are held.
    """
    asked = {_slot(request(one), arch) for one in wanted if not one.endswith("-")}
    for one in wanted:
        if one.endswith("-") and _slot(request(one[:-1]), arch) in asked:
            name = request(one[:-1]).package
            raise BuildError(
                f"{where}: {name} is asked for, and refused by `{one}`",
                f"remove `{one}`, or what asks for {name} (a base's variant does so, too)",
            )


def _slot(one: Request, arch: str) -> tuple[str, str]:
    return one.name, arch if one.arch in ("", "any", "native") else one.arch


def _canonical(package: str, arch: str) -> str:
    """A package as apt's tables call it: with another architecture than the image's only."""
    name, _, given = package.partition(":")
    return name if given in ("", "any", "native", arch) else package


def explained(
    where: str,
    wanted: Sequence[str],
    out: str,
    err: str,
    ask: Ask,
    *,
    repos: Sequence[str],
    suites: Sequence[Sequence[str]],
    essential: set[str],
    arches: Sequence[str],
    satisfies: Callable[[str, str], bool],
    missing: Sequence[str] = (),
) -> BuildError:
    """The cause, and a remedy that works.

    `repos` and `suites` are each repository's name and the names that its suite has; `essential`
    what is installed and marked so; `arches` the image's architecture and those that it knows
    besides; `satisfies` compares a version with `>= 2`; `missing` says of what part of a
    repository nothing came.
    """
    lines = out.splitlines()
    start = next(
        (
            number
            for number, line in enumerate(lines)
            if "unmet dependencies" in line or line.endswith("will be REMOVED:")
        ),
        len(lines),
    )
    reason = [line for line in [*lines[start:], *err.splitlines()] if line.strip()]
    text = "\n".join("    " + line for line in reason[:15])
    asked = [request(one) for one in wanted if not one.endswith("-")]
    refused = {request(one[:-1]).package: one for one in wanted if one.endswith("-")}
    packages = sorted({*(one.package for one in asked), *refused})
    known = policies(ask("policy", *packages)) if packages else {}
    told = [_single(one, known, ask, repos, suites, arches[0]) for one in asked]
    causes = [cause for cause in told if cause is not None]
    if causes:
        same = [what for what, _hint in causes]
        absent = [
            one.package
            for one, cause in zip(asked, told, strict=True)
            if cause and cause[0] == f"no repository has {one.package}"
        ]
        if len(absent) == len(causes):
            same = [f"no repository has {', '.join(sorted(set(absent)))}"]
        hint = causes[0][1]
        if absent and missing:
            hint = f"{'; '.join(missing)}; otherwise {hint}"
        return BuildError(f"{where}: {'; '.join(dict.fromkeys(same))}:\n{text}", hint)
    for package, one in sorted(refused.items()):
        if _canonical(package, arches[0]) not in known and not providers(ask("showpkg", package)):
            return BuildError(f"{where}: no repository has {package}:\n{text}", f"remove `{one}`")
    facts = _Facts(
        ask=ask,
        repos=repos,
        essential=essential,
        arches=arches,
        satisfies=satisfies,
        refused={_canonical(package, arches[0]): one for package, one in refused.items()},
        versions={_canonical(one.package, arches[0]): one.version for one in asked if one.version},
    )
    hint = _remedy(unmet(out), facts) or (
        "leave out one of them, or add the repository that has what is missing"
    )
    return BuildError(f"{where}: apt cannot install these packages together:\n{text}", hint)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What a remedy is found by."""

    ask: Ask
    repos: Sequence[str]
    essential: set[str]
    arches: Sequence[str]
    satisfies: Callable[[str, str], bool]
    refused: Mapping[str, str]  # package: the request
    versions: Mapping[str, str]  # that requests name


def _remedy(found: Sequence[Unmet], facts: _Facts) -> str:
    """What to do about unmet dependencies, "" if that is not clear.

    Two that cannot be together say more than what lacks one of them.
    """
    groups: list[list[Unmet]] = []
    for one in found:
        if one.alternative:
            groups[-1].append(one)
        else:
            groups.append([one])
    groups.sort(key=lambda group: group[0].kind not in _CONFLICTS)
    for group in groups:
        hints = [_dependency(one, facts) for one in group]
        if all(hints):  # one that could be there is missing for a reason that stands elsewhere
            return hints[0]
    return ""


def _places(policy: Policy, repos: Sequence[str]) -> str:
    """`2 (backports), 1 (main)`: the newest few versions and where they are."""
    said = []
    for offer in policy.offers[:5]:
        names = ", ".join(dict.fromkeys(repos[site] for site in offer.sites if site < len(repos)))
        said.append(f"{offer.version} ({names})" if names else offer.version)
    return ", ".join(said)


def _single(
    one: Request,
    known: Mapping[str, Policy],
    ask: Ask,
    repos: Sequence[str],
    suites: Sequence[Sequence[str]],
    arch: str,
) -> tuple[str, str] | None:
    """What is wrong with one request by itself, and what to do."""
    policy = known.get(_canonical(one.package, arch))
    offers = policy.offers if policy else ()
    if policy is None or not offers:
        return _absent(one, ask)
    if one.version:
        if any(fnmatch.fnmatchcase(offer.version, one.version) for offer in offers):
            return None
        return (
            f"no repository has {one.package} in version '{one.version}'",
            f"there is {_places(policy, repos)}",
        )
    if one.suite:
        having = {
            name
            for offer in offers
            for site in offer.sites
            if site < len(suites)
            for name in suites[site]
        }
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
        return (
            f"{one.package} is only where a priority under 0 forbids it: {_places(policy, repos)}",
            f"ask for {one.package}={offers[0].version}, or give it a priority in "
            f"repos.{repos[site]}.pins",
        )
    return None


def _absent(one: Request, ask: Ask) -> tuple[str, str]:
    # Of what another architecture alone has, apt says the name with that one.
    there = policies(ask("policy", one.name))
    other = bool(one.arch) and any(policy.offers for policy in there.values())
    # A package that is there for others may be provided as well, which makes it no virtual one.
    for package in dict.fromkeys((one.package, one.package if other else one.name)):
        given = list(providers(ask("showpkg", package)))
        if given:
            names = ", ".join(given[:8]) + (" ..." if given[8:] else "")
            return (
                f"{package} is a virtual package, provided by {names}",
                f"name one of them in its place, such as {given[0]}",
            )
    if other:
        return (
            f"no repository has {one.package}, though {one.name} for another architecture",
            f"ask for {one.name}, or add a repository that has {one.arch}",
        )
    known = ask("pkgnames", one.name[:1]).split()
    near = difflib.get_close_matches(one.name, known, 1, 0.75)
    meant = f"did you mean {near[0]}? " if near else ""
    return (
        f"no repository has {one.package}",
        f"{meant}check the spelling, and that the repository is in repos",
    )


_CONFLICTS = ("Conflicts", "Breaks")


def _conflict(one: Unmet, name: str, facts: _Facts) -> str:
    package = _canonical(one.package, facts.arches[0])
    if package.partition(":")[0] == name.partition(":")[0]:
        both = sorted((package, name), key=lambda text: ":" in text)
        return f"{both[0]} can be there for one architecture only: leave out {both[1]}"
    if name in facts.essential:
        return (
            f"{package} cannot be where {name} is, which is essential: leave it out, "
            f"or list {name}- beside it if the image can do without"
        )
    return f"{package} and {name} cannot both be there: leave out one of them"


def _unoffered(one: Unmet, name: str, facts: _Facts) -> str:
    """What to do about one that no repository has under this name."""
    arch = name.partition(":")[2]
    if arch and arch not in facts.arches:
        return (
            f"{one.package} needs {name}, and the image knows no packages of {arch}: ask for "
            f"{name}, too, which makes it known, or leave out {one.package}"
        )
    given = providers(facts.ask("showpkg", name))
    fitting = [
        package
        for package, versions in given.items()
        if not one.relation or any(facts.satisfies(version, one.relation) for version in versions)
    ]
    if fitting:
        return f"{name} is provided by {', '.join(fitting[:8])}: name the one that fits"
    if given:
        said = [
            f"{package}, in version {', '.join(versions)} only"
            if versions
            else f"{package}, without a version"
            for package, versions in given.items()
        ]
        return (
            f"{one.package} needs {name} ({one.relation}), and {name} is provided by "
            f"{'; '.join(said[:8])}: add the repository that has it, or leave out "
            f"{one.package}"
        )
    return (
        f"no repository has {name}, which {one.package} needs: add the one that has it, "
        f"or leave out {one.package}"
    )


def _dependency(one: Unmet, facts: _Facts) -> str:
    """What to do about one unmet dependency, "" if that is not clear."""
    name = _canonical(one.on, facts.arches[0])
    if one.kind in _CONFLICTS:
        return _conflict(one, name, facts)
    if name in facts.refused:
        other = "" if one.package in facts.essential else f", or leave out {one.package}"
        return f"{one.package} needs {name}: remove `{facts.refused[name]}`{other}"
    policy = policies(facts.ask("policy", name)).get(name)
    if policy is None or not policy.offers:
        return _unoffered(one, name, facts)
    fitting = [offer for offer in policy.offers if facts.satisfies(offer.version, one.relation)]
    if not fitting:
        return (
            f"{one.package} needs {name} ({one.relation}), and there is only "
            f"{_places(policy, facts.repos)}: add the repository that has it, or take another "
            f"version of {one.package}"
        )
    best = fitting[0]
    if best.version == policy.candidate:
        return ""
    wish = f"{name}={best.version}"
    if name in facts.versions:
        return (
            f"{one.package} needs {name} {best.version}: ask for {wish} in place of "
            f"{name}={facts.versions[name]}, or leave out {one.package}"
        )
    taken = next((offer for offer in policy.offers if offer.version == policy.candidate), None)
    if taken is None or best.priority >= taken.priority or set(best.sites) & set(taken.sites):
        return (
            f"{one.package} needs {name} {best.version}, and {policy.candidate} is taken: "
            f"ask for {wish}, too"
        )
    names = facts.repos
    place = ", ".join(dict.fromkeys(names[site] for site in best.sites if site < len(names)))
    return (
        f"{one.package} needs {name} {best.version}, which is in {place}, but its "
        f"priority ({best.priority}) holds it back: ask for {wish}, too, "
        f"or raise its priority in repos.{place.partition(',')[0]}.pins"
    )
