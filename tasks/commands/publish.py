"""`doit build` once the images are there: out/NAME/ is brought up to date, or cleaned."""

from __future__ import annotations

import contextlib
import os

from ..errors import BuildError
from ..plan.repositories import expand
from ..session.session import Session
from ..spec.load import is_spec
from ..stages import publish as stage
from ..stages.papers import known_files
from ..stages.publication import Publication


def publication(session: Session) -> Publication:
    """What is published where, as this run knows it."""
    return Publication(
        out=session.out,
        spec=session.spec,
        plan=session.plan,
        uris=_uris(session),
        cache=session.cache,
        places=session.places,
        lock_digest=session.lock_digest,
        locked=session.locked,
        started=session.started,
        result=session.result,
        say=session.screen.line,
        progress=session.screen.progress,
        signer=session.signer,
        untested=bool(session.spec.tests) and session.variables.get("test") == "off",
    )


def wants_trees(session: Session) -> bool:
    """Whether publishing looks into the trees, which a build would not need otherwise."""
    from ..stages.papers import wants_trees

    return bool(session.spec.sbom) and wants_trees(publication(session).papers)


def _uris(session: Session) -> dict[str, str]:
    """Each repository's address; not of those of which this host knows no mirror.

    Who has all in the cache needs none.
    """
    found = {}
    for repo in session.spec.repos:
        with contextlib.suppress(BuildError):
            found[repo.name] = expand(repo.uri, session.mirrors, session.spec)
    return found


def publish(session: Session) -> None:
    """Publish the images, and say what else there is to say of a build."""
    if wants_trees(session):
        # A build has seen to them; a fleet's were made elsewhere.
        session.exchange.have(session.plan.base, session.plan.tree)
    with session.clearing():
        to = publication(session)
        changed = stage.publish(to)
    session.chronicle.published = known_files(session.out)
    # Also of a fleet's specs, whose runs are no builds of their own.
    session.chronicle.keep()
    session.told.rest(all=True)
    session.screen.close()
    for notice in stage.warned(to):
        session.screen.warned(f"warning: {notice.layer}: {notice.text()}")
    session.chronicle.changed = changed
    state = "published to" if changed else "unchanged in"
    session.screen.note(f"{state} {os.path.relpath(session.out)}/: {session.told.total()}")


def clean(session: Session) -> None:
    """`doit clean`: remove what builds of this spec put into out/NAME/, and nothing else."""
    # A name like `..` is a folder, too.
    if not is_spec(session.specs, session.variables.get("spec", "")):
        return
    try:
        stage.clean(session.out, session.cache, session.screen.line)
    except (BuildError, OSError) as error:
        # doit has no failed clean-up.
        told = error if isinstance(error, BuildError) else session.explained(error, "removing")
        raise SystemExit(f"ERROR: {session.mask_if_known(str(told))}") from error
