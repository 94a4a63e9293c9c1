"""out/NAME/ made again from its lock in an empty cache, and compared byte by byte.

spec + lock ─→ every stage, in a cache of its own ─→ same bytes as in cache/ and out/NAME/?
                                                     else the first stage, file and field
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from ..host.files import read_sha256
from ..host.log import Log
from ..host.process import need_root
from ..plan.filesystems import filesystems
from ..plan.stage import Plan, Stage, other_tools
from ..rootfs.drawn import KEPT
from ..session.making import make
from ..session.session import Session
from ..spec.images import Image
from ..spec.words import counted
from ..stages import items
from ..stages.make import build
from ..store.cache import Cache
from ..store.seen import SeenFiles
from .comparing import SAME, Drawn, Verdict, compare_images, compare_trees
from .metadata import metadata, texts


def reproduce(session: Session) -> None:
    """Build everything again and compare; BuildError that says where it differs if it does."""
    need_root("doit reproduce")
    plan = session.plan
    _check_published(session, plan)
    with _fresh(session) as fresh:
        log = fresh.log("compare.log", "compare")
        differences: list[str] = []
        compared = 0
        drawn, others = Drawn(), Others(plan=plan)
        with session.cache.used(session.screen.progress), log as said:
            for stage in plan.tree:
                make(fresh, stage, build)
                old = session.cache.intact(stage)
                new = fresh.cache.require(stage)
                drawn.add(new)
                found = compare_trees(old, new, drawn, fresh, said)
                others.note(stage, found, may=old is None and kept(drawn))
                differences += _told(session, stage, found, old is not None)
            for stage in plan.tops:
                if stage.kind == "test":
                    continue  # what it says is of a moment
                make(fresh, stage, build)
                if not stage.kept:
                    continue
                if stage.kind in ("image", "filesystem"):
                    made = _filesystem(session, stage)
                    found, known = _image(session, fresh, stage, made, drawn, said)
                    may = not known and (kept(drawn) or bool(FILESYSTEMS[made.format].varies))
                    others.note(stage, found, may=may)
                else:
                    found, known = _above(session, fresh, stage, others)
                    others.note(stage, found)
                differences += _told(session, stage, found, known)
                compared += stage.kind in ("image", "file", "export")
    if differences:
        raise BuildError(
            f"{_out(session)} is not what its lock gives again:\n    " + "\n    ".join(differences),
            f"the details are in {_out(session)}/log/reproduce/",
        )
    but = f", but for what {', '.join(drawn.seen)} drew by chance" if drawn.seen else ""
    what = "image" if len(plan.products) == len(plan.images) else "file"
    session.screen.line(f"reproduced {_out(session)}/: {counted(compared, what)}{but}")


@dataclass(kw_only=True)
class Others:
    """The stages that had other bytes, and are the same in what counts: drawn, or a kernel's."""

    plan: Plan
    found: dict[str, Stage] = field(default_factory=dict)
    """By their tasks."""

    def note(self, stage: Stage, verdict: Verdict, *, may: bool = False) -> None:
        """Remember a stage of which this is told, or of which nothing is known and it `may` be."""
        if verdict.same and (verdict.text or may):
            self.found[stage.task] = stage

    def followed(self, stage: Stage) -> str:
        """Names those that a stage is made of, the lowest of each way alone; "" for none."""
        below = [one for one in self.plan.closure([stage]) if one.task in self.found]
        of = [one for one in below if one != stage and not self.lower(one)]
        return ", ".join(one.title for one in of)

    def lower(self, stage: Stage) -> bool:
        """Whether something that it is made of is one, too."""
        closure = self.plan.closure([stage])
        return any(one.task in self.found for one in closure if one != stage)


def kept(drawn: Drawn) -> bool:
    """Whether something that packages drew is in a tree."""
    return any(one.done == KEPT for one in drawn.notices)


def _filesystem(session: Session, stage: Stage) -> Image:
    return next(one for one in filesystems(session.spec) if one.mount == stage.name)


