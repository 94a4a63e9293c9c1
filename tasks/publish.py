"""Images → out/NAME/: images, metadata for provisioners, packages, digests, build.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tasks import holes, host, lockfile, room
from tasks.cache import Entry
from tasks.errors import DamagedEntry
from tasks.plan import Stage
from tasks.session import Session
from tasks.spec import masked

VERSION = "0.1.0"


def metadata(session: Session, entries: list[Entry]) -> dict[str, Any]:
    """foo.yaml: fuel-agent's fields, which provisioners read, and what Strata adds."""
    spec, plan = session.spec, session.plan
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
                # Only an address's own secrets: a password may be a word of a host's name.
                "uri": masked(session.uris[repo.name]),
                "suite": repo.suite,
                "section": repo.section,
                "priority": repo.priority,
                "meta": repo.meta,
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
                "container_name": image.file,
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
            for image, stage, entry in zip(spec.images, plan.images, entries, strict=True)
        ],
        "keys": {stage.task: stage.key for stage in plan.stages},
        "installed": {
            _package(record.package, record.architecture, spec.arch): record.version
            for record in plan.lock.installed()
        },
        "lock": session.lock_digest,
        "tools": plan.tools,
        "strata": VERSION,
    }


def _package(name: str, architecture: str, arch: str) -> str:
    return name if architecture in ("all", arch) else f"{name}:{architecture}"


def packages_text(lock: lockfile.Lock) -> str:
    """packages.txt: name, version and architecture, a line each."""
    return "".join(
        f"{record.package} {record.version} {record.architecture}\n" for record in lock.installed()
    )


def publish(session: Session) -> None:
    """Bring out/NAME/ to what the plan says; what is right already is not touched.

    An image's SHA-256 is checked while it is copied. Files of an earlier build that no longer
    belong are removed. BuildError, and out/ as it was, where there is no room for all of it.
    One build at a time: two of one spec, with other locks, would leave a mixture.
    """
    session.out.mkdir(parents=True, exist_ok=True)
    with host.locked(session.out, waiting=session.screen.progress):
        _publish(session)


def _publish(session: Session) -> None:
    import yaml

    spec, plan = session.spec, session.plan
    out = session.out
    entries = []
    for stage in plan.images:
        entry = session.cache.get(stage)
        if entry is None:
            raise DamagedEntry(f"the cache has lost {session.cache.file(stage).name}",
                               "run the same command again")  # fmt: skip
        entries.append(entry)
    texts = {
        f"{spec.name}.yaml": yaml.safe_dump(metadata(session, entries), sort_keys=False,
                                            default_flow_style=False, allow_unicode=True),
        "packages.txt": packages_text(plan.lock),
    }  # fmt: skip
    sums = {image.file: entry.sha256 for image, entry in zip(spec.images, entries, strict=True)}
    sums |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    texts["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    stale = _stale(out, set(sums))
    copies = [(stage, entry, out / image.file)
              for image, stage, entry in zip(spec.images, plan.images, entries, strict=True)
              if not _same(session, out / image.file, entry)]  # fmt: skip
    changed = [name for name, text in texts.items() if not _holds(out / name, text)]
    needed = sum(holes.used(entry.path) for _stage, entry, _target in copies)
    room.need_room(session.places, "out", needed, f"publishing {len(copies)} images")
    # All is written before anything gets its name: a full disk leaves the earlier build as it was.
    # SHA256SUMS comes last, so that a killed build's next one still knows what is stale, and then
    # build.json, which is no part of it.
    session.published = bool(stale or copies or changed)
    with contextlib.ExitStack() as last, contextlib.ExitStack() as first:
        # No sync: it is rewritten by every build, and says nothing that a build relies on.
        report = last.enter_context(host.written(out / "build.json", sync=False))
        for name in changed:
            stack = last if name == "SHA256SUMS" else first
            stack.enter_context(host.written(out / name)).write_text(texts[name], encoding="utf-8")
        for stage, entry, target in copies:
            _copy(session, stage, entry, first.enter_context(host.written(target)), target.name)
        report.write_text(_build_json(session), encoding="utf-8")
        first.close()
        for name in stale:
            (out / name).unlink(missing_ok=True)
    for _stage, entry, target in copies:
        session.cache.memory.note(target, entry.sha256)


def _stale(out: Path, names: set[str]) -> list[str]:
    """Files that the last SHA256SUMS lists and this build no longer has."""
    try:
        lines = (out / "SHA256SUMS").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    listed = {line[66:] for line in lines if len(line) > 66}
    return sorted(name for name in listed - names if "/" not in name and not name.startswith("."))


def _same(session: Session, path: Path, entry: Entry) -> bool:
    try:
        return (
            path.is_file() and not path.is_symlink() and path.stat().st_size == entry.size
            and session.cache.memory.holds(path, entry.sha256)
        )  # fmt: skip
    except OSError:
        return False


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes() == text.encode()


def _copy(session: Session, stage: Stage, entry: Entry, temporary: Path, name: str) -> None:
    from tasks import compress

    session.screen.progress(f"publish: copying {name}")
    digest = hashlib.sha256()
    with (
        ThreadPoolExecutor(1) as lane,
        entry.path.open("rb") as source,
        temporary.open("wb", buffering=compress.BLOCK) as copy,
        compress.sparse_copy(copy) as write,
    ):
        for block in compress.blocks(source):
            hashed = lane.submit(digest.update, block)
            write(block)
            hashed.result()
    if digest.hexdigest() != entry.sha256:
        session.cache.damaged(stage, session.screen.progress)
        raise DamagedEntry(f"{entry.path}: its SHA-256 is not its record's; it is dropped",
                           "run the same command again")  # fmt: skip


def _build_json(session: Session) -> str:
    """build.json: what this very build did. `locked` and `published` are beside the contract's."""
    stages = []
    for stage in session.plan.stages:
        result = session.result(stage)
        stages.append({"stage": stage.kind, "name": stage.name, "key": stage.key,
                       "result": result.result, "seconds": round(result.seconds, 3),
                       "bytes": result.bytes})  # fmt: skip
    content = {
        "spec": session.spec.name,
        "lock": session.lock_digest,
        "seconds": round(time.monotonic() - session.started, 3),
        "locked": session.locked,
        "published": session.published,
        "stages": stages,
    }
    return json.dumps(content, indent=1) + "\n"
