"""Hostname, time zone, locales, password, fstab, version …: the last layer of a tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..builder import Builder
from ..host.sandbox import Step, step
from ..plan import fstab
from ..plan.entries import Entry
from ..plan.job import SettingsJob
from ..rootfs import dpkg
from ..rootfs.paths import find_in
from . import own
from .files import files_step, files_tar, owner_steps, reached_steps
from .inside import Finish, Place, finish, place, shell
from .install import give
from .machine import REMOVED, remove_steps, told_removed
from .shown import generated, locale_line


def build(job: SettingsJob, builder: Builder) -> None:
    """Make the layer and put it into the cache."""
    if job.shadow:
        # The tree's own locale-gen sees it, and may print what it likes.
        builder.log.hide(job.shadow)
    with place(job, builder) as here:
        epoch = here.epoch(0)
        here = replace(here, made={**_fstab_made(job, here), **here.made})
        entries = here.without_contradiction(job.entries, job.yields)
        give(here.folder, ())
        shadow = here.folder / "shadow"
        shadow.touch(mode=0o600)
        shadow.write_text(re.sub(r"[:\n]", "", job.shadow))
        if entries:
            files_tar(here.folder / "files.tar", entries, epoch)
        with builder.trees.upper(job.stage, here.lower) as upper:
            what = f"layer {job.stage.name}"
            noted = here.folder / Path(REMOVED).name
            noted.touch()
            here.sandbox(upper, epoch, {}, {}, [(str(noted), REMOVED)]).run(
                *_steps(job, entries), log=builder.log, what=what, visit=builder.visit
            )
            builder.log.step("packing")
            if job.configured:
                text = dpkg.dpkg_status(upper.base, [upper.name, *here.lower])
                dpkg.check_installed(text, job.installed, job.arch, what)
            finish(here, upper, Finish(epoch=epoch, facts=told_removed(here)))


def _fstab_made(job: SettingsJob, here: Place) -> dict[str, str]:
    """The topmost layer whose tree has an /etc/fstab that says something: a base's is a comment.

    By the trees themselves: a record of an older version does not tell of a script's, and a
    package may write one, too.
    """
    name = fstab.PATH.lstrip("/")
    for stage, lower in zip(reversed(job.below[1:]), here.lower, strict=False):
        path = find_in(here.builder.trees.folder, [lower], name)
        found = own.content(path) if path is not None else None
        if found is not None and any(
            line.strip() and not line.strip().startswith(b"#") for line in found[1].splitlines()
        ):
            return {name: stage.name}
    return {}


def _steps(job: SettingsJob, entries: Sequence[Entry]) -> list[Step]:
    """The commands that write and check the settings."""
    steps = [shell("set-policy")]
    if entries:
        where = f"{job.spec}: layers.{job.stage.name}.files"
        reached = reached_steps(entries, where)
        steps += [*owner_steps(entries, where), *reached, files_step(entries), *reached]
    if job.timezone:
        steps.append(
            _needed(
                f"/usr/share/zoneinfo/{job.timezone}",
                f"{job.spec}: timezone: the image has no zone {job.timezone}; "
                "add the package tzdata, and tzdata-legacy for an old name such as "
                "US/Eastern",
            )
        )
    steps += _locale_steps(job)
    if job.os_release:
        where = f"error: {job.spec}: version: "
        steps.append(shell("set-os-release", where, *job.os_release, title="setting the version"))
    if field := job.password_field:
        steps.append(
            shell(
                "set-password",
                f"error: {job.spec}: {field}: a package or a script has given root a password, or "
                f"locked the account: leave that out, or {field}",
                title="setting the password",
            )
        )
    return [*steps, *remove_steps(job), shell("unset-policy", title="tidying up")]


def _locale_steps(job: SettingsJob) -> list[Step]:
    """The commands that generate `locale` and `locales`, all at once."""
    named = [("locale", job.locale), *(("locales", one) for one in job.locales)]
    wanted = [(field, one) for field, one in named if one and generated(one)]
    if not wanted:
        return []
    field, first = wanted[0]
    reason = f"{job.spec}: {field}: the image cannot make {first}; add the package locales"
    return [
        _needed("/usr/sbin/locale-gen", reason),
        *(shell("add-locale", *locale_line(one), "", field) for field, one in wanted),
        step("locale-gen", title=f"generating {', '.join(one for _field, one in wanted)}"),
    ]


def _needed(path: str, message: str) -> Step:
    return step(
        "/bin/sh",
        "-c",
        f"test -e {shlex.quote(path)} || {{ echo {shlex.quote('error: ' + message)}; exit 1; }}",
    )
