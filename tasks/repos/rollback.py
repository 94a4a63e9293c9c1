"""Whether a Release may follow the one that a lock names: no older one, no other suite's.

A mirror, or who is between, can replay any Release that its keys ever signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..debian.deb822 import seconds
from ..errors import RepositoryFault
from ..plan.lockfile import LockedRepo
from ..spec.model import Repo


def of_suite(fields: Mapping[str, str], suite: str) -> bool:
    """Whether a Release is of the suite asked for, as apt's own CheckDist decides it."""
    wanted = {suite, suite.rpartition("/")[0] or suite}
    named = {fields.get(name, "") for name in ("Suite", "Codename")}
    return bool(wanted & named)


def before(repos: Sequence[Repo], locked: Sequence[LockedRepo]) -> dict[str, LockedRepo]:
    """The locked record of each repository by its name; a new name may be of one that had another.

    That is of the same suite, and of an archive that says who it is.
    """
    found = {one.name: one for one in locked}
    names = {repo.name for repo in repos}
    renamed = [one for one in locked if one.name not in names and one.fields.get("Origin")]
    for repo in repos:
        if repo.name not in found:
            same = [one for one in renamed if of_suite(one.fields, repo.suite)]
            if len(same) == 1:
                found[repo.name] = same[0]
    return found


def check(
    repo: Repo, was: LockedRepo, fields: Mapping[str, str], where: str, *, keeping: bool = False
) -> None:
    """RepositoryFault if a Release with these fields goes back behind the locked one.

    `keeping`: with lock=keep, which asks only because the spec has changed, so it is no remedy.

    A mirror of another archive (Origin, Label) or a suite that the spec has changed is another
    repository, and no older one. Without a Date on both sides there is nothing to compare.
    """
    if not repo.check_rollback:
        return
    if any(fields.get(name, "") != was.fields.get(name, "") for name in ("Origin", "Label")):
        return
    instead = "undo what the spec changed" if keeping else "build with lock=keep or lock=frozen"
    hint = (
        f"use another mirror, or {instead}; to go back on purpose, set "
        f"repos.{repo.name}.check_rollback: false"
    )
    names = ("Suite", "Codename")
    was_asked, is_asked = of_suite(was.fields, repo.suite), of_suite(fields, repo.suite)
    if was_asked and not is_asked and any(fields.get(name) for name in names):
        told = " ".join(fields[name] for name in names if fields.get(name))
        raise RepositoryFault(
            f"{where}: the Release in the place of {repo.suite}'s is that of {told}", hint
        )
    if was_asked != is_asked or (
        not is_asked and any(fields.get(name, "") != was.fields.get(name, "") for name in names)
    ):
        return
    before, now = seconds(was.date), seconds(fields.get("Date", ""))
    if before is not None and now is not None and now < before:
        raise RepositoryFault(
            f"{where}: its Release of {fields['Date']} is older than the lock's of {was.date}", hint
        )
