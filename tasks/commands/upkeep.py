"""`doit prune` and `doit verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import BuildError
from ..host import cachedir, holes
from ..host.files import remove
from ..plan.stage import Plan
from ..session.session import Session
from ..spec.compose import variants_of
from ..spec.load import spec_names
from ..spec.words import counted
from ..store.digests import broken

FOREIGN_SHOWN = 20
"""How much of what is not Strata's is told by name."""


# ---------------------------------------------------------------- the cache


def _locked(session: Session) -> Iterator[tuple[str, str]]:
    """(spec, variant or "") of each that has a lock."""
    for name in spec_names(session.specs):
        for variant in ("", *variants_of(session.specs / f"{name}.yaml", session.specs)):
            lock = f"{name}-{variant}.lock" if variant else f"{name}.lock"
            if (session.specs / lock).exists():
                yield name, variant


def _plans(session: Session) -> list[Plan]:
    """The plan of every spec that has a lock; one that cannot be planned keeps nothing safe."""
    plans = []
    for name, variant in _locked(session):
        given = {"spec": name, "variant": variant} if variant else {"spec": name}
        other = Session(root=session.root, variables={**session.variables, **given})
        try:
            plans.append(other.plan)
        except BuildError as error:
            raise BuildError(
                f"specs/{name}: what it needs cannot be told: {error.message}",
                f"build it, or remove specs/{name}.lock",
            ) from error
    return plans


def prune(session: Session) -> None:
    """Remove the entries that no spec's lock needs, the longest unused first."""
    needed: set[Path] = set()
    releases: set[str] = set()
    count = freed = 0
    with session.cache.alone(session.screen.progress):
        _tell_foreign(session)
        if not session.cache.claim():
            session.screen.line("pruned 0 entries, 0.0 MB")
            return
        for plan in _plans(session):
            for stage in plan.stages:
                needed |= {session.cache.file(stage), session.cache.record(stage)}
            records = [*plan.lock.base, *(r for layer in plan.lock.layers for r in layer.records)]
            needed |= {session.cache.deb(record.sha256) for record in records}
            releases |= {repo.release[:32] for repo in plan.lock.repos}
        groups = [paths for _first, paths in session.cache.entries()]
        for paths in [*groups, *([path] for path in session.cache.leftovers())]:
            if needed.intersection(paths):
                continue
            # The record goes first: an entry without one is not believed.
            for path in sorted(paths, key=lambda path: path.suffix != ".json"):
                freed += holes.used(path)
                remove(path)
            count += 1
        for path in session.cache.unused(releases):
            remove(path)
    session.screen.line(f"pruned {counted(count, 'entry')}, {freed / 1e6:.1f} MB")


def _tell_foreign(session: Session) -> None:
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
        _tell_foreign(session)
        owned = cache.claim()
        done = "dropped" if owned else "left alone"
        for first, paths in list(cache.entries()):
            if check(first, cache.fault(paths), done) and owned:
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
