"""What a run needs of this host and its user, asked before any work is begun."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from ..host import space
from ..host.scratch import scratch_folder
from ..plan.stage import TREE, Stage, tools_of
from ..plan.tools import MODULES

if TYPE_CHECKING:
    from .session import Session


def need_arch(session: Session, *, early: bool = False) -> None:
    """BuildError where this host cannot run the spec's programs.

    `early`, before anything is asked or fetched: unless all that is wanted is in the cache.
    """
    spec = session.spec
    runs = spec.base.variant != "extract" or spec.layers or spec.settings
    if not runs or "arch" in session.tried:
        return
    from ..host import arches

    if not arches.native(spec.arch):
        with scratch_folder() as folder:
            refusal = arches.refusal(spec.arch, folder)
        if refusal is not None:
            # Another session, since this one's plan is made of what the lock will be.
            kept = session.again()
            if early and kept.complete():
                return
            raise refusal.retold(lambda message: f"{spec.path}: {message}")
    session.tried.add("arch")


def need_host(session: Session, stage: Stage) -> None:
    """BuildError where this host lets no stage be made: what it does is tried, once each."""
    from ..host import trials

    failure = None
    try:
        if "sandbox" not in session.tried:
            failure = trials.sandbox(session.scratch)
            session.tried.add("sandbox")
        if loops(stage):
            if not failure and "loop" not in session.tried:
                failure = trials.loop(session.scratch)
            session.tried.add("loop")
    except OSError as error:
        if error.errno not in space.HOST_ERRORS:
            raise
        raise session.explained(error, stage.title) from error
    if failure:
        session.tried.clear()
        full = space.full_places(session.places)
        # An overlay whose folder for work could not be made is mounted, but read-only.
        if failure.errno in (errno.ENOSPC, errno.EDQUOT) or (full and failure.errno == errno.EROFS):
            raise space.no_room(stage.title, session.places, full or ["scratch"])
        raise failure.error()


def need_root_first(session: Session) -> None:
    """BuildError, before anything is asked or written, if a build will need root for a stage.

    Whoever is not root may still publish what the cache has.
    """
    if os.geteuid() == 0:
        return
    lock = session.read_lock()
    lacking = "base"
    if lock is not None and session.fits(lock):
        stages = [stage for stage in session.ends if not session.exchange.within_reach(stage)]
        if not stages:
            return
        lacking = stages[0].name
    may = os.access(session.root, os.W_OK)
    here = "" if may else f", and this user may not write to {session.root} (Permission denied)"
    raise BuildError(f"building {lacking} needs root{here}", "run the same command with sudo")


def need_tests_first(session: Session) -> None:
    """BuildError, before anything is made, if a boot test is to run that cannot."""
    if not session.spec.tests:
        return
    try:
        build = session.told.forecast.build
    except BuildError:
        return  # told by the stage that needs it
    for stage in build:
        need_test(session, stage)


def need_test(session: Session, stage: Stage) -> None:
    """BuildError for a boot test that cannot run; nothing for any other stage."""
    if stage.kind == "test":
        from ..plan import boot_tests  # as in plan.tools_for

        boot_tests.check(stage, session.spec, session.plan.lock)


def loops(stage: Stage) -> bool:
    """Whether a stage fills a filesystem that is mounted, with a loop device."""
    return "pack" in stage.inputs and mounted(stage.inputs["format"], stage.inputs["pack"])


def runs(stage: Stage) -> bool:
    """Whether programs of the tree run while a stage is made: the host must run its architecture.

    GRUB's core for BIOS is made by the tree's grub-mkimage, a unified kernel image by its ukify.
    """
    match stage.kind:
        case "base":
            return bool(stage.inputs["variant"] != "extract")
        case "esp":
            return bool(stage.inputs["loader"] == "uki")
        case kind:
            return kind in ("layer", "bios")


def mounted(form: str, pack: str) -> bool:
    """Whether a filesystem of this format, packed so, is mounted to be filled."""
    return pack == "loop" and bool(FILESYSTEMS[form].mounted_as)


def tools_needed(stage: Stage) -> list[str]:
    """The host's commands that a stage will run: asked for before it begins."""
    tools = ["setpriv", "unshare", "tar", "zstd"]
    if stage.kind == "base":
        tools.append(stage.inputs["tool"])
    if "pack" in stage.inputs:
        return [*tools, *FILESYSTEMS[stage.inputs["format"]].tools]
    if stage.kind in TREE:
        return [*tools, "apt-ftparchive"]
    # Those in its key, of which some are Python packages.
    return [*tools, *(name for name in tools_of(stage.inputs) if name not in MODULES)]
