"""Parent + packages + files + script → layer tarball: apt runs confined, from locked .debs only."""

from __future__ import annotations

import functools
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError, CommandFailed
from ..host.files import sha256_of
from ..host.sandbox import Step, step
from ..host.tools import ENV
from ..plan import scripts
from ..plan.entries import Entry, Script, identified
from ..plan.job import LayerJob
from ..plan.settings import setting_files
from ..repos.fetch import fetch
from ..repos.pool import local_repository
from ..rootfs import dpkg, identities
from ..rootfs.overlay import Upper
from ..rootfs.paths import find_in
from ..spec.words import field_of_layer
from . import own
from .files import files_step, files_tar, owner_steps, reached_steps
from .inside import INSIDE, SHELL, Finish, Place, finish, place, shell
from .install import PRESEED, apt_steps, give
from .machine import (
    REMOVED,
    account_steps,
    give_accounts,
    remove_steps,
    service_steps,
    told_removed,
)
from .shown import shown_env, shown_steps, with_locale
from .status import Installing

NOTES = (*own.NOTES, REMOVED)


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
            steps += [*account_steps(job), *_file_steps(job), *service_steps(job)]
            _run(job, here, upper, epoch, _phases(job, steps))
            builder.log.step("packing")
            _check(job, here, upper)
            mine = _mine(job, here, upper)
            drawn = _drawn(job, here, upper, epoch, mine, written)
            facts = told_removed(here)
            finish(here, upper, Finish(epoch=epoch, mine=mine, drawn=drawn, facts=facts))


def _shown(job: LayerJob) -> dict[str, str]:
    """The settings that packages and the script are shown, with their texts."""
    shown: dict[str, str] = job.stage.inputs["shown"]
    return shown


def _install_steps(job: LayerJob, here: Place, epoch: int) -> tuple[list[Step], Sequence[str]]:
    """(the steps up to the last package, debconf's answers for them)."""
    shown, answers = _shown(job), job.answers
    entries = here.without_contradiction(setting_files(shown))
    steps: list[Step] = []
    if shown:
        files_tar(here.folder / "shown.tar", entries, epoch)
        answered = False
        if find_in(here.builder.trees.folder, here.lower, "etc/locale.gen") is None:
            answers = with_locale(job.answers, job.answers_below, shown.get("locale", ""))
            answered = answers != job.answers
        steps += shown_steps(shown, answered)
    if answers and not job.stage.inputs["debconf"]:
        # Not the layer's own, which are in its key, but made of what is in those below.
        steps.append(step(*PRESEED, shown=""))
    return [*steps, *apt_steps(job.stage.inputs)], answers


def _write_files(job: LayerJob, here: Place, epoch: int) -> list[list[Any]]:
    """The tar of `files` and the script, as the sandbox is given them; the files' identities.

    BuildError where they are not what the key was made of.
    """
    written: list[list[Any]] = []
    if job.entries:
        written = files_tar(here.folder / "files.tar", job.entries, epoch)
        _unchanged(job, job.stage.inputs["files"], written)
    give_accounts(here.folder, job)
    for name in NOTES:
        (here.folder / Path(name).name).touch()
    digests = give_scripts(job, here.folder)
    if digests:
        names = ", ".join(script.path for script in job.scripts)
        keyed = [[names, job.stage.inputs["script"]]]
        _unchanged(job, keyed, [[names, identified(digests)]])
    return written


def give_scripts(job: LayerJob, folder: Path) -> list[tuple[Script, str]]:
    """Write the scripts as the sandbox is given them; each with the SHA-256 of what it is."""
    digests = []
    for number, script in enumerate(job.scripts):
        target = folder / script_name(number)
        if script.source is not None:
            shutil.copyfile(script.source, target)
        else:
            target.write_bytes(script.content)
        target.chmod(0o755)
        digests.append((script, sha256_of(target)))
    return digests


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
    where = field_of_layer(job.spec, job.stage.name, "files")
    reached = reached_steps(job.entries, where)
    exact = [
        step("chmod", f"{entry.mode:04o}", "--", entry.target)
        for entry in job.entries
        if entry.exact
    ]
    return [*owner_steps(job.entries, where), *reached, files_step(job.entries), *reached, *exact]


def script_name(number: int) -> str:
    """What a script is called in the sandbox: the first one as ever."""
    return "script" if number == 0 else f"script-{number}"


