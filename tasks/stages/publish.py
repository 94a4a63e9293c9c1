"""Images → out/NAME/: images, metadata for provisioners, packages, digests, build.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedEntry
from ..host import holes, safe, space
from ..host.files import OWN_TEMPORARY, remove, written
from ..host.locks import locked
from ..plan import hostkeys, lockfile
from ..plan.stage import Plan, Result, Stage
from ..rootfs import identities
from ..spec.model import Spec, masked
from ..spec.words import counted
from ..store.cache import Cache
from ..store.record import Entry
from ..version import VERSION
from . import papers
from .limit import check_sizes
from .papers import known_files

if TYPE_CHECKING:
    from ..remote.signing import SecretKey

OWN = re.compile(rf"SHA256SUMS(\.sig)?|(build|host)\.json|{OWN_TEMPORARY.pattern}")
"""What each build writes into out/NAME/, beside what build.json lists."""


OWN_LOG = re.compile(r"(lock|compare|base|(layer|image)-[A-Za-z0-9+._-]+)\.log|diffoscope-.+\.txt")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is published where: of one build of a spec, whose images are in the cache."""

    out: Path
    spec: Spec
    plan: Plan
    uris: Mapping[str, str]
    """Each repository's address on this host, by its name, as far as it is known."""
    cache: Cache
    places: Mapping[str, Path]
    lock_digest: str
    locked: str
    """kept, asked or written: what became of the lock."""
    started: float
    """When the build began, by time.monotonic()."""
    result: Callable[[Stage], Result]
    say: Callable[[str], None]
    progress: Callable[[str], None]
    signer: SecretKey | None = None

    @property
    def papers(self) -> papers.Asked:
        """What goes with the images."""
        return papers.Asked(
            *(self.out, self.spec, self.plan, self.cache, self.lock_digest),
            *(self.signer, self.progress),
        )


def metadata(to: Publication, entries: list[Entry]) -> dict[str, Any]:
    """foo.yaml: fuel-agent's fields, which provisioners read, and what Strata adds.

    It is in SHA256SUMS, so nothing in it is of the host alone.
    """
    spec, plan = to.spec, to.plan
    first = plan.lock.repos[0].fields
    major, _, minor = first.get("Version", "").partition(".")
    return {
        "os": {
            "name": first.get("Origin", ""),
            "codename": first.get("Codename", ""),
            "version": first.get("Version", ""),
            "major": major,
            "minor": minor,
            "arch": spec.arch,
        },
        "repos": [
            {
                "type": "deb",
                "name": repo.name,
                # As the spec has it: what ${mirror} stands for is the host's, and in host.json.
                # Only an address's own secrets: a password may be a word of a host's name.
                "uri": masked(repo.uri),
                "suite": repo.suite,
                "section": repo.section,
                "priority": repo.priority,
                "meta": repo.meta,
                **({"snapshot": repo.snapshot} if repo.snapshot else {}),
            }
            for repo in spec.repos
        ],
        "packages": sorted({name for layer in spec.layers for name in layer.packages}),
        "images": [
            {
                "raw_md5": entry.facts["raw"]["md5"],
                "raw_sha256": entry.facts["raw"]["sha256"],
                "raw_size": entry.facts["raw"]["size"],
                "raw_name": None,
                "container_name": file,
                "container_md5": entry.facts["packed"]["md5"],
                "container_sha256": entry.facts["packed"]["sha256"],
                "container_size": entry.facts["packed"]["size"],
                "container": image.container,
                "format": image.format,
                "mount": image.mount,
                "uuid": entry.facts["uuid"],
                "label": image.label,
                "key": stage.key,
            }
            for image, file, stage, entry in zip(
                spec.images, plan.files, plan.images, entries, strict=True
            )
        ],
        "keys": {stage.task: stage.key for stage in plan.stages},
        "installed": {
            lockfile.short_name(record.package, record.architecture, spec.arch): record.version
            for record in plan.lock.installed()
        },
        "lock": to.lock_digest,
        **({"not_reproducible": list(spec.unreproducible)} if spec.unreproducible else {}),
        "tools": plan.tools,
        **({"version": plan.version} if plan.version else {}),
        "strata": VERSION,
    }


def host_text(to: Publication) -> str:
    """host.json: what differs by host where the images do not, which SHA256SUMS does not list."""
    addresses = {name: masked(uri) for name, uri in to.uris.items()}
    return json.dumps({"spec": to.spec.name, "repos": addresses}, indent=1) + "\n"


