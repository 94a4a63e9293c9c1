"""Accounts, services and what is removed: the steps of a layer that its own tools make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.sandbox import Step
from ..plan.job import LayerJob, SettingsJob
from ..spec.words import counted, field_of_layer
from . import own
from .inside import INSIDE, Place, shell

ACCOUNTS = "accounts"
REMOVED = "/dev/.strata/removed"
"""Where the sandbox writes what was removed: a file of scratch, bound there."""

DOING = {"enable": "enabling", "disable": "disabling", "mask": "masking"}


def give_accounts(folder: Path, job: LayerJob) -> None:
    """Write what of the users may stand in no command: passwords, and keys."""
    if not job.users:
        return
    (folder / ACCOUNTS).mkdir()
    for account in job.users:
        for kind, text in (("shadow", account.shadow), ("keys", account.keys)):
            path = folder / ACCOUNTS / f"{account.user.name}.{kind}"
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")


def account_steps(job: LayerJob) -> list[Step]:
    """The commands that make groups and users, after the packages and before the files."""
    name = job.stage.name
    steps = [
        shell(
            "make-group",
            field_of_layer(job.spec, name, f"groups.{group.name}"),
            group.name,
            "" if group.gid is None else str(group.gid),
            "system" if group.system else "",
            title=f"making the group {group.name}",
        )
        for group in job.groups
    ]
    for account in job.users:
        user = account.user
        steps.append(
            shell(
                "make-user",
                field_of_layer(job.spec, name, f"users.{user.name}"),
                user.name,
                "" if user.uid is None else str(user.uid),
                user.home,
                user.shell,
                user.comment,
                ",".join(user.groups),
                user.sudo,
                "system" if user.system else "",
                f"{INSIDE}/{ACCOUNTS}/{user.name}",
                title=f"making the user {user.name}",
            )
        )
    return steps


def service_steps(job: LayerJob) -> list[Step]:
    """The commands that enable, disable and mask units, after the files."""
    where = field_of_layer(job.spec, job.stage.name, "services")
    return [
        shell("set-units", f"{where}.{verb}", verb, *units, title=f"{DOING[verb]} {_told(units)}")
        for verb, units in job.services.given.items()
    ]


def _told(units: Sequence[str]) -> str:
    return units[0] if len(units) == 1 else counted(len(units), "unit")


def remove_steps(job: LayerJob | SettingsJob) -> list[Step]:
    """The commands that take out what the spec removes, last of all."""
    steps = []
    if job.remove:
        title = f"removing {counted(len(job.remove), 'pattern')} of files"
        steps.append(shell("remove", REMOVED, *job.remove, title=title))
    if isinstance(job, SettingsJob) and not job.docs:
        steps.append(shell("remove-docs", REMOVED, title="removing documentation"))
    return steps


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one pattern of `remove` took out of a tree."""

    pattern: str
    files: int
    there: bool

    @property
    def told(self) -> str:
        """For people."""
        if not self.there:
            return f"nothing: {self.pattern} is not in the image"
        return f"{self.pattern}: {counted(self.files, 'file')}"

    @property
    def fact(self) -> list[Any]:
        """For its record."""
        return [self.pattern, self.files]


def told_removed(here: Place) -> dict[str, Any]:
    """Says what was removed, as the steps noted it; the record's fact of it, if there is any.

    What a package's script writes there is as good as its word: some pattern, some number.
    """
    found = []
    for line in own.noted(here.folder / Path(REMOVED).name).splitlines():
        words = re.fullmatch(r"([0-9]{1,9}) ([0-9]{1,9}) (.+)", line)
        if words and words[3].isprintable():
            found.append(Removed(pattern=words[3], files=int(words[1]), there=words[2] != "0"))
    name = here.job.stage.name
    for one in found:
        here.builder.say(f"  layer {name}: removed {one.told}")
    return {"removed": [one.fact for one in found]} if found else {}
