"""`strata report`: one HTML page of a spec, or of several: report/NAME.html; offline."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import safe, strict
from ..host.files import write_text
from ..host.log import last_lines
from ..plan import lockfile
from ..plan.changes import in_image, packages_of
from ..plan.difference import Difference, File, Part, difference
from ..plan.stage import Stage
from ..report.chapter import Chapter, Failure, Image, Lacking, Package
from ..report.page import moment, page
from ..rootfs.licences import Licences, of_package
from ..rootfs.stacked import Sizes, stacked
from ..session.session import Session
from ..store import history
from ..store.history import Build, Took
from ..store.record import FOLDERS
from .diff import of_stages, with_files
from .drawing import Node, svg
from .graph import joined, nodes
from .keys import each_spec
from .sizes import trees_of

if TYPE_CHECKING:
    from ..remote.shared import Shared
    from ..rootfs.contents import Contents

FOLDER, ALL = "report", "all"
"""Where a report lies, and what that of several specs is called."""


def report(session: Session) -> None:
    """Write it; what cannot be told is in it, with the command that helps."""
    if not session.variables.get("spec"):
        raise BuildError("report: which spec?", "add spec=all, or spec=NAME")
    every = each_spec(session)
    several = len(every) != 1
    # What else is said of what lacks is in the page.
    with contextlib.redirect_stdout(sys.stderr):
        shared = session.shared
        found = [_chapter(one, shared, several=several) for one in every]
    chapters = [chapter for chapter, _nodes in found]
    graph = joined([each for _chapter, each in found]) if several else []
    text = page(chapters, svg(graph, alone=False) if graph else "")
    name = ALL if several else every[0].name
    path = Path(session.variables.get("file") or f"{FOLDER}/{name}.html")
    try:
        write_text(path, text, sync=False)
    except OSError as error:
        reason = "a link is on the way" if error.errno == errno.ELOOP else error.strerror
        raise BuildError(
            f"{path}: cannot be written: {reason}", "file=PATH names another one"
        ) from error
    session.screen.line(str(path))
    for chapter in chapters:
        for what in [*chapter.lacking, *_unread(chapter)]:
            whose = f"{chapter.name}: " if several else ""
            command = f" – {what.command}" if what.command else ""
            session.screen.note(f"  {whose}without {what.what}: {what.why}{command}")


def _unread(chapter: Chapter) -> list[Lacking]:
    return [Lacking("anything", chapter.error)] if chapter.error else []


def _chapter(
    session: Session, shared: Shared | None, *, several: bool
) -> tuple[Chapter, list[Node]]:
    """What there is to say of a spec, and its stages; of `several`, that one is bad."""
    try:
        _ = session.spec
        lock = session.read_lock()
    except BuildError as error:
        if not several:
            raise
        return Chapter(name=session.name, error=error.message), []
    session.screen.moving(f"report: reading what there is of {session.name}")
    lacking: list[Lacking] = []
    drawn = _nodes(session, lock, shared, lacking)
    trees: tuple[Sizes, Sequence[Contents]] | None = None
    if drawn:
        trees = _trees(session, lacking)
    plan = session.plan if drawn else None
    builds = history.builds(session.state, session.name)
    if not builds:
        lacking.append(
            Lacking("builds", "none is remembered here", f"strata build spec={session.name}")
        )
    shown, before = _worth_showing(builds)
    changed, uncompared = _changed(session, builds)
    return (
        Chapter(
            name=session.name,
            lacking=lacking,
            images=[
                Image(stage.name, file, _size(drawn, stage))
                for stage, file in zip(plan.images, plan.files, strict=True)
            ]
            if plan
            else [],
            graph=svg(drawn, alone=False) if drawn else "",
            builds=builds,
            shown=shown,
            before=before,
            failure=_failure(session, builds),
            changed=changed,
            uncompared=uncompared,
            layers=[stage.name for stage in plan.tree] if plan else [],
            sizes=trees[0] if trees else None,
            packages=_packages(session, lock, trees) if lock else [],
            version=plan.version if plan else "",
        ),
        drawn,
    )


def _nodes(
    session: Session, lock: lockfile.Lock | None, shared: Shared | None, lacking: list[Lacking]
) -> list[Node]:
    """The stages; none where the lock is not of the spec, or a file of it is missing."""
    if lock is None or not session.fits(lock):
        lacking.append(
            Lacking(
                "stages and sizes",
                f"{session.lock_path}: the lock is {lockfile.state(lock)}",
                f"strata lock spec={session.name}",
            )
        )
        return []
    try:
        return nodes(session, shared, several=False)
    except BuildError as error:
        lacking.append(Lacking("stages and sizes", error.in_a_line))
        return []


def _size(drawn: Sequence[Node], stage: Stage) -> int | None:
    return next((node.size for node in drawn if node.entry == stage.entry), None)


# ---------------------------------------------------------------- trees and packages


def _trees(session: Session, lacking: list[Lacking]) -> tuple[Sizes, Sequence[Contents]] | None:
    """Sizes of the trees, and what they hold; None where the cache lacks one, or it is not ours.

    Of what is in a folder in which not everybody may look, no name is told.
    """
    try:
        _entries, trees = trees_of(session)
    except BuildError as error:
        lacking.append(Lacking("sizes and licences", error.in_a_line))
        return None
    found = stacked(trees, session.spec.arch)
    closed: set[str] = set()
    for tree in trees:
        closed = (closed - tree.folders) | tree.closed
    inside = tuple(f"/{path}/" for path in closed)
    folders = [one for one in found.folders if not one[0].startswith(inside)]
    return replace(found, folders=folders), trees


def _packages(
    session: Session,
    lock: lockfile.Lock,
    trees: tuple[Sizes, Sequence[Contents]] | None,
) -> list[Package]:
    """The packages that the lock leaves in the image, by name."""
    suites = {repo.name: repo.suite for repo in session.spec.repos}
    names = {repo.name: _origin(repo.fields) for repo in lock.repos}
    debs = {
        lockfile.short_name(one.package, one.architecture, lock.arch): one
        for one in lock.installed()
    }
    sizes = {one.name: one.bytes for one in trees[0].packages} if trees else {}
    licences: dict[str, Licences] = {}
    docs: dict[str, str] = {}
    for tree in trees[1] if trees else ():
        licences |= tree.licences
        docs |= tree.docs
    return [
        Package(
            name=name,
            version=one.version,
            layer=one.layer,
            repository=one.path or one.repository,
            origin=names.get(one.repository, ""),
            security=one.security,
            deb=debs[name].size if name in debs else 0,
            size=sizes.get(name),
            licences=_plainly(of_package(name.partition(":")[0], licences, docs)),
        )
        for name, one in sorted(in_image(packages_of(lock, suites)).items())
    ]


def _plainly(found: Licences) -> Licences:
    """Without SPDX's word for what it has no name of, which is for programs."""
    names = tuple(name.replace("LicenseRef-", "") for name in found.names)
    return found._replace(names=names)


