"""Parent + packages + files + script → layer tarball: apt runs confined, from locked .debs only."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host.files import remove_tree
from ..host.log import Log
from ..host.sandbox import DPKG_CAPABILITIES, Sandbox, Step, step
from ..host.tools import ENV
from ..plan import scripts
from ..plan.entries import file_digest, layer_entries, script_program
from ..plan.inputs import settings_identity
from ..plan.lockfile import LockedLayer
from ..plan.passwords import is_password, shadow_field
from ..plan.plan import late_answers
from ..plan.stage import Stage
from ..repos.fetch import fetch
from ..repos.pool import local_repository
from ..rootfs import clean, debconf, dpkg, identities, measure, tarball
from ..rootfs.paths import find_in
from ..session.session import Session
from ..spec import given
from ..spec.model import Layer, Spec
from ..store.record import Entry
from . import own
from .files import files_step, files_tar, owner_steps, reached_steps
from .install import (
    DPKG,
    INSIDE,
    MKINITRAMFS,
    POLICY,
    PRESEED,
    SET_POLICY,
    UNSET_POLICY,
    apt_steps,
    inside_apt_conf,
    preseeds,
)
from .settings import (
    own_of,
    settings_entries,
    settings_steps,
    shown_env,
    shown_steps,
    uncontradicted,
    with_locale,
)

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Of all but the user's script: what an image has below /usr/local is for its own users, and an
apt-get of theirs steers no installation."""


def script_steps(script: Path, where: str, spec: Spec) -> list[Step]:
    """What runs a layer's script, once the image is seen to have what it is run by."""
    found = script_program(script, where, spec)
    command = ["env", f"PATH={ENV['PATH']}", *(["/bin/sh"] if found.by_shell else [])]
    needs = f"PATH={ENV['PATH']}\n{scripts.needs(found, where, str(script))}"
    return [
        step("/bin/sh", "-c", needs),
        step(*command, f"{INSIDE}/script", title=f"running {script.name}", blame=str(script)),
    ]


def locale_file(folder: Path, lower: Sequence[str]) -> str:
    """Where a stack of trees has the LANG of all: since Debian 13 /etc/default/locale is a link.

    systemd reads only what it leads to there, so the link is not to be replaced.
    """
    path = find_in(folder, lower, "etc/default/locale")
    # As text: nothing of a tree is followed on the host.
    leads = os.readlink(path) if path is not None and path.is_symlink() else "locale"
    place = os.path.normpath(os.path.join("/etc/default", leads))
    return place if place == given.LOCALE_CONF else "/etc/default/locale"


# ---------------------------------------------------------------- the stage


