"""Why a stage would be built: what it was in the spec's last build, and what became of that."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field

from ..errors import BuildError
from ..host import strict
from ..plan import causes
from ..plan.cause import Cause, Made, Now
from ..plan.changes import packages_of
from ..plan.notes import notes, passwords
from ..plan.stage import STANDS_ON, TREE, Plan, Stage, tools_of
from ..session.needs import need_test
from ..session.session import Session
from ..store import history, made_of, pruned
from ..store.record import FOLDERS, read_record
from .metadata import metadata, texts


@dataclass(kw_only=True)
class Teller:
    """Tells the causes of stages, from the base up: of what a stage follows, `told` has it."""

    session: Session
    plan: Plan
    last: made_of.Build
    told_of: dict[str, list[Cause]] = field(default_factory=dict)
    """Of each tree so far its own causes, by its task."""

    def told(self, stage: Stage) -> list[Cause]:
        """Why a stage would be built."""
        session = self.session
        found = [*self._own(stage), *_elsewhere(session, stage), *_unable(session, stage)]
        return found or [Cause(what="unknown", lines=("what it is made of is another",))]

    def _own(self, stage: Stage) -> list[Cause]:
        was = _was(self.session, self.last, stage)
        if was is None:
            new = bool(self.last.stages)
            line = (
                "it is new: the last build had none"
                if new
                else "no earlier build of it is known here"
            )
            tools = [] if new else self._other_tools(stage)
            return self._keep(stage, [Cause(what="new", lines=(line,)), *tools])
        if was.key == stage.key:
            return self._keep(stage, [*_lost(self.session, stage, was), *self._other_tools(stage)])
        old = Made(name=stage.name, inputs=was.inputs, notes=was.notes)
        try:
            found = causes.causes(old, self._now(stage))
        except (ValueError, LookupError, TypeError, AttributeError):
            # What is remembered vouches for its own form, not for that of what a stage was made of.
            line = "the inputs of its last build cannot be compared: they have another form"
            return self._keep(stage, [Cause(what="unknown", lines=(line,))])
        moved = any(was.inputs.get(name) != stage.inputs.get(name) for name in STANDS_ON)
        tasks = {one.task for one in self.plan.closure([stage])} - {stage.task}
        below = {cause.text for task, one in self.told_of.items() if task in tasks for cause in one}
        found = causes.following(found, below, moved=moved)
        if moved:
            found = [*found, self._below(stage)]
        return self._keep(stage, found)

    def _keep(self, stage: Stage, found: list[Cause]) -> list[Cause]:
        self.told_of[stage.task] = [one for one in found if one.what != "below"]
        return found

    def _below(self, stage: Stage) -> Cause:
        """That it stands on another tree or part, and which of these has a cause of its own."""
        below = [one for one in self.plan.closure([stage]) if one.task != stage.task]
        whose = [one.title for one in below if self.told_of.get(one.task)]
        tree = [one.task for one in self.plan.tree]
        gone = [
            one.task.replace(":", " ")
            for one in self.last.stages
            if one.task.partition(":")[0] in TREE and one.task not in tree
        ]
        told = [*gone, *([] if gone else whose[-1:])]
        which = f" ({', '.join(one + ' is gone' for one in gone)})" if gone else ""
        which = which or (f" ({told[0]})" if told else "")
        return Cause(what="below", lines=(causes.BELOW + which,))

    def _now(self, stage: Stage) -> Now:
        session = self.session
        layer = next(
            (one for one in session.spec.layers if stage.task == f"layer:{one.name}"), None
        )
        suites = {repo.name: repo.suite for repo in session.spec.repos}
        return Now(
            name=stage.name,
            # As they come back from JSON.
            inputs=json.loads(json.dumps(stage.inputs)),
            notes=notes(session.spec, self.plan.lock).get(stage.task, {}),
            known=packages_of(self.plan.lock, suites),
            passwords=passwords(session.spec, layer),
        )

    def _other_tools(self, stage: Stage) -> list[Cause]:
        """Those of another host, of which there may be the results alone."""
        lines = causes.other_tools_here(_published_tools(self.session), tools_of(stage.inputs))
        return [Cause(what="tools", lines=(line,)) for line in lines]


def _elsewhere(session: Session, stage: Stage) -> list[Cause]:
    """With which other tools another host has made it, as the shared caches know."""
    if session.shared is None or not stage.kept:
        return []
    like = session.likenesses[stage.entry]
    tools = session.shared.like(like)
    lines = [
        f"not in the shared cache: built there with {name} {tools[name]}, here {like.tools[name]}"
        for name in sorted(tools.keys() & like.tools.keys())
        if tools[name] != like.tools[name]
    ]
    return [Cause(what="tools", lines=(line,)) for line in lines]


def _unable(session: Session, stage: Stage) -> list[Cause]:
    """That a boot test would be the end of a build."""
    try:
        need_test(session, stage)
    except BuildError as error:
        return [Cause(what="test", lines=(f"a build would end here: {error.message}",))]
    return []


def _published_tools(session: Session) -> dict[str, str]:
    """The tools that out/NAME/ was built with, as its metadata tells, or nothing."""
    try:
        return texts(metadata(session.out / f"{session.name}.yaml"), "tools")
    except (OSError, ValueError):
        return {}


# ---------------------------------------------------------------- what it was


def _was(session: Session, last: made_of.Build, stage: Stage) -> made_of.Stage | None:
    """What a stage of this task was in the spec's last build, as far as anything here tells."""
    if (known := last.stage(stage.task)) is not None:
        return known
    for key in _keys(session, stage) if stage.kept else ():
        path = session.cache.root / FOLDERS[stage.kind] / f"{stage.kind}-{key}.json"
        with contextlib.suppress(OSError, ValueError):
            inputs = read_record(path)["inputs"]
            return made_of.Stage(task=stage.task, key=key, there=True, inputs=inputs, notes={})
    return None


