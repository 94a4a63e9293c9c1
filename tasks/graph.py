"""The graph as doit reads it: a creator for each task, and nothing else.

    lock ─→ base ─→ layer:… ─┬→ image:… ───────────────────┬→ build      and, beside it, commands/
                             ├→ filesystem:… esp:… bios:…   │
                             │    └→ disk:… ─→ file:… ──────┤
                             ├→ blob:… ─→ export:… ─────────┤
                             └→ … file:… ─→ boot_test:… ────┘

What a creator needs of this run is in Reporter.session; dodo.py has begun it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from doit import create_after
from doit.exceptions import InvalidDodoFile

from .errors import BuildError
from .plan.stage import Plan, Stage
from .session.actions import Task, action
from .session.reporter import Reporter
from .session.session import Session
from .spec.words import network_told

GROUPS = {
    "filesystem": "raw filesystem of each mount point that a disk has",
    "image": "filesystem image of each mount point",
    "verity": "hash tree of a disk's root",
    "esp": "EFI system partition of each disk",
    "bios": "boot loader for BIOS of each disk",
    "disk": "each whole disk, in scratch",
    "file": "what a disk is published as",
    "blob": "each tree as a layer of OCI",
    "export": "the tree in other forms",
    "boot_test": "boots of disks, with scripts that run in them",
}
"""Tasks that make what stands on the tree, with what they are for; stages of kind `test` are
`boot_test`, since `test` runs Strata's own."""

BASE, LAYER = "bootstrap from the locked packages", "packages, files and scripts, on those below"

NEEDS_ROOT = ("build", *GROUPS, "layer", "base")
"""Tasks that make stages; ./doit has the same names."""


def _session() -> Session:
    return Reporter.session


def task_lock() -> Task:
    """look at the repositories, write specs/NAME.lock"""

    def work() -> None:
        from .commands.lock import told as lock_told
        from .commands.lock import update
        from .session.needs import need_arch, need_root_first, need_tests_first

        session = _session()
        if Reporter.selected_of(NEEDS_ROOT):
            session.screen.begin(session.name, session.variables.get("progress", "auto"))
        # What they cannot be is said before anything is done.
        _ = session.shared, session.signer
        if Reporter.selected_of(NEEDS_ROOT):
            need_root_first(session)
            session.chronicle.begin()
        if not Reporter.selected("lock"):
            need_arch(session, early=True)
        # From here on `doit prune` waits: what this run finds in the cache stays until its end.
        session.begin()
        if session.variables.get("format", "text") != "text" and Reporter.selected("lock"):
            lock_told(session)
            return
        update(session)
        if Reporter.selected("lock"):
            session.screen.line(
                f"{session.lock_path}: {'written' if session.changes else 'unchanged'}"
            )
            for name in session.spec.unreproducible:
                session.screen.line(f"  {network_told(name)}")
            if session.changed:
                session.screen.line(session.changed)
            for line in session.changes:
                session.screen.line(f"  {line}")
        if Reporter.selected_of(NEEDS_ROOT):
            session.told.plan(Reporter.chosen)
            need_tests_first(session)

    return {"actions": [action(work)], "uptodate": [False]}


@dataclass(frozen=True)
class InCache:
    """Whether the cache has a stage; doit's own `info` shows what this is as a text."""

    stage: Stage

    def __call__(self) -> bool:
        """True: there is nothing to do; what a shared cache has is brought here first."""
        if not Reporter.running:  # `list` and `info` look, and fetch nothing
            return _session().cache.intact(self.stage) is not None
        session = _session()
        # What else is to come from there comes beside it.
        beside = session.told.forecast.pull if Reporter.selected_of(NEEDS_ROOT) else ()
        there = session.exchange.have(self.stage, beside)
        if there:
            session.told.decided(self.stage)
        return there

    def __str__(self) -> str:
        return f"the cache has {self.stage.entry}"


def _stage(stage: Stage, below: list[str], held: list[str], make: Callable[[Stage], None]) -> Task:
    """One stage's task; `below` are all that it stands on, since its tree is made of all.

    Of these `held` come first, whatever the cache has: only then is known whether that counts.
    """
    if not stage.kept:  # made for those that are made of it, who alone ask for it
        return {
            "doc": f"key {stage.key}",
            "actions": [action(lambda: make(stage))],
            "uptodate": [False],
            "setup": list(below),
        }
    # No targets: stages with one key have one file, and doit takes a file from one task alone.
    return {
        "doc": f"key {stage.key}",
        "actions": [action(lambda: make(stage))],
        "uptodate": [InCache(stage)],
        "setup": [one for one in below if one not in held],
        **({"task_dep": held} if held else {}),
    }


