"""Images → out/NAME/: images, metadata for provisioners, packages, digests, build.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..host import holes, safe, space
from ..host.files import OWN_TEMPORARY, remove, written
from ..host.locks import locked
from ..plan import hostkeys, lockfile
from ..rootfs import identities
from ..spec.words import counted
from ..store.cache import Cache
from ..store.record import Entry
from . import items, papers
from .described import host_text, metadata, packages_text, yaml_text
from .limit import check_sizes
from .papers import known_files
from .publication import Publication
from .way import clear_way, drop_empty, shown_in

OWN = re.compile(rf"SHA256SUMS(\.sig)?|(build|host)\.json|{OWN_TEMPORARY.pattern}")
"""What each build writes into out/NAME/, beside what build.json lists."""


OWN_LOG = re.compile(r"(lock|compare|base|([a-z]+)-[A-Za-z0-9+._-]+)\.(log|png)|diffoscope-.+\.txt")


def publish(to: Publication) -> bool:
    """Bring out/NAME/ to what the plan says, and whether that changed anything.

    An image's SHA-256 is checked while it is copied. Files of an earlier build that no longer
    belong are removed. BuildError, and out/ as it was, where there is no room for all of it.
    One build at a time: two of one spec, with other locks, would leave a mixture.
    """
    with safe.folder(to.out, make=True):
        pass
    with locked(to.out, waiting=to.progress):
        return _publish(to)


def _publish(to: Publication) -> bool:
    spec, plan = to.spec, to.plan
    out = to.out
    entries = items.entries(plan, to.cache)
    check_sizes(spec, plan, [entries[one.task] for one in plan.images], to.cache)
    wanted = list(items.items(plan, entries))
    texts = {
        f"{spec.name}.yaml": yaml_text(metadata(to, entries)),
        "packages.txt": packages_text(plan.lock),
    }
    sums = {one.path: one.sha256 for one in wanted}
    beside = papers.papers(to.papers, sums)
    texts |= beside.texts
    sums |= beside.sums
    sums |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    texts["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    signed, signatures = papers.signatures(to.papers, texts, sums, known_files(out))
    contents = {name: text.encode() for name, text in texts.items()} | signed
    stale = _stale(to, {*sums, *signatures})
    copies = [one for one in wanted if not _same(to, one)]
    changed = [name for name, content in contents.items() if not _holds(out / name, content)]
    needed = sum(min(one.size, holes.used(one.entry.path)) for one in copies)
    what = "image" if all(one.stage.kind == "image" for one in copies) else "file"
    space.need_room(to.places, "out", needed, f"publishing {counted(len(copies), what)}")
    # All is written before anything gets its name: a full disk leaves the earlier build as it was.
    # SHA256SUMS comes last, so that a killed build's next one still knows what is stale, and then
    # build.json, which is no part of it.
    published = bool(stale or copies or changed)
    stale = clear_way(out, stale, [*contents, *(one.path for one in wanted)])
    content = _build_json(to, {**sums, **signatures}, published, beside.told)
    _write(to, copies, {name: contents[name] for name in changed}, content, stale)
    for one in copies:
        to.cache.memory.note(out / one.path, one.sha256)
    return published


def _write(
    to: Publication,
    copies: Sequence[items.Item],
    changed: Mapping[str, bytes],
    report_text: str,
    stale: Sequence[str],
) -> None:
    """Write files and texts, and give all of them their names at once; then what is stale goes."""
    out = to.out
    with contextlib.ExitStack() as last, contextlib.ExitStack() as first:
        # No sync: it is rewritten by every build, and says nothing that a build relies on.
        report = last.enter_context(written(out / "build.json", sync=False))
        if not _holds(out / "host.json", told := host_text(to).encode()):
            first.enter_context(written(out / "host.json", sync=False)).write_bytes(told)
        for name, text in changed.items():
            stack = last if name in ("SHA256SUMS", "SHA256SUMS.sig") else first
            stack.enter_context(written(out / name)).write_bytes(text)
        for one in copies:
            items.copy(one, first.enter_context(written(out / one.path)), to.cache, to.progress)
        report.write_text(report_text, encoding="utf-8")
        first.close()
        for name in stale:
            remove(out / name)
        drop_empty(out, stale)


def _stale(to: Publication, names: set[str]) -> list[str]:
    """Files that the last build published and this one no longer has, if they are still those."""
    found = []
    known = known_files(to.out)
    for name in sorted(known.keys() - names):
        path = to.out / name
        if _is_published(to.cache, path, known[name]):
            found.append(name)
        elif os.path.lexists(path):
            to.say(f"{shown_in(to.out, path)}: another file than Strata published; left alone")
    return found


def _is_published(cache: Cache, path: Path, sha256: str) -> bool:
    """Whether a file is still what was published: only that may be removed."""
    try:
        return cache.memory.holds(path, sha256)
    except OSError:
        return False


def clean(out: Path, cache: Cache, say: Callable[[str], None]) -> None:
    """`doit clean`: remove what builds of this spec put into out/NAME/, and nothing else."""
    known = known_files(out)
    wanted = [out / name for name in known if _is_published(cache, out / name, known[name])]
    for folder, own in ((out, OWN), (out / "log", OWN_LOG), (out / "log/reproduce", OWN_LOG)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with safe.folder(folder) as opened:
                names = os.listdir(opened)
            wanted += [folder / name for name in names if own.fullmatch(name)]
    for path in wanted:
        remove(path)
    drop_empty(out, known)
    for folder in (out / "log/reproduce", out / "log", out):
        with contextlib.suppress(OSError), safe.at(folder) as here:
            here.rmdir()
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(out)):
            say(f"{shown_in(out, out / name)}: it is not Strata's; left alone")


def _same(to: Publication, item: items.Item) -> bool:
    path = to.out / item.path
    try:
        return path.lstat().st_size == item.size and to.cache.memory.holds(path, item.sha256)
    except OSError:
        return False


def _holds(path: Path, wanted: bytes) -> bool:
    try:
        return safe.read_bytes(path, len(wanted)) == wanted
    except OSError:
        return False


def _of_the_tree(to: Publication) -> Entry | None:
    """The entry of something that has the whole tree, as all images do: it has what is told."""
    whole = ("image", "filesystem", "file", "export")
    found = (one for one in to.plan.tops if one.kind in whole)
    return next((entry for one in found if (entry := to.cache.get(one)) is not None), None)


def warned(to: Publication) -> list[identities.Notice]:
    """What the images share with each other, or lack, since packages drew it while they were built.

    It is told by each build, also by one with nothing to do: the image is as it was.
    """
    entry = _of_the_tree(to)
    installed = {record.package for record in to.plan.lock.installed()}
    drawn = identities.read(entry.facts.get("drawn") if entry else None)
    made = {hostkeys.PACKAGE} if hostkeys.first_boot(to.spec, to.plan.lock) else set()
    return identities.told(drawn, installed, made)


def _removed(to: Publication) -> dict[str, list[dict[str, Any]]]:
    """What the layers took out of the tree, by pattern, where a spec has that."""
    entry = _of_the_tree(to)
    removed = entry.facts.get("removed", ()) if entry else ()
    found = [
        {"layer": layer, "pattern": pattern, "files": files} for layer, pattern, files in removed
    ]
    return {"removed": found} if found else {}


def _own_debs(lock: lockfile.Lock) -> list[dict[str, str]]:
    """The project's own .debs, as build.json tells them."""
    return [
        {
            "layer": layer.name,
            "package": record.package,
            "version": record.version,
            "architecture": record.architecture,
            "path": record.path,
            "sha256": record.sha256,
        }
        for layer in lock.layers
        for record in layer.records
        if record.repository == lockfile.OWN
    ]


