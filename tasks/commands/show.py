"""`doit show`: the whole spec, with what it includes, and where each value is from."""

from __future__ import annotations

from ..session.session import Session
from ..spec.compose import compose
from ..spec.origins import lines


def show(session: Session) -> None:
    """Say the spec as YAML that could stand in its place; what is secret is masked.

    BuildError for a spec that cannot be built from: it is checked before it is shown.
    """
    spec = session.spec
    whole, _made_of = compose(spec.path, session.given, [session.specs.relative_to(session.root)])
    found = list(lines(whole, session.mask))
    wide = min(max((len(text) for text, _origin in found), default=0), 72)
    for text, origin in found:
        session.screen.line(f"{text:<{wide}}  # {origin}" if origin else text)