def packages_text(lock: lockfile.Lock) -> str:
    """packages.txt: name, version and architecture, a line each."""
    return "".join(
        f"{record.package} {record.version} {record.architecture}\n" for record in lock.installed()
    )


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
    import yaml

    spec, plan = to.spec, to.plan
    out = to.out
    entries = []
    for stage in plan.images:
        entry = to.cache.get(stage)
        if entry is None:
            raise DamagedEntry(
                f"the cache has lost {to.cache.file(stage).name}", "run the same command again"
            )
        entries.append(entry)
    check_sizes(spec, plan, entries, to.cache)
    texts = {
        f"{spec.name}.yaml": yaml.safe_dump(
            metadata(to, entries), sort_keys=False, default_flow_style=False, allow_unicode=True
        ),
        "packages.txt": packages_text(plan.lock),
    }
    sums = {file: entry.sha256 for file, entry in zip(plan.files, entries, strict=True)}
    beside = papers.papers(to.papers, sums)
    texts |= beside.texts
    sums |= beside.sums
    sums |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    texts["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    signed, signatures = papers.signatures(to.papers, texts, sums, known_files(out))
    contents = {name: text.encode() for name, text in texts.items()} | signed
    stale = _stale(to, {*sums, *signatures})
    copies = [
        (stage, entry, out / file)
        for file, stage, entry in zip(plan.files, plan.images, entries, strict=True)
        if not _same(to, out / file, entry)
    ]
    changed = [name for name, content in contents.items() if not _holds(out / name, content)]
    needed = sum(holes.used(entry.path) for _stage, entry, _target in copies)
    space.need_room(to.places, "out", needed, f"publishing {counted(len(copies), 'image')}")
    # All is written before anything gets its name: a full disk leaves the earlier build as it was.
    # SHA256SUMS comes last, so that a killed build's next one still knows what is stale, and then
    # build.json, which is no part of it.
    published = bool(stale or copies or changed)
    with contextlib.ExitStack() as last, contextlib.ExitStack() as first:
        # No sync: it is rewritten by every build, and says nothing that a build relies on.
        report = last.enter_context(written(out / "build.json", sync=False))
        if not _holds(out / "host.json", told := host_text(to).encode()):
            first.enter_context(written(out / "host.json", sync=False)).write_bytes(told)
        for name in changed:
            stack = last if name in ("SHA256SUMS", "SHA256SUMS.sig") else first
            stack.enter_context(written(out / name)).write_bytes(contents[name])
        for stage, entry, target in copies:
            _copy(to, stage, entry, first.enter_context(written(target)), target.name)
        report.write_text(
            _build_json(to, {**sums, **signatures}, published, beside.told), encoding="utf-8"
        )
        first.close()
        for name in stale:
            remove(out / name)
    for _stage, entry, target in copies:
        to.cache.memory.note(target, entry.sha256)
    return published


def _shown(out: Path, path: Path) -> str:
    """A path as a user knows it: relative to the checkout that has this folder of out/."""
    root = out.parent.parent
    return str(path.relative_to(root) if root in path.parents else path)


def _stale(to: Publication, names: set[str]) -> list[str]:
    """Files that the last build published and this one no longer has, if they are still those."""
    found = []
    known = known_files(to.out)
    for name in sorted(known.keys() - names):
        path = to.out / name
        if _is_published(to.cache, path, known[name]):
            found.append(name)
        elif os.path.lexists(path):
            to.say(f"{_shown(to.out, path)}: another file than Strata published; left alone")
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
    for folder in (out / "log/reproduce", out / "log", out):
        with contextlib.suppress(OSError), safe.at(folder) as here:
            here.rmdir()
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(out)):
            say(f"{_shown(out, out / name)}: it is not Strata's; left alone")


def _same(to: Publication, path: Path, entry: Entry) -> bool:
    try:
        same = path.lstat().st_size == entry.size
        return same and to.cache.memory.holds(path, entry.sha256)
    except OSError:
        return False


def _holds(path: Path, wanted: bytes) -> bool:
    try:
        return safe.read_bytes(path, len(wanted)) == wanted
    except OSError:
        return False


def _copy(to: Publication, stage: Stage, entry: Entry, temporary: Path, name: str) -> None:
    from ..formats import compress

    to.progress(f"publish: copying {name}")
    digest = hashlib.sha256()
    with (
        ThreadPoolExecutor(1) as lane,
        open(safe.reading(entry.path), "rb") as source,
        temporary.open("wb", buffering=compress.BLOCK) as copy,
        compress.sparse_copy(copy) as write,
    ):
        for block in compress.blocks(source):
            hashed = lane.submit(digest.update, block)
            write(block)
            hashed.result()
    if digest.hexdigest() != entry.sha256:
        to.cache.damaged(stage, to.progress)
        raise DamagedEntry(
            f"{entry.path}: its SHA-256 is not its record's; it is dropped",
            "run the same command again",
        )


def warned(to: Publication) -> list[identities.Notice]:
    """What the images share with each other, or lack, since packages drew it while they were built.

    It is told by each build, also by one with nothing to do: the image is as it was.
    """
    entry = to.cache.get(to.plan.images[0])  # all have the same tree
    installed = {record.package for record in to.plan.lock.installed()}
    drawn = identities.read(entry.facts.get("drawn") if entry else None)
    made = {hostkeys.PACKAGE} if hostkeys.first_boot(to.spec, to.plan.lock) else set()
    return identities.told(drawn, installed, made)


def _removed(to: Publication) -> dict[str, list[dict[str, Any]]]:
    """What the layers took out of the tree, by pattern, where a spec has that."""
    entry = to.cache.get(to.plan.images[0])  # all have the same tree
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