def build(session: Session, number: int, log: Log) -> None:
    """Make layer `number` of the plan and put it into the cache."""
    spec, plan = session.spec, session.plan
    stage = plan.layers[number]
    below = plan.tree[: number + 1]
    settings = number >= len(spec.layers)
    layer = Layer(name="settings") if settings else spec.layers[number]
    locked = LockedLayer(name=layer.name, records=(), removes=())
    if not settings:
        locked = next(one for one in plan.lock.layers if one.name == layer.name)
        if late := late_answers(spec, plan.lock, number):
            session.screen.line(own.late(layer.name, late))
    if locked.records:
        # Passwords are in no layer once it is done; these packages may ask for those given below.
        earlier_answers = [line for lower in spec.layers[:number] for line in lower.debconf
                           if is_password(line)]  # fmt: skip
        layer = replace(layer, debconf=(*earlier_answers, *layer.debconf))
    installed = plan.lock.installed(number + 1)
    if locked.records or locked.removes:
        known = {record.package for record in plan.lock.installed(number)}
        if "apt" not in known:
            raise BuildError(
                f"{spec.path}: layers.{layer.name}: the base has no apt to install packages with",
                "add apt to base.include, or choose a variant that has it",
            )
    fetch(locked.records, session.cache, session.uris, spec, session.scratch, log)
    given_folder = session.scratch / f"in-{stage.key}"
    remove_tree(given_folder)
    given_folder.mkdir()
    given_folder.chmod(0o755)
    paths = local_repository(given_folder / "repo", locked.records, session.cache, log)
    lower = session.trees.lower(below, log)
    epoch = _epoch(session, stage, below[-1], paths)
    made = own_of(session, number)
    lang = locale_file(session.trees.folder, lower)
    entries = (
        settings_entries(session, made.keys(), locale_file=lang)
        if settings
        else layer_entries(layer, spec)
    )
    shown: dict[str, str] = stage.inputs.get("shown", {})
    showing = []
    if shown:
        showing = settings_entries(session, made.keys(), shown.keys(), locale_file=lang)
    uncontradicted(spec, entries if settings else showing, made, session.trees.folder, lower)
    steps = [step("/bin/sh", "-e", "-c", SET_POLICY)]
    if shown:
        files_tar(given_folder / "shown.tar", showing, epoch)
        answered = False
        if find_in(session.trees.folder, lower, "etc/locale.gen") is None:
            was, layer = layer, with_locale(layer, spec.layers[:number], shown.get("locale", ""))
            answered = layer is not was
        steps += shown_steps(shown, answered)
    if layer.debconf and not stage.inputs.get("debconf"):
        # Not the layer's own, which are in its key, but made of what is in those below.
        steps.append(step(*PRESEED))
    if not settings:
        steps += apt_steps(stage.inputs)
    with session.trees.upper(stage, lower) as upper:
        sandbox = Sandbox(
            base=upper.base, mounts=[upper.mount("root")], root="root",
            binds=[(str(given_folder), INSIDE)],
            writable=[(str(given_folder / Path(name).name), name)
                      for name in own.NOTES if layer.script is not None],
            keep=DPKG_CAPABILITIES, cwd="/",
            arches=[spec.arch, *spec.foreign],
            env={"SOURCE_DATE_EPOCH": str(epoch), "APT_CONFIG": f"{INSIDE}/apt.conf",
                 "SYSTEMD_OFFLINE": "1", "HOME": "/root", "PATH": PATH, **shown_env(shown)},
            hostname=shown.get("hostname", "localhost"),
        )  # fmt: skip
        _give(given_folder, layer, session, stage, settings, log)
        given_files: list[list[Any]] = []
        if entries:
            given_files = files_tar(given_folder / "files.tar", entries, epoch)
            if not settings:
                _unchanged(spec, layer, stage.inputs["files"], given_files)
            where = f"{spec.path}: layers.{layer.name}.files"
            steps += owner_steps(entries, where)
            reached = reached_steps(entries, where)
            steps += [*reached, files_step(entries), *reached]
        if settings:
            now = settings_identity(spec, plan.lock, session.mirrors)
            _unchanged(spec, layer, [["a keyring", stage.inputs["settings"]]], [["a keyring", now]])
            steps += settings_steps(session)
        if layer.script is not None:
            steps.append(own.before_step())
            steps += script_steps(layer.script, f"{spec.path}: layers.{layer.name}.script", spec)
            steps.append(own.after_step())
        steps.append(step("/bin/sh", "-e", "-c", UNSET_POLICY, title="tidying up"))
        naming = scripts.naming(f"{INSIDE}/script", str(layer.script)) if layer.script else None
        sandbox.run(*steps, log=log, what=f"layer {layer.name}", shown=naming)
        log.step("packing")
        if _is_debian(session):
            text = dpkg.dpkg_status(upper.base, [upper.name, *lower])
            script = f"{layer.script}" if layer.script is not None else ""
            dpkg.check_installed(text, installed, spec.arch, f"layer {layer.name}", script)
        if lost := own.replaced(upper, lower, _given_below(spec, number), entries):
            does = (f"the upgrade or removal of {lost.package} takes away" if lost.removes
                    else f"its package {lost.package} replaces")  # fmt: skip
            raise BuildError(
                f"{spec.path}: layers.{layer.name}: {does} {lost.target}, "
                f"which files of the layer {lost.layer} gave",
                f"give it in the layer {layer.name} or in a later one: files come after packages",
            )  # fmt: skip
        mine: set[str] = set()
        if not settings:
            where = f"{spec.path}: layers.{layer.name}.files"
            mine = own.files_made(own.places(upper.base, [upper.name, *lower], entries, where))
        if layer.script is not None:
            before, left = (own.noted(given_folder / Path(name).name) for name in own.NOTES)
            mine |= own.script_made(upper.path, own.sums(before))
            if left:
                session.screen.line(own.warning(layer, left))
        drawn = []
        if locked.records:
            drawn = identities.sweep(identities.Tree(
                upper=upper.path, epoch=epoch,
                below=functools.partial(find_in, upper.base, lower),
                kept={*mine, *made, *(entry.target.lstrip("/") for entry in entries)},
                given={one[2] for one in given_files if one[1] == "file"},
            ))  # fmt: skip
        identities.note(drawn, log)
        clean.sweep(upper.path, kept={*mine, *own.shielded(upper, lower, made)})
        debconf.sweep(upper.base, upper.name, lower)
        rare = clean.clamp_times(upper.path, epoch, upper.begun)
        if rare.sockets:
            session.screen.line(own.sockets(layer.name, rare.sockets))
        facts = {**measure.facts(epoch, installed, upper.path), "drawn": identities.facts(drawn)}
        if mine:
            facts["own"] = sorted(mine)
        with session.cache.put(stage, facts) as target:
            tarball.pack(upper.path, target, log, rare=rare, size=facts["size"])
    remove_tree(given_folder)


