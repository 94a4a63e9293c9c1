"""Hostname, time zone, locale, password and apt sources: the last layer of a tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ..builder import Builder
from ..host.sandbox import Step, step
from ..plan.entries import Entry
from ..plan.job import SettingsJob
from ..rootfs import dpkg
from .files import files_step, files_tar, owner_steps, reached_steps
from .inside import Finish, finish, place, shell
from .install import give
from .shown import generated, locale_line


def build(job: SettingsJob, builder: Builder) -> None:
    """Make the layer and put it into the cache."""
    if job.shadow:
        # The tree's own locale-gen sees it, and may print what it likes.
        builder.log.hide(job.shadow)
    with place(job, builder) as here:
        epoch = here.epoch(0)
        entries = here.without_contradiction(job.entries)
        give(here.folder, ())
        shadow = here.folder / "shadow"
        shadow.touch(mode=0o600)
        shadow.write_text(re.sub(r"[:\n]", "", job.shadow))
        if entries:
            files_tar(here.folder / "files.tar", entries, epoch)
        with builder.trees.upper(job.stage, here.lower) as upper:
            what = f"layer {job.stage.name}"
            here.sandbox(upper, epoch, {}, {}).run(
                *_steps(job, entries), log=builder.log, what=what
            )
            builder.log.step("packing")
            if job.configured:
                text = dpkg.dpkg_status(upper.base, [upper.name, *here.lower])
                dpkg.check_installed(text, job.installed, job.arch, what)
            finish(here, upper, Finish(epoch=epoch))


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
    if job.locale and generated(job.locale):
        steps.append(
            _needed(
                "/usr/sbin/locale-gen",
                f"{job.spec}: locale: the image cannot make {job.locale}; add the package locales",
            )
        )
        steps.append(shell("add-locale", *locale_line(job.locale)))
        steps.append(step("locale-gen", title=f"generating {job.locale}"))
    if field := job.password_field:
        steps.append(
            shell(
                "set-password",
                f"error: {job.spec}: {field}: a package or a script has given root a password, or "
                f"locked the account: leave that out, or {field}",
                title="setting the password",
            )
        )
    return [*steps, shell("unset-policy", title="tidying up")]


def _needed(path: str, message: str) -> Step:
    return step(
        "/bin/sh",
        "-c",
        f"test -e {shlex.quote(path)} || {{ echo {shlex.quote('error: ' + message)}; exit 1; }}",
    )
