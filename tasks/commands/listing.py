"""`strata list` and `info`: the specs, a spec's graph, one of its stages. Both work offline."""

from __future__ import annotations

import itertools
import os

from ..errors import BuildError
from ..plan import fstab, lockfile
from ..plan.filesystems import on_disks
from ..plan.stage import TREE, Plan
from ..session.session import Session
from ..spec.load import spec_names
from ..spec.model import Spec
from ..spec.words import near
from ..stages import items


def listing(session: Session) -> None:
    """Say what there is; a spec without a lock has no keys yet. BuildError for a bad one."""
    if not session.name:
        names = spec_names(session.specs)
        for name in names:
            session.screen.line(name)
        if not names:
            session.screen.line("no spec here: strata init makes one")
        return
    try:
        plan = session.plan
    except BuildError:
        spec = session.spec  # its own error, if it is what cannot be read
        session.screen.line("base")
        # What is in a folder of theirs, and what the lock asks for, is not known yet.
        files = {one.name: [[file.target] for file in one.files] for one in spec.layers}
        last = ["settings"] if spec.settings or fstab.wanted(spec, files) else []
        for layer in [*(one.name for one in spec.layers), *last]:
            session.screen.line(f"└─ layer {layer}")
        for task in above(spec):
            session.screen.line(f"   └─ {task.replace(':', ' ', 1)}")
        session.screen.line(f"no key is known before {session.lock_path} is: strata lock")
        return
    for stage in plan.stages:
        entry = session.cache.get(stage) if stage.kept else None
        depth = {"base": "", "layer": "└─ "}.get(stage.kind, "   └─ ")
        size = f"{entry.path.stat().st_size / 1e6:10.1f} MB" if entry else ""
        state = "in the cache" if entry else "not built"
        session.screen.line(f"{depth + stage.title:<24} {stage.key[:8]}  {state:<12}{size}")


# ---------------------------------------------------------------- info

DOES = {
    "lock": "looks at the repositories, writes the lock: which packages, in which versions",
    "base": "bootstraps a tree from the locked packages",
    "layer": "packages, files and script, on the tree below",
    "layer:settings": "hostname, time zone, locale, root's password, apt's sources: what the spec "
    "has of them",
    "image": "a filesystem image of its mount point's part of the tree",
    "filesystem": "the same, raw, as a disk's partition holds it",
    "verity": "the hash tree by which the kernel checks a disk's root as it reads it",
    "esp": "an EFI system partition with the boot loader",
    "bios": "the boot loader for BIOS",
    "disk": "a whole disk, written in scratch of its parts for the files that are made of it",
    "file": "a disk in one format, as it is published",
    "blob": "one tree as a layer of OCI",
    "export": "the whole tree in another form",
    "boot_test": "boots a disk's file in QEMU and runs scripts in it",
    "build": "brings what is published up to date",
}
"""What each task of the graph is for."""


def info(session: Session, task: str) -> None:
    """Say what a task does, its state, its file and what it stands on.

    `layer` and `image` are all of them. BuildError for a task that the spec has none of.
    """
    spec = session.spec
    below = _below(session)
    wanted = [one for one in below if one == task or one.partition(":")[0] == task]
    if not wanted:
        meant = near(task, below)
        raise BuildError(
            f"{spec.path}: {task}: there is no such stage",
            (f"did you mean {meant}? " if meant else "") + f"stages: {', '.join(below)}",
        )
    for one in wanted:
        does = DOES.get(one) or DOES[one.partition(":")[0]]
        rows = {"does": does, **_state(session, one)}
        rows["stands on"] = ", ".join(below[one]) or "the spec and its repositories"
        session.screen.line(f"{one} of {spec.name}")
        for name, text in rows.items():
            session.screen.line(f"  {name:<9}  {text}")


def above(spec: Spec) -> list[str]:
    """The tasks of what stands on a spec's tree, as far as they are known without a lock."""
    disks = [f"disk:{one.name}" for one in spec.disks]
    files = [f"file:{file.name}" for one in spec.disks for file in one.files]
    return [
        *(f"filesystem:{mount}" for mount in sorted(on_disks(spec))),
        *(f"image:{image.mount}" for image in spec.images),
        *disks,
        *files,
        *(f"export:{one.name}" for one in spec.exports),
    ]


def _below(session: Session) -> dict[str, list[str]]:
    """Every task of the spec's graph, in its order, with what it is made of."""
    spec = session.spec
    names = [*(layer.name for layer in spec.layers), *(["settings"] if spec.settings else [])]
    tree = ["base", *(f"layer:{name}" for name in names)]
    lock = session.read_lock()
    found: dict[str, list[str]] = {"lock": [], "base": ["lock"]}
    if lock is not None and session.fits(lock):
        plan = session.plan
        for stage in plan.stages[1:]:
            below = plan.below(stage)
            parts = [one.task for one in below if one.kind not in TREE]
            last = [one.task for one in below if one.kind in TREE][-1:]
            found[stage.task] = [*last, *parts]
        return {**found, "build": [one.task for one in plan.ends]}
    found |= {over: [under] for under, over in itertools.pairwise(tree)}
    tops = above(spec)
    found |= {one: [tree[-1]] for one in tops}
    return {**found, "build": tops}


def _state(session: Session, task: str) -> dict[str, str]:
    """A task's state, and where its results are, by the names that `info` shows."""
    lock = session.read_lock()
    fits = lock is not None and session.fits(lock)
    if task == "lock":
        return {"state": "current" if fits else lockfile.state(lock),
                "file": str(session.lock_path)}  # fmt: skip
    if not fits:
        return {"state": f"not known before {session.lock_path} is: it is {lockfile.state(lock)}"}
    plan = session.plan
    if task == "build":
        return {"state": _published(session, plan), "folder": f"{os.path.relpath(session.out)}/"}
    stage = next(one for one in plan.stages if one.task == task)
    if not stage.kept:
        return {"state": "written in scratch, when a file of it is made", "key": stage.key}
    entry = session.cache.get(stage)
    size = f", {entry.path.stat().st_size / 1e6:.1f} MB" if entry else ""
    return {
        "state": "in the cache" if entry else "not built",
        "key": stage.key,
        "file": os.path.relpath(session.cache.file(stage)) + size,
        "log": os.path.relpath(session.out / "log" / stage.log),
    }


def _published(session: Session, plan: Plan) -> str:
    """Whether all is what a build would publish now."""
    lacking = []
    known = {one.task: entry for one in plan.ends if (entry := session.cache.get(one)) is not None}
    for product in plan.products:
        stages = [product.stage, *(one for one in plan.below(product.stage) if one.kind == "blob")]
        there = all(one.task in known for one in stages) and all(
            _holds(session, one) for one in items.of_product(plan, product, known)
        )
        lacking += [] if there else [product.name]
    files = [one.name for one in plan.products]
    return f"not up to date: {', '.join(lacking)}" if lacking else f"up to date: {', '.join(files)}"


def _holds(session: Session, item: items.Item) -> bool:
    try:
        return session.cache.memory.holds(session.out / item.path, item.sha256)
    except OSError:
        return False