def _keys(session: Session, stage: Stage) -> list[str]:
    """The keys that a stage had, by out/NAME/build.json and by the history; the newest first."""
    found = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for one in strict.read(session.out / "build.json")["stages"]:
            if (one["stage"], one["name"]) == (stage.kind, stage.name):
                found.append(strict.text(one, "key", strict.KEY))
    for build in reversed(history.builds(session.state, session.name)):
        found += [one.key for one in build.stages if one.task == stage.task]
    return [one for one in dict.fromkeys(found) if len(one) == 32 and one.isalnum()]


def _lost(session: Session, stage: Stage, was: made_of.Stage) -> list[Cause]:
    """Why a stage is not there that is what it was."""
    if not stage.kept:
        return [Cause(what="gone", lines=("no cache keeps it: it is written for its files",))]
    parts = {"record": session.cache.record(stage), "file": session.cache.file(stage)}
    lacking = [name for name, path in parts.items() if not os.path.lexists(path)]
    if len(lacking) < len(parts):
        what = (
            f"its {lacking[0]} in the cache is missing" if lacking else "it is damaged in the cache"
        )
        return [Cause(what="damaged", lines=(what,))]
    if not was.there:
        return [Cause(what="gone", lines=("not in the cache: the last build did not need it",))]
    return [Cause(what="gone", lines=(f"not in the cache any more{_pruned(session, stage)}",))]


def _pruned(session: Session, stage: Stage) -> str:
    """When it was pruned, as far as that is known, and not built since."""
    when = pruned.when(session.state, stage.entry)
    made = [
        build.began
        for build in history.builds(session.state, session.name)
        for one in build.stages
        if one.key == stage.key and one.result in ("built", "pulled")
    ]
    if when is None or max(made, default=0) > when:
        return ""
    return time.strftime(" (pruned %Y-%m-%d)", time.localtime(when))
