"""`doit doctor`: what the host lacks, tried."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import BuildError
from ..host import firmware, trials
from ..host.scratch import scratch_folder, scratch_root
from ..host.tools import DISK_TOOLS, EMULATORS, TOOLS, tool
from ..plan.boot_tests import tools
from ..plan.filesystems import filesystems
from ..plan.plan import tools_for
from ..plan.tools import MODULES
from ..session.needs import mounted, need_arch
from ..session.session import Session
from ..spec.model import Spec

# ---------------------------------------------------------------- the host


def doctor(session: Session) -> None:
    """Say what this host lacks; fails if a build would."""
    missing: list[str] = []

    def say(good: bool, what: str, advice: str = "", *, needed: bool = True) -> None:
        session.screen.line(
            f"{'ok  ' if good else 'MISS' if needed else 'note'} {what}"
            + (f": {advice}" if advice and not good else "")
        )
        if not good and needed:
            missing.append(what)

    say(sys.version_info >= (3, 10), f"Python {platform.python_version()}", "3.10 or newer")
    say(os.geteuid() == 0, "root", "builds need it: use sudo")
    packages: dict[str, list[str]] = {}
    for name, package in TOOLS.items():
        try:
            tool(name)
        except BuildError:
            packages.setdefault(package, []).append(name)
    say(not packages, f"{len(TOOLS)} host tools", f"apt-get install {' '.join(sorted(packages))}")
    if os.geteuid() == 0 and not packages:
        _try_host(session, say)
    filesystems = Path("/proc/filesystems").read_text().split()
    for name in ("xfs", "btrfs"):
        say(name in filesystems, f"filesystem {name}", f"modprobe {name}", needed=False)
    for title, path in (("scratch", scratch_root()), ("cache", session.cache.root)):
        free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
        say(
            free > 4 << 30,
            f"{free / (1 << 30):.1f} GiB free for {title} in {path}",
            "4 GiB are little",
            needed=False,
        )
    if session.name:
        try:
            need_arch(session)
            say(True, f"programs of {session.spec.arch}")
        except BuildError as error:
            say(False, error.message, error.hint)
        lacking = _lacking(session.spec)
        for_tests = lacking & tools(session.spec)
        for names, what in (
            (lacking - for_tests, "host tools for all that the spec makes"),
            (for_tests, "what boots its disks, for its tests (test=off leaves these out)"),
        ):
            advice = f"apt-get install {' '.join(sorted({_package(one) for one in names}))}"
            say(not names, what, advice, needed=names is not for_tests)
    mirrors = session.mirrors
    say("mirror" in mirrors, "a mirror for ${mirror}", "set STRATA_MIRROR", needed=False)
    if missing:
        raise BuildError(f"this host lacks: {', '.join(missing)}")


def _lacking(spec: Spec) -> set[str]:
    """The tools, and packages of firmware, that stages of a spec want and this host lacks."""
    found = set()
    for name in set(tools_for(spec)) - MODULES.keys():
        try:
            _ = firmware.file_of(name) if name in firmware.PACKAGES else tool(name)
        except BuildError:
            found.add(name)
    return found


def _package(name: str) -> str:
    return {**DISK_TOOLS, **EMULATORS, **TOOLS}.get(name, name)


def _try_host(session: Session, say: Callable[..., None]) -> None:
    """Try what a build does, and say of each thing whether it works; none is tried after a failure.

    A loop device is needed unless the spec that is named has nothing that is made with one.
    """
    images = filesystems(session.spec) if session.name else ()
    needed = not session.name or any(mounted(one.format, one.pack) for one in images)
    with scratch_folder() as folder:
        failure = trials.sandbox(folder)
        for name in trials.SANDBOX:
            if failure and failure.name not in trials.SANDBOX[trials.SANDBOX.index(name) + 1 :]:
                break
            say(True, trials.NEEDS[name].title)
        if failure:
            say(False, failure.message, failure.hint)
        # Without namespaces there is no answer of its own.
        if not failure or failure.name not in ("namespaces", "propagation", "proc"):
            failure = trials.loop(folder)
            advice = failure.hint if failure else ""
            say(
                not failure,
                failure.message if failure else trials.NEEDS["loop"].title,
                advice,
                needed=needed,
            )
