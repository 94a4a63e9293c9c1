"""`doit verify`, and what the cache holds that is not Strata's."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import BuildError
from ..host import cachedir
from ..host.files import remove
from ..session.session import Session
from ..spec.words import counted
from ..store.digests import broken
from ..store.whole import fault_of

FOREIGN_SHOWN = 20
"""How much of what is not Strata's is told by name."""


# ---------------------------------------------------------------- the cache


def tell_foreign(session: Session) -> None:
    """Say what is in the cache and not Strata's: nobody may wonder later where it went, or why not.

    Where the cache has no marker for it, nothing at all is removed.
    """
    cache = session.cache
    foreign = cache.foreign()
    for path in foreign[:FOREIGN_SHOWN]:
        session.screen.line(f"{session.shown(path)}: it is not Strata's; left alone")
    if len(foreign) > FOREIGN_SHOWN:
        more = len(foreign) - FOREIGN_SHOWN
        session.screen.line(f"{session.shown(cache.root)}: {more} more that are not Strata's")
    if foreign and not cache.claim():
        session.screen.line(
            f"{session.shown(cache.root)}: nothing is removed here: it has no {cachedir.NAME}, and "
            f"gets none as long as it holds what is not Strata's"
        )


def verify(session: Session) -> None:
    """Read every entry; one that is not what its record says is dropped. Fails if there was one.

    What was published and is remembered as whole is read, too: the next build publishes it again.
    """
    bad = count = 0
    cache = session.cache

    def check(path: Path, fault: str, done: str = "dropped") -> bool:
        nonlocal bad, count
        count += 1
        if fault:
            bad += 1
            session.screen.line(f"{os.path.relpath(path, session.root)}: {fault}; {done}")
        return bool(fault)

    with cache.alone(session.screen.progress):
        tell_foreign(session)
        owned = cache.claim()
        done = "dropped" if owned else "left alone"
        for first, paths in list(cache.entries()):
            if check(first, fault_of(paths), done) and owned:
                for path in sorted(paths, key=lambda path: path.suffix != ".json"):
                    remove(path)
        for folder in cache.snapshots():
            name = broken(folder)
            if check(folder / name, "its SHA-256 is another" if name else "", done) and owned:
                cache.drop_index(folder)
        for path in cache.memory.rotten(session.root / "out"):
            check(path, "its SHA-256 is another", "the next build publishes it again")
    session.screen.line(f"verified {counted(count, 'entry')}, {bad} bad")
    if bad:
        raise BuildError(
            f"{bad} of {count} cache entries were damaged and have been {done}",
            "the next build makes again what it needs of them",
        )
