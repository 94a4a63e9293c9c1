"""`doit keys`: each stage's key, and the files that a CI cache keeps under it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..ci import github, gitlab
from ..ci.stages import Entry, Stages, told
from ..errors import BuildError
from ..host import safe, strict
from ..plan import lockfile
from ..plan.stage import Stage, each_once
from ..session.session import Session
from ..spec.load import chosen_specs

FORMS = ("text", "json", "github", "gitlab")


def keys(session: Session) -> None:
    """Print them in the form that `format=` names; asks no repository."""
    form = session.variables.get("format", "text")
    if form not in FORMS:
        raise BuildError(f"format={form}: expected text or json, github or gitlab")
    if form in ("github", "gitlab"):
        _for_a_pipeline(session, form)
        return
    rows = [
        {
            "stage": one.kind,
            "name": one.name,
            "key": one.key,
            "files": _files(session, one) if one.kept else [],
        }
        for one in session.plan.stages
    ]
    if form == "json":
        found = {"spec": session.spec.name, "lock": session.lock_digest, "stages": rows}
        session.screen.line(json.dumps(found, indent=1))
        return
    for row in rows:
        session.screen.line(
            f"{row['stage']:<6} {row['name']:<16} {row['key']} {''.join(row['files'][:1])}"
        )


def _files(session: Session, stage: Stage) -> list[str]:
    paths = [session.cache.file(stage), session.cache.record(stage)]
    return [os.path.relpath(path, session.root) for path in paths]


def _for_a_pipeline(session: Session, form: str) -> None:
    """One text of all specs; the plan goes to stderr, for the job's log."""
    if not session.variables.get("spec"):
        raise BuildError(f"keys format={form}: which spec?", "add spec=all, or spec=NAME")
    have = _have(session.variables.get("have", ""))
    every = each_spec(session)
    lacking = [one for one in every if not locked(one)]
    if lacking:
        names = ",".join(one.variables["spec"] for one in lacking)
        raise BuildError(
            "; ".join(f"{one.lock_path}: {lockfile.state(one.read_lock())}" for one in lacking),
            f"run `doit lock spec={names}` and commit what it writes",
        )
    specs = [stages_of(one) for one in every]
    for line in told(specs, have):
        print(line, file=sys.stderr)
    text = github.outputs(specs, have) if form == "github" else gitlab.jobs(specs, have)
    session.screen.line(text.rstrip("\n"))


def _have(name: str) -> set[str]:
    """The entries that a file names, a line each."""
    if not name:
        return set()
    try:
        return set(safe.read_bytes(Path(name), strict.LIST_LIMIT).decode("utf-8").split())
    except (OSError, ValueError) as error:
        raise BuildError(f"have={name}: cannot be read: {error}") from error


def each_spec(session: Session) -> list[Session]:
    """A session for each spec that `spec=` names."""
    given = session.variables
    names = chosen_specs(session.specs.relative_to(session.root), given.get("spec") or "all")
    return [
        Session(root=session.root, variables={**given, "spec": name}, screen=session.screen)
        for name in names
    ]


def locked(session: Session) -> bool:
    """Whether a spec has a lock that is of it as it is now."""
    lock = session.read_lock()
    return lock is not None and session.fits(lock)


def stages_of(session: Session) -> Stages:
    """A locked spec's stages as a CI system keeps them."""

    def entry(stage: Stage) -> Entry:
        files = tuple(_files(session, stage))
        return Entry(task=stage.task, kind=stage.kind, key=stage.key, files=files)

    plan = session.plan
    return Stages(
        spec=session.name,
        tree=tuple(map(entry, plan.tree)),
        images=tuple(map(entry, each_once(one for one in plan.tops if one.kept))),
    )