def _script_steps(script: Script, number: int) -> list[Step]:
    """What runs a script, once the image is seen to have what it is run by."""
    # It sees what an image has below /usr/local, for its own users, too.
    path = ENV["PATH"]
    given = [f"{name}={text}" for name, text in script.env.items()]
    command = ["env", f"PATH={path}", *given, *(["/bin/sh"] if script.program.by_shell else [])]
    needs = scripts.needs(script.program, script.where, script.path)
    inside = f"{INSIDE}/{script_name(number)}"
    return [
        step("/bin/sh", "-c", f"PATH={path}\n{needs}", shown=""),
        step(
            *command,
            inside,
            title=f"running {script.name}",
            blame=script.path,
            shown=shlex.join([*given, script.path]),
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps that run in one sandbox: a script that sees the network has one of its own."""

    network: bool
    steps: list[Step]


def _phases(job: LayerJob, steps: Sequence[Step]) -> list[Phase]:
    """All steps of a layer: these first, then its scripts, then what is removed."""
    phases = [Phase(network=False, steps=list(steps))]
    if job.scripts:
        phases[0].steps.append(
            step("/bin/sh", "-c", f"exec /bin/sh {SHELL}/note-before.sh {own.patterns()}", shown="")
        )
    for number, script in enumerate(job.scripts):
        if script.network != phases[-1].network:
            phases.append(Phase(network=script.network, steps=[shell("note-before")]))
        phases[-1].steps.extend(_script_steps(script, number))
    if job.remove and phases[-1].network:
        phases.append(Phase(network=False, steps=[]))
    left = [shell("note-after", str(own.LEFT_LINES))] if job.scripts else []
    phases[-1].steps.extend(remove_steps(job))
    found = []
    for phase in phases:
        inner = [*phase.steps, *left]
        if phase.network:
            inner = [shell("set-network"), *inner, shell("unset-network")]
        steps = [shell("set-policy"), *inner, shell("unset-policy", title="tidying up")]
        found.append(Phase(network=phase.network, steps=steps))
    return found


def _run(job: LayerJob, here: Place, upper: Upper, epoch: int, phases: Sequence[Phase]) -> None:
    for account in job.users:
        if len(account.shadow) > 3:
            here.builder.log.hide(account.shadow)
    notes = [(str(here.folder / Path(name).name), name) for name in NOTES]
    shown = _shown(job)
    names = [
        scripts.naming(f"{INSIDE}/{script_name(number)}", script.path)
        for number, script in reversed(list(enumerate(job.scripts)))
    ]

    def naming(text: str) -> str:
        return functools.reduce(lambda line, named: named(line), names, text)

    installing = Installing(here.builder.log, len(job.records))
    for phase in phases:
        env = shown_env(shown)
        if phase.network:
            env |= give_network(here)
        sandbox = here.sandbox(upper, epoch, shown, env, notes, network=phase.network)
        try:
            sandbox.run(
                *phase.steps,
                log=here.builder.log,
                what=f"layer {job.stage.name}",
                shown=naming,
                telling=installing,
                visit=here.builder.visit,
            )
        except CommandFailed as error:
            error.packages = tuple(installing.failed)
            raise


def give_network(here: Place) -> dict[str, str]:
    """Write what set-network.sh needs; the variables of whoever sees the network."""
    (here.folder / "resolv.conf").write_bytes(_resolv_conf())
    reach = here.builder.reach
    found = {f"{scheme}_proxy": address for scheme, address in reach.proxies.items()}
    return found | {"no_proxy": ",".join(reach.direct)}


def _resolv_conf() -> bytes:
    """Where this host has names looked up."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return b""


def _check(job: LayerJob, here: Place, upper: Upper) -> None:
    """BuildError unless what is installed is what is locked, and no file given below was lost."""
    name = job.stage.name
    if job.configured:
        text = dpkg.dpkg_status(upper.base, [upper.name, *here.lower])
        script = ", ".join(one.path for one in job.scripts)
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
    where = field_of_layer(job.spec, job.stage.name, "files")
    mine = own.files_made(own.places(upper.base, [upper.name, *here.lower], job.entries, where))
    if job.scripts:
        before, left = (own.noted(here.folder / Path(name).name) for name in own.NOTES)
        mine |= own.script_made(upper.path, own.sums(before))
        if left:
            names = ", ".join(one.name for one in job.scripts)
            here.builder.say(own.warning(job.stage.name, names, left))
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
