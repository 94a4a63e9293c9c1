"""`doit outdated`: what lock=latest would change of a spec's lock, which stays as it is."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

from ..errors import BuildError
from ..plan import lockfile
from ..plan.changes import packages_of
from ..plan.difference import Side, difference, shown
from ..session.session import Session
from .diff import wanted_form


def outdated(session: Session) -> bool:
    """Say which packages would be others, by what the repositories have now.

    False where there are any: the exit status is 2. Resolved in memory: beside what the cache keeps
    of repositories, nothing is written.
    """
    from ..repos.changelogs import changelogs
    from ..repos.resolve import renew

    form = wanted_form(session, "outdated")
    # What else is said is for the log.
    with contextlib.redirect_stdout(sys.stderr):
        old = session.read_lock()
        if old is None:
            raise BuildError(
                f"{session.lock_path}: there is none yet", f"doit lock spec={session.spec.name}"
            )
        session.begin()
        current = session.fits(old)
        if not current:
            session.screen.note(f"{session.lock_path}: the lock is {lockfile.state(old)}")
        with session.aside("outdated") as log:
            builder = session.builder(log, old)
            new = renew(session.spec, builder, old, keep=False, current=current, scan="none").lock
            suites = {repo.name: repo.suite for repo in session.spec.repos}
            was, now = packages_of(old, suites), packages_of(new or old, suites)
            name = str(session.lock_path)
            found = difference(Side(name=name, packages=was), Side(name="latest", packages=now))
            if session.variables.get("changelog") and new is not None:
                told = changelogs(session.spec, builder, new, found.packages or ())
                found = replace(found, changelogs=told)
    text = shown(found, form, session.name)
    if text:
        session.screen.line(text.rstrip("\n"))
    return not found.packages
