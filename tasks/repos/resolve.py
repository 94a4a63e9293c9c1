"""Snapshots of repositories → lock: resolve the whole closure with apt itself.

spec ──→ one private apt with all snapshots ──→ base, then each layer on it ──→ specs/NAME.lock
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from ..builder import Builder
from ..debian import answers
from ..errors import BuildError
from ..plan import lockfile, reads
from ..plan.debs import digests
from ..plan.keys import resolution_inputs
from ..plan.lockfile import Lock, LockedLayer, Record
from ..spec.model import Spec
from ..spec.words import counted
from .fetch import fetch
from .own import taken_as_given
from .resolver import Resolver
from .snapshot import Snapshot, drop_broken, kept_snapshots
from .update import ask_all


def resolve(spec: Spec, builder: Builder, snapshots: Sequence[Snapshot], keep: Lock | None) -> Lock:
    """The whole closure, base first, then each layer on what lies below it."""
    resolver = Resolver(spec, builder, snapshots, keep)
    builder.log.step("resolving base")
    wanted = resolver.base()
    if not wanted:
        raise BuildError(
            f"{spec.path}: base.variant: {spec.repos[0].name} has no package for "
            f"{spec.base.variant!r}",
            "the first of repos must be the distribution's own",
        )
    where = f"{spec.path}: base"
    base, _ = resolver.solve(wanted, [], where)
    lock = Lock(
        inputs=resolution_inputs(spec, digests(builder.reach.own)),
        arch=spec.arch,
        repos=tuple(snapshot.locked() for snapshot in snapshots),
        base=tuple(base),
        layers=(),
        manual=resolver.manual(wanted, base, where),
    )
    for number, layer in enumerate(spec.layers):
        builder.log.step(f"resolving {layer.name}")
        where = f"{spec.path}: " + (
            "packages" if layer.name == "packages" and number == 0 else f"layers.{layer.name}"
        )
        own = builder.reach.own.get(layer.name, ())
        names = {
            lockfile.short_name(one.record.package, one.record.architecture, spec.arch)
            for one in own
        }
        wanted = sorted({*layer.packages, *names})
        resolver.offer(own)
        added, removed = resolver.solve(wanted, lock.installed(), where)
        taken_as_given(own, added, lock, where)
        earlier = {name for below in lock.layers for name in below.manual}
        lost = sorted(
            earlier & set(removed) - {answers.plain_name(name) for name in layer.packages}
        )
        if lost:
            raise BuildError(
                f"{where}: apt would remove {', '.join(lost)}, which an earlier layer asks for",
                f"leave one of them out, or list {lost[0]}- here to have it removed",
            )
        locked = LockedLayer(
            name=layer.name,
            records=tuple(added),
            removes=tuple(sorted(removed)),
            reproducible=layer.name not in spec.unreproducible,
        )
        lock = replace(lock, layers=(*lock.layers, locked))
        if wanted:
            locked = replace(locked, manual=resolver.manual(wanted, lock.installed(), where))
            lock = replace(lock, layers=(*lock.layers[:-1], locked))
    return lock


def scanned(
    spec: Spec, builder: Builder, lock: Lock, old: Lock | None, *, fetching: bool = True
) -> Lock:
    """The lock with what the scripts of its layers' packages look at.

    The .debs tell, which the build needs in any case; of those that the old lock has, it tells.
    Without `fetching` those count that are here.
    """
    known: dict[str, set[str]] = {}
    if old is not None and old.scan == lockfile.SCAN:
        for layer in old.layers:
            for record in layer.records:
                known[record.sha256] = {
                    name for name, packages in layer.reads.items() if record.package in packages
                }
    # No variant selects a package that looks at any of them.
    base = lock.base if spec.base.include else ()
    layered = [record for layer in lock.layers for record in layer.records]
    new = [
        record
        for record in (*base, *layered)
        if record.sha256 not in known and _known_name(record) not in reads.NOTHING
    ]
    if not fetching:
        new = [record for record in new if builder.cache.has_deb(record.sha256)]
    if new:
        if fetching:
            fetch(new, builder)
        builder.log.step(f"looking at what the scripts of {counted(len(new), 'package')} read")
        # Unpacking does not hold the interpreter's lock.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            paths = [builder.cache.deb(record.sha256) for record in new]
            found = pool.map(reads.of_deb, paths, map(_known_name, new))
            known |= {record.sha256: what for record, what in zip(new, found, strict=True)}
    for record in base:
        if missed := sorted(known.get(record.sha256, set()) & spec.settings.shown.keys()):
            builder.say(
                f"  base: the scripts of {record.package} look at {', '.join(missed)}, which a "
                "base is not shown: packages or a layer is the place for it"
            )
    layers = []
    for layer in lock.layers:
        readers: dict[str, set[str]] = {}
        for record in layer.records:
            for name in known.get(record.sha256, ()):
                readers.setdefault(name, set()).add(record.package)
        listed = {name: tuple(sorted(packages)) for name, packages in sorted(readers.items())}
        layers.append(replace(layer, reads=listed))
    return replace(lock, scan=lockfile.SCAN, layers=tuple(layers))


def _known_name(record: Record) -> str:
    """By which a package is known to read nothing; "" for one that anybody may have made."""
    return "" if record.repository == lockfile.OWN else record.package


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of bringing a lock up to date; `lock` is None where the old one stays."""

    asked: bool
    lock: Lock | None


Scan = Literal["all", "here", "none"]
"""Of which .debs it is wanted what their scripts look at: those that are not here are fetched."""


def renew(
    spec: Spec,
    builder: Builder,
    old: Lock | None,
    *,
    keep: bool,
    current: bool,
    scan: Scan = "all",
) -> Outcome:
    """The lock of a spec, by what its repositories have now.

    With `keep`, versions that the old lock names stay, and nothing is asked where its indexes are
    still here. Otherwise it is resolved anew only if a repository or, as `current` says, the spec
    changed, or if it may be behind since `keep` made it.
    """
    pinned = old if keep else None
    snapshots = kept_snapshots(spec, builder, pinned) if pinned else None
    asked = snapshots is None
    if snapshots is None:
        snapshots = ask_all(spec, builder, old, keep=keep)
        stands = current and old is not None and not old.kept and _unchanged(old, snapshots)
        if not keep and stands:
            return Outcome(asked=True, lock=None)
        if drop_broken(builder, snapshots):
            snapshots = ask_all(spec, builder, old, keep=keep)
    lock = resolve(spec, builder, snapshots, pinned)
    if scan != "none" and spec.settings.shown:
        lock = scanned(spec, builder, lock, old, fetching=scan == "all")
    shutil.rmtree(builder.scratch / "resolve", ignore_errors=True)
    return Outcome(asked=asked, lock=replace(lock, kept=keep))


def _unchanged(lock: Lock, snapshots: Sequence[Snapshot]) -> bool:
    return [(repo.name, repo.release) for repo in lock.repos] == [
        (snapshot.repo.name, snapshot.release) for snapshot in snapshots
    ]