def _make(stage: Stage) -> None:
    # A build with nothing to do does not come here, so that it does not import what this needs.
    from .session.making import make
    from .stages.make import build

    make(_session(), stage, build)


def _make_beside(stage: Stage) -> None:
    from .session.making import make_beside
    from .stages.make import build

    make_beside(_session(), stage, build)


def _planned() -> Plan | None:
    """The plan, or None when there is none yet; while tasks run, a plan that fails is an error."""
    session = _session()
    try:
        return session.plan if session.name else None
    except BuildError as error:
        if not Reporter.running:
            return None
        session.chronicle.refused(error)
        raise InvalidDodoFile(session.mask_if_known(str(error))) from error


def _stages(group: str) -> Iterator[Task]:
    """The tasks of one kind of stage; while tasks run, those of all kinds at once.

    doit makes the tasks of a creator when it comes to one of them, and each may name others: so
    whichever creator is asked first makes all. Its `list` asks each of them.
    """
    groups = ("base", "layer", *GROUPS) if Reporter.running else (group,)
    for one in groups:
        if one != "base":
            yield {"basename": one, "name": None, "doc": {"layer": LAYER, **GROUPS}[one]}
    plan = _planned()
    if plan is None:
        if "base" in groups:
            yield {"basename": "base", "doc": BASE, "actions": [action(_no_plan)]}
        return
    for stage in plan.stages:
        if stage.group in groups:
            every = Reporter.selected("build") or Reporter.selected(stage.group)
            below = [one.task for one in plan.below(stage)]
            yield {
                "basename": stage.group,
                **({"name": stage.name} if stage.kind != "base" else {}),
                **_stage(
                    stage,
                    below,
                    [one.task for one in plan.held(stage)],
                    _make_beside if every and stage.beside else _make,
                ),
            }


@create_after(executed="lock")
def task_base() -> Iterator[Task]:
    """bootstrap from the locked packages"""
    yield from _stages("base")


@create_after(executed="lock")
def task_layer() -> Iterator[Task]:
    """packages, files and scripts, on those below"""
    yield from _stages("layer")


@create_after(executed="lock")
def task_filesystem() -> Iterator[Task]:
    """raw filesystem of each mount point that a disk has"""
    yield from _stages("filesystem")


@create_after(executed="lock")
def task_image() -> Iterator[Task]:
    """filesystem image of each mount point"""
    yield from _stages("image")


@create_after(executed="lock")
def task_verity() -> Iterator[Task]:
    """hash tree of a disk's root"""
    yield from _stages("verity")


@create_after(executed="lock")
def task_esp() -> Iterator[Task]:
    """EFI system partition of each disk"""
    yield from _stages("esp")


@create_after(executed="lock")
def task_bios() -> Iterator[Task]:
    """boot loader for BIOS of each disk"""
    yield from _stages("bios")


@create_after(executed="lock")
def task_disk() -> Iterator[Task]:
    """each whole disk, in scratch"""
    yield from _stages("disk")


@create_after(executed="lock")
def task_file() -> Iterator[Task]:
    """what a disk is published as"""
    yield from _stages("file")


@create_after(executed="lock")
def task_blob() -> Iterator[Task]:
    """each tree as a layer of OCI"""
    yield from _stages("blob")


@create_after(executed="lock")
def task_export() -> Iterator[Task]:
    """the tree in other forms"""
    yield from _stages("export")


@create_after(executed="lock")
def task_boot_test() -> Iterator[Task]:
    """boots of disks, with scripts that run in them"""
    yield from _stages("boot_test")


@create_after(executed="lock")
def task_build() -> Task:
    """bring out/NAME/ up to date with specs/NAME.yaml"""
    # A bill of materials is made of the trees, also where nothing else needs them.
    trees = ["base", "layer"] if Reporter.running and _planned() and _wants_trees() else []
    return {
        "actions": [action(_publish)],
        "task_dep": [*trees, *_ends()],
        "uptodate": [False],
        "clean": [_clean_out],
    }


def _ends() -> list[str]:
    """The groups of what a build asks for; without a plan the one whose error says why."""
    plan = _planned()
    found = {one.group for one in _session().ends} if plan else {"image"}
    return [group for group in GROUPS if group in found]


def _wants_trees() -> bool:
    from .commands.publish import wants_trees

    return _session().spec.sbom != "" and wants_trees(_session())


def _no_plan() -> None:
    """What runs when there was no plan: says why."""
    _ = _session().plan


def _publish() -> None:
    from .commands.publish import publish

    _session().exchange.give_all()
    _session().exchange.finish()
    publish(_session())


def _clean_out() -> None:
    from .commands.publish import clean

    clean(_session())
