"""`doit prune`: what the cache, or a shared folder, need not hold any more."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BuildError
from ..host import holes
from ..host.files import remove
from ..plan.stage import Plan
from ..session.session import Session
from ..spec.compose import variants_of
from ..spec.load import spec_names
from ..spec.sizes import UNITS
from ..spec.words import counted, printable
from ..store import made_of, pruned
from ..store.cache import used_at
from ..store.made import forget
from ..store.record import FOLDERS
from .upkeep import tell_foreign


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may stay: `keep` bytes in all, and what was used in the last `seconds`."""

    keep: int | None
    seconds: float | None
    dry: bool

    @property
    def none(self) -> bool:
        """No limit is named: all goes that may go."""
        return self.keep is None and self.seconds is None


def limits(session: Session) -> Limits:
    """What `keep=`, `days=` and `dry=` say; BuildError for what they may not."""
    keep, days = session.variables.get("keep"), session.variables.get("days")
    dry = session.variables.get("dry")
    if dry not in (None, "1"):
        raise BuildError(f"dry={printable(dry)}: expected 1, or no dry= at all", "dry=1")
    size = re.fullmatch(r"([0-9]{1,15})([KMGT]B?)?", keep or "")
    if keep is not None and size is None:
        raise BuildError(
            f"keep={printable(keep)}: expected a size: a whole number, and K, M, G or T",
            "keep=10G",
        )
    if days is not None and not re.fullmatch(r"[0-9]{1,5}", days):
        raise BuildError(f"days={printable(days)}: expected a whole number of days", "days=30")
    return Limits(
        keep=int(size[1]) * UNITS[size[2] or ""] if size else None,
        seconds=int(days) * 86400.0 if days is not None else None,
        dry=dry == "1",
    )


def chosen(
    groups: Iterable[list[Path]],
    total: int,
    needed: Collection[Path],
    given: Limits,
    used: Callable[[Path], float | None] = used_at,
) -> Iterator[list[Path]]:
    """Of groups of files, the longest unused first, those that go; `needed` files stay.

    `total` is what all of them take, in bytes; `used` tells when a file was. Without a limit all
    that is not needed goes.
    """
    now = time.time()
    for paths in groups:
        if any(path in needed for path in paths):
            continue
        times = [when for path in paths if (when := _here(used, path)) is not None]
        if not times:
            continue
        old = given.seconds is not None and now - max(times) > given.seconds
        much = given.keep is not None and total > given.keep
        if old or much or given.none:
            total -= sum(map(taken, paths))
            yield paths


def _here(used: Callable[[Path], float | None], path: Path) -> float | None:
    """When a file was used; None if somebody else has removed it meanwhile."""
    try:
        return used(path)
    except FileNotFoundError:
        return None


def taken(path: Path) -> int:
    """Bytes that a file takes on the disk; none if somebody else has removed it meanwhile."""
    try:
        return holes.used(path)
    except FileNotFoundError:
        return 0


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
    """Remove the entries that no spec's lock needs, the longest unused first.

    With `keep=` only until the cache is no larger, with `days=` only what nothing used for so long.
    """
    given = limits(session)
    if session.variables.get("cache"):
        _prune_shared(session, given)
        return
    needed: set[Path] = set()
    releases: set[str] = set()
    with session.cache.alone(session.screen.progress):
        tell_foreign(session)
        if not session.cache.claim():
            session.screen.line("pruned 0 entries, 0.0 MB")
            return
        for plan in _plans(session):
            for stage in (one for one in plan.stages if one.kept):
                needed |= {session.cache.file(stage), session.cache.record(stage)}
            records = [*plan.lock.base, *(r for layer in plan.lock.layers for r in layer.records)]
            needed |= {session.cache.deb(record.sha256) for record in records}
            releases |= {repo.release[:32] for repo in plan.lock.repos}
        groups = [paths for _first, paths in session.cache.entries()]
        total = sum(taken(path) for paths in groups for path in paths)
        gone = [
            *chosen(groups, total, needed, given),
            *([one] for one in session.cache.leftovers()),
        ]
        left = total - _removed(session, gone, given)
        if not given.dry:
            _note(session, gone)
        for path in [] if given.dry else session.cache.unused(releases):
            remove(path)
        if not given.dry:
            session.made.forget(session.cache)
            forget(session.state / "sizes", session.cache)
    if given.keep is not None and left > given.keep:
        session.screen.line(
            f"{left / 1e6:.1f} MB stay, more than keep=: the locks in specs/ need them"
        )


def _note(session: Session, gone: Iterable[list[Path]]) -> None:
    """Remember which entries went, for `why`; of specs that are no more, forget all."""
    records = {path.stem for kind in set(FOLDERS.values()) for path in session.cache.own(kind)}
    went = {path.stem for paths in gone for path in paths if path.suffix == ".json"}
    pruned.note(session.state, went - records, records)
    names = [
        f"{name}-{variant}" if variant else name
        for name in spec_names(session.specs)
        for variant in ("", *variants_of(session.specs / f"{name}.yaml", session.specs))
    ]
    made_of.forget(session.state, names)


def _removed(session: Session, gone: Iterable[list[Path]], given: Limits) -> int:
    """Remove groups of files, or only say them; how many bytes that frees."""
    count = freed = 0
    for paths in gone:
        # The record goes first: an entry without one is not believed.
        for path in sorted(paths, key=lambda path: path.suffix != ".json"):
            size = taken(path)
            freed += size
            if given.dry and path.suffix != ".json":
                session.screen.line(f"{session.shown(path)}  {size / 1e6:.1f} MB")
            elif not given.dry:
                remove(path)
        count += 1
    did = "would prune" if given.dry else "pruned"
    session.screen.line(f"{did} {counted(count, 'entry')}, {freed / 1e6:.1f} MB")
    return freed


# ---------------------------------------------------------------- a shared folder


def _prune_shared(session: Session, given: Limits) -> None:
    """The same of shared folders, of which no lock tells what is needed: limits alone do."""
    from ..remote import folder
    from ..remote.configured import backends

    if given.none:
        raise BuildError(
            "prune cache=: whoever uses a shared cache is not known here, so a limit must be named",
            "keep=10G, days=30, or both",
        )
    for backend in backends(session.variables["cache"]):
        if not isinstance(backend, folder.Folder):
            raise BuildError(
                f"prune cache={backend.shown}: only a folder can be pruned from here",
                "docs/sharing.md says how servers, buckets and registries expire what is old",
            )
        foreign = backend.foreign()
        for name in foreign[:20]:
            session.screen.line(f"{backend.path / name}: it is not Strata's; left alone")
        if not backend.claim():
            session.screen.line(
                f"{backend.path}: nothing is removed here: it has no CACHEDIR.TAG, and gets none "
                "as long as it holds what is not Strata's"
            )
            continue
        if not given.dry:
            backend.sweep()
        groups = backend.groups()
        total = sum(taken(path) for paths in groups for path in paths)
        _removed(session, chosen(groups, total, (), given, folder.since), given)
