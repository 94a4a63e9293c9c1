"""`strata push`, `pull` and `keygen`."""

from __future__ import annotations

from pathlib import Path

from ..errors import BuildError
from ..host.files import written
from ..plan.stage import Stage
from ..remote import signing
from ..remote.shared import Shared
from ..session.session import Session
from ..spec.words import counted


def _shared(session: Session) -> Shared:
    if session.shared is None:
        raise BuildError(
            "no shared cache is named",
            "cache=file:///srv/strata, or any other address; STRATA_REMOTE does the same",
        )
    return session.shared


def push(session: Session) -> None:
    """Send each stage of a spec that the cache has, and its .debs. BuildError if a cache fails."""
    shared = _shared(session)
    shared.sending()
    plan = session.plan
    sent = debs = 0
    with session.cache.used(session.screen.progress):
        for stage in (one for one in plan.stages if one.kept):
            if session.cache.intact(stage) is None:
                here = session.cache.record(stage).exists()  # and counts for nothing in this run
                if here:
                    shared.stays(stage)
                _say(session, stage, "not sent" if here else "not in the cache")
                continue
            session.screen.progress(f"{stage.title}: sending")
            debs += shared.give_debs(stage.entry, plan.records(stage))
            given = shared.give(stage, session.likenesses[stage.entry])
            sent += given
            _say(session, stage, "sent" if given else "not sent" if shared.kept(stage) else "there")
    session.screen.note(f"sent {counted(sent, 'stage')}, {counted(debs, 'package')}")
    if shared.policy.key is None and sent:
        session.screen.note(
            f"unsigned: whoever takes it must say cache_trust=any; {signing.SIGNING_KEY} signs"
        )
    _failed(shared)


def pull(session: Session) -> None:
    """Fetch each stage of a spec that a shared cache has. BuildError if a cache fails."""
    shared = _shared(session)
    shared.taking()
    plan = session.plan
    kept = [stage for stage in plan.stages if stage.kept]
    lacking = [stage for stage in kept if session.cache.intact(stage) is None]
    if lacking:
        session.exchange.have(lacking[0], lacking)
    for stage in kept:
        if stage.task not in session.results:
            here = session.cache.get(stage) is not None
            _say(session, stage, "hit" if here else "not there")
    _failed(shared)


def _failed(shared: Shared) -> None:
    if shared.faults:
        raise BuildError("a shared cache failed", "what it said is above; try again when it is up")


def _say(session: Session, stage: Stage, what: str) -> None:
    session.screen.note(f"{stage.title:<22} {stage.key[:8]}  {what}")


def keygen(session: Session) -> None:
    """Write NAME.key for whoever signs, and print the line for whoever is to believe it."""
    name = session.variables.get("name", "")
    if not name:
        raise BuildError("keygen: whose key is it to be?", "strata keygen name=ci")
    key = signing.generate(name)
    path = Path(f"{name}.key")
    try:
        # Whole or not at all: half a key would be in the way of the next one.
        with written(session.root / path, mode=0o600, fresh=True) as temporary:
            temporary.write_text(key.line + "\n", encoding="ascii")
    except FileExistsError as error:
        raise BuildError(
            f"{path}: there is a key already, and what it signed would be believed no more",
            "remove it, or take another name: several can be trusted at a time",
        ) from error
    session.screen.line(key.public.line)