def _given_below(spec: Spec, number: int) -> dict[str, str]:
    """What `files` of the layers below this one gave: by target the layer's name."""
    return {entry.target: layer.name for layer in spec.layers[:number]
            for entry in layer_entries(layer, spec) if entry.kind != "folder"}  # fmt: skip


def _unchanged(spec: Spec, layer: Layer, keyed: Sequence[Any], given: Sequence[Any]) -> None:
    """BuildError when what goes into the tree is not what the key was made of, a while ago.

    Else the new bytes would be found under the old key for ever.
    """
    if list(keyed) != list(given):
        other = next((one for one, was in zip(given, keyed, strict=False) if one != was), None)
        raise BuildError(
            f"{spec.path}: layers.{layer.name}: {other[0] if other else 'files'} was changed while "
            "it was built", "run the same command again"
        )  # fmt: skip


def _is_debian(session: Session) -> bool:
    return session.spec.base.variant != "extract"


def _epoch(session: Session, stage: Stage, parent: Stage, paths: Sequence[Path]) -> int:
    """SOURCE_DATE_EPOCH, or the newest date of this layer's .debs and its parent, in seconds."""
    if stage.inputs["epoch"] is not None:
        return int(stage.inputs["epoch"])
    entry: Entry = session.cache.require(parent)
    return max(int(entry.facts["epoch"]), dpkg.deb_epoch(paths))


def _give(
    folder: Path, layer: Layer, session: Session, stage: Stage, settings: bool, log: Log
) -> None:  # fmt: skip
    """Fill the folder that the sandbox sees at INSIDE."""
    (folder / "policy-rc.d").write_text(POLICY)
    (folder / "apt.conf").write_text(inside_apt_conf(own=False))
    (folder / "own.conf").write_text(inside_apt_conf(own=True))
    (folder / "dpkg").write_text(DPKG)
    (folder / "dpkg").chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin/mkinitramfs").write_text(MKINITRAMFS)
    (folder / "bin/mkinitramfs").chmod(0o755)
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{INSIDE}/repo ./\n")
    if layer.debconf:
        (folder / "debconf").mkdir()
        for number, text in enumerate(preseeds(layer.debconf)):
            (folder / f"debconf/{number:06}").write_text(text, encoding="utf-8")
    if layer.script is not None:
        for name in own.NOTES:
            (folder / Path(name).name).touch()
        shutil.copyfile(layer.script, folder / "script")
        (folder / "script").chmod(0o755)
        digest = [str(layer.script), file_digest(folder / "script")]
        _unchanged(session.spec, layer, [[digest[0], stage.inputs["script"]]], [digest])
    if settings:
        shadow = shadow_field(session.spec, session.plan.lock)
        path = folder / "shadow"
        path.touch(mode=0o600)
        path.write_text(re.sub(r"[:\n]", "", shadow))
        if shadow:
            # The tree's own locale-gen sees it, and may print what it likes.
            mask = log.mask
            log.mask = lambda text: mask(text.replace(shadow, "***"))