def _image(
    session: Session, fresh: Session, stage: Stage, made: Image, drawn: Drawn, log: Log
) -> tuple[Verdict, bool]:
    """How a filesystem differs from what is published or cached; if that is known."""
    new = fresh.cache.require(stage)
    products = [one for one in session.plan.products if one.stage == stage]
    old = session.cache.intact(stage)
    path = session.out / products[0].name if products else old.path if old else None
    if path is None:
        return SAME, False
    made = made if products else replace(made, container="raw")
    return compare_images(path, new, made, drawn, fresh, log), True


def _above(session: Session, fresh: Session, stage: Stage, others: Others) -> tuple[Verdict, bool]:
    """The same of any other stage above the tree: by its bytes, unless others decide these."""
    new = fresh.cache.require(stage)
    products = [one for one in session.plan.products if one.stage == stage]
    followed = others.followed(stage)
    if not products:
        old = session.cache.intact(stage)
        same = old is None or old.sha256 == new.sha256
        return (SAME if same else _follows("other bytes", followed)), old is not None
    known = {one.task: fresh.cache.require(one) for one in session.plan.closure([stage])
             if one.kept}  # fmt: skip
    found = SAME
    for item in items.of_product(session.plan, products[0], known):
        path = session.out / item.path
        # What is named by its digest has another name.
        if not path.is_file() and not (followed and item.path.endswith(item.sha256)):
            return Verdict(same=False, text=f"{item.path} is missing"), True
        if found.same and (not path.is_file() or read_sha256(path) != item.sha256):
            found = _follows(f"{item.path} has other bytes", followed)
    return found, True


def _follows(text: str, followed: str) -> Verdict:
    if not followed:
        return Verdict(same=False, text=text)
    return Verdict(same=True, text=f"{text}, which follows from {followed}")


def _out(session: Session) -> str:
    return str(session.out.relative_to(session.root))


def _told(session: Session, stage: Stage, found: Verdict, known: bool) -> list[str]:
    """Say what came of one stage; the difference, if there is one."""
    if not known:
        session.screen.line("    the cache has no other one to compare with")
    elif found.same:
        session.screen.line(f"    {found.text or 'the same bytes'}")
    else:
        session.screen.line(f"    differs: {found.text}")
        return [f"{stage.task}: {found.text}"]
    return []


def _check_published(session: Session, plan: Plan) -> None:
    """BuildError unless out/NAME/ was built from the stages of this plan."""
    path = session.out / f"{session.spec.name}.yaml"
    where = path.relative_to(session.root)
    again = f"doit build spec={session.spec.name}"
    try:
        content = metadata(path)
        known, tools = texts(content, "keys"), texts(content, "tools")
    except FileNotFoundError as error:
        raise BuildError(f"{where} is missing: there is nothing to compare with", again) from error
    except (OSError, ValueError) as error:
        raise BuildError(f"{where}: not what a build wrote: {error}", again) from error
    # Tests are not made again, and this host need not be able to run them.
    planned = {stage.task: stage.key for stage in plan.stages if stage.kind != "test"}
    known = {task: key for task, key in known.items() if not task.startswith("boot_test:")}
    if known != planned:
        other = [task for task in planned if known.get(task) != planned[task]]
        if differ := other_tools(tools, plan.tools):
            raise BuildError(
                f"{where}: it was built with other tools than this host has: {', '.join(differ)}",
                f"reproduce it on a host like that one, or build anew: {again}",
            )
        raise BuildError(
            f"{where}: it was built from another spec, lock, SOURCE_DATE_EPOCH or other tools: "
            f"{other[0] if other else 'a stage'} has another key",
            f"restore what it was built with, or build anew: {again}",
        )


@contextlib.contextmanager
def _fresh(session: Session) -> Iterator[Session]:
    """A session of the same spec and lock with an empty cache, which is removed at the end.

    Only .debs are shared: they are what the lock names by SHA-256, and no result of a build.
    """
    # What is made again is for comparing, and sent nowhere.
    variables = {**session.variables, "cache_mode": "pull"} if session.shared else session.variables
    fresh = Session(
        root=session.root, variables=variables, screen=session.screen, logs="log/reproduce"
    )
    with fresh.stack:
        root = fresh.scratch / "cache"
        root.mkdir()
        fresh.cache = Cache(root, SeenFiles(root / "seen.json"), session.cache.debs)
        yield fresh