def _build_json(
    to: Publication, sums: Mapping[str, str], published: bool, beside: Mapping[str, Any]
) -> str:
    """build.json: what this very build did.

    `locked`, `published` and `files` are beside the contract's; `files` is how the next build knows
    what in out/ is Strata's.
    """
    stages = []
    for stage in to.plan.stages:
        result = to.result(stage)
        stages.append(
            {
                "stage": stage.kind,
                "name": stage.name,
                "key": stage.key,
                "result": result.result,
                "seconds": round(result.seconds, 3),
                "bytes": result.bytes,
            }
        )
        if stage.kind == "layer" and stage.name in to.spec.unreproducible:
            stages[-1]["reproducible"] = False
    warnings = [
        {
            "layer": notice.layer,
            "package": notice.package,
            "paths": list(notice.paths),
            "done": notice.done,
            "message": notice.text(),
        }
        for notice in warned(to)
    ]
    content = {
        "spec": to.spec.name,
        "lock": to.lock_digest,
        **({"version": to.plan.version} if to.plan.version else {}),
        "seconds": round(time.monotonic() - to.started, 3),
        "locked": to.locked,
        **({"test": "off"} if to.untested else {}),
        "published": published,
        "files": dict(sorted(sums.items())),
        "stages": stages,
        "warnings": warnings,
        **_removed(to),
        **beside,
    }
    if own := _own_debs(to.plan.lock):
        content["debs"] = own
    return json.dumps(content, indent=1) + "\n"
