"""`strata sbom` and `strata provenance`: what `build` writes into out/NAME/, here as a text."""

from __future__ import annotations

from ..errors import BuildError
from ..session.session import Session
from ..stages import papers
from .publish import publication

FORMS = ("cdx", "spdx")


def sbom(session: Session) -> None:
    """Print a bill of materials of the trees that the cache has."""
    form = session.variables.get("format", "cdx")
    if form not in FORMS:
        raise BuildError(f"format={form}: expected {' or '.join(FORMS)}")
    to = publication(session).papers
    with session.cache.used(session.screen.progress):
        session.screen.moving("sbom: reading the trees")
        found = papers.bill(to)
    session.screen.line(papers.bill_text(found, form).rstrip("\n"))


def provenance(session: Session) -> None:
    """Print the statement on the images that the cache has; signed, in an envelope."""
    from ..sbom.provenance import envelope

    to = publication(session).papers
    entries = [session.cache.get(stage) for stage in session.plan.images]
    lacking = [
        stage.title for stage, one in zip(session.plan.images, entries, strict=True) if one is None
    ]
    if lacking:
        raise BuildError(
            f"{session.spec.path}: the cache has no {', '.join(lacking)}",
            f"strata build spec={session.name} lock=keep",
        )
    images = {
        file: entry.sha256
        for file, entry in zip(session.plan.files, entries, strict=True)
        if entry is not None
    }
    text = papers.provenance(to, images)
    if session.signer is not None:
        text = envelope(text.encode(), session.signer)
    session.screen.line(text.rstrip("\n"))