def _origin(fields: Mapping[str, str]) -> str:
    """What a Release calls its archive and suite."""
    label = fields.get("Origin") or fields.get("Label") or ""
    return f"{label} {fields.get('Codename') or fields.get('Suite') or ''}".strip()


# ---------------------------------------------------------------- builds


def _worth_showing(builds: Sequence[Build]) -> tuple[Build | None, Build | None]:
    """The newest build that made or tried something, and the one before; else the newest two."""
    busy = [one for one in builds if any(stage.seconds for stage in one.stages)]
    if not busy:
        return (builds[-1] if builds else None), None
    return busy[-1], (busy[-2] if len(busy) > 1 else None)


def _failure(session: Session, builds: Sequence[Build]) -> Failure | None:
    """What ended the last build, if it failed."""
    if not builds or builds[-1].result != "failed":
        return None
    stage = next((one for one in builds[-1].stages if one.result == "failed"), None)
    if stage is None or stage.stage not in FOLDERS:
        return Failure("", "", ())
    log = Stage(kind=stage.stage, name=stage.name, key="", inputs={}, suffix="").log
    path = (session.out / "log" / log).relative_to(session.root)
    try:
        text = safe.read_bytes(path, strict.LIST_LIMIT).decode("utf-8", "replace")
    except (OSError, ValueError):
        return Failure(_title(stage), "", ())
    lines = text.splitlines()
    # What came after the last step that the log names: what was before it went well.
    step = max((number for number, line in enumerate(lines) if line.startswith("# ")), default=0)
    lines = [line[4:] for line in last_lines(lines[step:]).split("\n") if line]
    return Failure(_title(stage), str(path), lines)


def _title(stage: Took) -> str:
    return stage.task.replace(":", " ", 1)


def _changed(session: Session, builds: Sequence[Build]) -> tuple[Difference | None, Sequence[str]]:
    """The newest build against the newest one of anything else; why some is not compared."""
    if len(builds) < 2:
        return None, ()
    now = builds[-1]
    before = next((one for one in reversed(builds) if _keys(one) != _keys(now)), builds[-2])
    sides = [of_stages(session, moment(one.began), _keys(one), one.lock) for one in (before, now)]
    session.screen.moving(f"report: comparing two builds of {session.name}")
    why: list[str] = []
    was, is_now = with_files(session, sides[0], sides[1], why.append)
    found = difference(was, is_now)
    closed = {*_closed(was.files or {}), *_closed(is_now.files or {})}
    return replace(found, files=found.files and _public(found.files, closed)), why


def _closed(files: Mapping[str, File]) -> set[str]:
    """The folders in which not everybody may look."""
    return {
        path for path, file in files.items() if file.kind == "folder" and file.mode & 0o005 != 0o005
    }


def _public(parts: Sequence[Part], closed: set[str]) -> list[Part]:
    """What everybody may see of what differs: the page is for everybody."""
    inside = tuple(f"{path}/" for path in closed)
    return [one for one in parts if not one.name.startswith(inside)]


def _keys(build: Build) -> list[tuple[str, str, str]]:
    return [(one.stage, one.name, one.key) for one in build.stages]
