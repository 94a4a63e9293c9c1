"""`strata sbom` and `strata provenance`: what `build` writes into out/NAME/, here as a text."""

from __future__ import annotations

from ..errors import BuildError
from ..session.session import Session
from ..stages import items, papers
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
    ends = [one for one in session.plan.ends if one.kind != "test"]
    entries = {one.task: entry for one in ends if (entry := session.cache.get(one)) is not None}
    lacking = [one.title for one in ends if one.task not in entries]
    if lacking:
        raise BuildError(
            f"{session.spec.path}: the cache has no {', '.join(lacking)}",
            f"strata build spec={session.name} lock=keep",
        )
    images = {one.path: one.sha256 for one in items.items(session.plan, entries)}
    text = papers.provenance(to, images)
    if session.signer is not None:
        text = envelope(text.encode(), session.signer)
    session.screen.line(text.rstrip("\n"))
