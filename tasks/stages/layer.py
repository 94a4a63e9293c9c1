"""Parent + packages + files + script → layer tarball: apt runs confined, from locked .debs only."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..host.files import sha256_of
from ..host.sandbox import Step, step
from ..host.tools import ENV
from ..plan import scripts
from ..plan.entries import Entry, Script
from ..plan.job import LayerJob
from ..plan.settings import setting_files
from ..repos.fetch import fetch
from ..repos.pool import local_repository
from ..rootfs import dpkg, identities
from ..rootfs.overlay import Upper
from ..rootfs.paths import find_in
from . import own
from .files import files_step, files_tar, owner_steps, reached_steps
from .inside import INSIDE, SHELL, Finish, Place, finish, place, shell
from .install import PRESEED, apt_steps, give
from .shown import shown_env, shown_steps, with_locale


def build(job: LayerJob, builder: Builder) -> None:
    """Make a layer and put it into the cache."""
    if not job.has_apt:
        raise BuildError(
            f"{job.spec}: layers.{job.stage.name}: the base has no apt to install packages with",
            "add apt to base.include, or choose a variant that has it",
        )
    if job.late:
        builder.say(own.late(job.stage.name, job.late))
    fetch(job.records, builder)
    with place(job, builder) as here:
        paths = local_repository(here.folder / "repo", job.records, builder)
        epoch = here.epoch(dpkg.deb_epoch(paths))
        steps, answers = _install_steps(job, here, epoch)
        give(here.folder, answers)
        with builder.trees.upper(job.stage, here.lower) as upper:
            written = _write_files(job, here, epoch)
            steps += [*_file_steps(job), *_script_steps(job, here)]
            steps.append(shell("unset-policy", title="tidying up"))
            _run(job, here, upper, epoch, steps)
            builder.log.step("packing")
            _check(job, here, upper)
            mine = _mine(job, here, upper)
            drawn = _drawn(job, here, upper, epoch, mine, written)
            finish(here, upper, Finish(epoch=epoch, mine=mine, drawn=drawn))


def _shown(job: LayerJob) -> dict[str, str]:
    """The settings that packages and the script are shown, with their texts."""
    shown: dict[str, str] = job.stage.inputs["shown"]
    return shown


def _install_steps(job: LayerJob, here: Place, epoch: int) -> tuple[list[Step], Sequence[str]]:
    """(the steps up to the last package, debconf's answers for them)."""
    shown, answers = _shown(job), job.answers
    entries = here.without_contradiction(setting_files(shown))
    steps = [shell("set-policy")]
    if shown:
        files_tar(here.folder / "shown.tar", entries, epoch)
        answered = False
        if find_in(here.builder.trees.folder, here.lower, "etc/locale.gen") is None:
            answers = with_locale(job.answers, job.answers_below, shown.get("locale", ""))
            answered = answers != job.answers
        steps += shown_steps(shown, answered)
    if answers and not job.stage.inputs["debconf"]:
        # Not the layer's own, which are in its key, but made of what is in those below.
        steps.append(step(*PRESEED))
    return [*steps, *apt_steps(job.stage.inputs)], answers


def _write_files(job: LayerJob, here: Place, epoch: int) -> list[list[Any]]:
    """The tar of `files` and the script, as the sandbox is given them; the files' identities.

    BuildError where they are not what the key was made of.
    """
    written: list[list[Any]] = []
    if job.entries:
        written = files_tar(here.folder / "files.tar", job.entries, epoch)
        _unchanged(job, job.stage.inputs["files"], written)
    if job.script is not None:
        for name in own.NOTES:
            (here.folder / Path(name).name).touch()
        target = here.folder / "script"
        if job.script.source is not None:
            shutil.copyfile(job.script.source, target)
        else:
            target.write_bytes(job.script.content)
        target.chmod(0o755)
        keyed = [[job.script.path, job.stage.inputs["script"]]]
        _unchanged(job, keyed, [[job.script.path, sha256_of(target)]])
    return written


def _unchanged(job: LayerJob, keyed: Sequence[Any], given: Sequence[Any]) -> None:
    """BuildError when what goes into the tree is not what the key was made of, a while ago.

    Else the new bytes would be found under the old key for ever.
    """
    if list(keyed) != list(given):
        other = next((one for one, was in zip(given, keyed, strict=False) if one != was), None)
        raise BuildError(
            f"{job.spec}: layers.{job.stage.name}: {other[0] if other else 'files'} was changed "
            "while it was built",
            "run the same command again",
        )


def _file_steps(job: LayerJob) -> list[Step]:
    if not job.entries:
        return []
    where = f"{job.spec}: layers.{job.stage.name}.files"
    reached = reached_steps(job.entries, where)
    return [*owner_steps(job.entries, where), *reached, files_step(job.entries), *reached]


def _script_steps(job: LayerJob, here: Place) -> list[Step]:
    """What runs a layer's script, once the image is seen to have what it is run by."""
    if job.script is None:
        return []
    script: Script = job.script
    # It sees what an image has below /usr/local, for its own users, too.
    path = ENV["PATH"]
    command = ["env", f"PATH={path}", *(["/bin/sh"] if script.program.by_shell else [])]
    needs = scripts.needs(script.program, script.where, script.path)
    before = f"exec /bin/sh {SHELL}/note-before.sh {own.patterns()}"
    return [
        step("/bin/sh", "-c", before),
        step("/bin/sh", "-c", f"PATH={path}\n{needs}"),
        step(*command, f"{INSIDE}/script", title=f"running {script.name}", blame=script.path),
        shell("note-after", str(own.LEFT_LINES)),
    ]


def _run(job: LayerJob, here: Place, upper: Upper, epoch: int, steps: Sequence[Step]) -> None:
    notes = [(str(here.folder / Path(name).name), name) for name in own.NOTES] if job.script else []
    shown = _shown(job)
    sandbox = here.sandbox(upper, epoch, shown, shown_env(shown), notes)
    naming = scripts.naming(f"{INSIDE}/script", job.script.path) if job.script else None
    sandbox.run(*steps, log=here.builder.log, what=f"layer {job.stage.name}", shown=naming)


def _check(job: LayerJob, here: Place, upper: Upper) -> None:
    """BuildError unless what is installed is what is locked, and no file given below was lost."""
    name = job.stage.name
    if job.configured:
        text = dpkg.dpkg_status(upper.base, [upper.name, *here.lower])
        script = job.script.path if job.script is not None else ""
        dpkg.check_installed(text, job.installed, job.arch, f"layer {name}", script)
    if lost := own.replaced(upper, here.lower, job.given_below, job.entries):
        does = (
            f"the upgrade or removal of {lost.package} takes away"
            if lost.removes
            else f"its package {lost.package} replaces"
        )
        raise BuildError(
            f"{job.spec}: layers.{name}: {does} {lost.target}, which files of the layer "
            f"{lost.layer} gave",
            f"give it in the layer {name} or in a later one: files come after packages",
        )


def _mine(job: LayerJob, here: Place, upper: Upper) -> set[str]:
    """What the layer's files and script put where a build cleans; the rest it left is told."""
    where = f"{job.spec}: layers.{job.stage.name}.files"
    mine = own.files_made(own.places(upper.base, [upper.name, *here.lower], job.entries, where))
    if job.script is not None:
        before, left = (own.noted(here.folder / Path(name).name) for name in own.NOTES)
        mine |= own.script_made(upper.path, own.sums(before))
        if left:
            here.builder.say(own.warning(job.stage.name, job.script.name, left))
    return mine


def _drawn(
    job: LayerJob,
    here: Place,
    upper: Upper,
    epoch: int,
    mine: set[str],
    written: Sequence[Sequence[Any]],
) -> list[identities.Notice]:
    """What its packages drew by chance, which is removed or made neutral where it can be."""
    if not job.records:
        return []
    entries: Sequence[Entry] = job.entries
    return identities.sweep(
        identities.Tree(
            upper=upper.path,
            epoch=epoch,
            below=functools.partial(find_in, upper.base, here.lower),
            kept={*mine, *here.made, *(entry.target.lstrip("/") for entry in entries)},
            given={one[2] for one in written if one[1] == "file"},
        )
    )
