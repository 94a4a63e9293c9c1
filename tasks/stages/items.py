"""What is published of a build's stages, file by file: of images and disks the entry, of exports
that are folders the files of their bundle, of OCI with the layers' blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import DamagedEntry
from ..host import safe, strict
from ..plan.stage import Plan, Product, Stage
from ..store.cache import Cache
from ..store.record import Entry


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file of out/NAME/, by its path there; `member` names it in the entry's bundle."""

    path: str
    stage: Stage
    entry: Entry
    sha256: str
    size: int
    member: str = ""


def entries(plan: Plan, cache: Cache) -> dict[str, Entry]:
    """The entries of all that is published, by their tasks; DamagedEntry where one is lost."""
    found: dict[str, Entry] = {}
    folders = {one.stage.task for one in plan.products if one.folder}
    for stage in plan.ends:
        if stage.kind == "test":
            continue
        entry = cache.get(stage)
        if entry is None:
            raise DamagedEntry(
                f"the cache has lost {cache.file(stage).name}", "run the same command again"
            )
        if stage.task in folders:
            _check_files(cache, stage, entry)
        found[stage.task] = entry
    return found


def _check_files(cache: Cache, stage: Stage, entry: Entry) -> None:
    """DamagedEntry for a record whose files are of another form: each is a path in out/."""
    from ..formats import bundle

    try:
        bundle.listed(entry.facts.get("files"))
    except strict.Damaged as error:
        cache.drop(stage)
        raise DamagedEntry(
            f"{cache.record(stage)}: {error}; it is dropped", "run the same command again"
        ) from error


def items(plan: Plan, known: Mapping[str, Entry]) -> Iterator[Item]:
    """Every file that is published, in the products' order."""
    for product in plan.products:
        yield from of_product(plan, product, known)


def of_product(plan: Plan, product: Product, known: Mapping[str, Entry]) -> Iterator[Item]:
    """The files of one product."""
    stage, entry = product.stage, known[product.stage.task]
    if not product.folder:
        yield Item(
            path=product.name, stage=stage, entry=entry, sha256=entry.sha256, size=entry.size
        )
        return
    from ..formats import bundle

    for name, (sha256, size) in sorted(bundle.listed(entry.facts["files"]).items()):
        yield Item(
            path=f"{product.name}/{name}",
            stage=stage,
            entry=entry,
            sha256=sha256,
            size=size,
            member=name,
        )
    # Trees that changed nothing may have the same blob.
    blobs = {known[one.task].sha256: one for one in plan.below(stage) if one.kind == "blob"}
    for sha256, blob in sorted(blobs.items()):
        made = known[blob.task]
        yield Item(
            path=f"{product.name}/blobs/sha256/{sha256}",
            stage=blob,
            entry=made,
            sha256=sha256,
            size=made.size,
        )


def copy(item: Item, temporary: Path, cache: Cache, progress: Callable[[str], None]) -> None:
    """Write an item to a file, its SHA-256 checked on the way; DamagedEntry for another one."""
    from ..formats import bundle

    progress(f"publish: copying {item.path}")
    digest = hashlib.sha256()
    try:
        _copy(item, temporary, digest)
    except (strict.Damaged, *bundle.BROKEN) as error:
        raise _damaged(item, cache, progress, str(error)) from error
    if digest.hexdigest() != item.sha256:
        raise _damaged(item, cache, progress, "its SHA-256 is not its record's")


def _copy(item: Item, temporary: Path, digest: hashlib._Hash) -> None:
    from ..formats import bundle, compress

    with (
        ThreadPoolExecutor(1) as lane,
        open(safe.reading(item.entry.path), "rb") as source,
        temporary.open("wb", buffering=compress.BLOCK) as target,
        compress.sparse_copy(target) as write,
    ):
        reader = bundle.reader(source, item.member) if item.member else source
        for block in compress.blocks(cast(BinaryIO, reader)):
            hashed = lane.submit(digest.update, block)
            write(block)
            hashed.result()


def _damaged(item: Item, cache: Cache, progress: Callable[[str], None], what: str) -> DamagedEntry:
    cache.damaged(item.stage, progress)
    return DamagedEntry(f"{item.entry.path}: {what}; it is dropped", "run the same command again")
