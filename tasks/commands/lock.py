"""`doit lock`: specs/NAME.lock by what the repositories have now, as far as `lock=` allows."""

from __future__ import annotations

import contextlib
import sys

from ..errors import BuildError
from ..host.files import write_text
from ..plan import lockfile
from ..plan.debs import changed
from ..session.session import Session


def told(session: Session) -> None:
    """The same, and print what moved in Markdown, for a pull request; nothing if no package did."""
    from ..plan.changes import markdown

    form = session.variables["format"]
    if form != "markdown":
        raise BuildError(f"lock format={form}: expected text or markdown")
    old = session.read_lock()
    # What else is said is for the log.
    with contextlib.redirect_stdout(sys.stderr):
        update(session)
    new = session.read_lock()
    assert new is not None
    suites = {repo.name: repo.suite for repo in session.spec.repos}
    text = markdown(session.name, old, new, suites)
    if text:
        session.screen.line(text)


def update(session: Session) -> None:
    """Bring the lock up to date; sets session.locked.

    `latest` asks each repository. `keep` asks nothing while the spec is the same. `frozen` never
    asks.
    """
    mode = session.lock_mode
    old = session.read_lock()
    current = old is not None and session.fits(old)
    own = session.project.own(old)
    for one in (one for debs in own.values() for one in debs if one.gone):
        session.screen.note(f"  {one.record.path}: it is gone; what is locked is in the cache")
    if mode == "frozen" and not current:
        why = "; ".join(changed(own, old)) if old is not None else ""
        raise BuildError(
            f"{session.lock_path}: lock=frozen, and the lock is {lockfile.state(old)}"
            + (f": {why}" if why else ""),
            f"run `doit lock spec={session.spec.name}` and commit the result",
        )
    if mode != "latest" and current:
        return
    from ..repos.resolve import renew

    with session.log("lock.log", "lock") as log:
        builder = session.builder(log, old)
        outcome = renew(session.spec, builder, old, keep=mode == "keep", current=current)
        session.locked = "asked" if outcome.asked else session.locked
        text = None if outcome.lock is None else lockfile.dump(outcome.lock)
        if text is not None and text != session.lock_text():
            assert outcome.lock is not None
            write_text(session.lock_path, text)
            session.locked = "written"
            _tell(session, old, outcome.lock)


def _tell(session: Session, old: lockfile.Lock | None, new: lockfile.Lock) -> None:
    """Keep what changed, in the words of `outdated`, for whoever says it."""
    # A build with nothing to do never comes here.
    from ..plan.changes import changes, compared, packages_of
    from ..plan.difference import packages_text

    suites = {repo.name: repo.suite for repo in session.spec.repos}
    if old is not None:
        found = compared(packages_of(old, suites), packages_of(new, suites))
        session.changed = packages_text(found)[0] if found else ""
    session.changes = changes(old, new, suites) or ["what it says of the repositories"]
