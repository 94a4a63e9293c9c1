"""How a stage's log begins, and what is added to the error of a stage that failed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import BuildError, CommandFailed
from ..host.log import Log
from ..plan.job import LayerJob
from ..plan.stage import TREE, Stage
from ..spec.document import Document
from ..spec.words import counted

if TYPE_CHECKING:
    from ..plan.job import Job
    from .session import Session

NAMED = 8
"""Things that a heading names; of more it says how many."""


def begin(log: Log, session: Session, stage: Stage, job: Job) -> None:
    """Write at the head of a log what is made, of what."""
    rows = {"key": stage.key, **_rows(session, stage, job)}
    log.line(f"# {stage.title} of {session.spec.path}")
    for name, text in rows.items():
        if text:
            log.line(f"#   {name:<9} {text}")


def _rows(session: Session, stage: Stage, job: Job) -> dict[str, str]:
    below = job.below[-1] if stage.kind != "base" and job.below else None
    rows = {"on": f"{below.title} {below.key}" if below else ""}
    records = session.plan.records(stage)
    rows["packages"] = _several([f"{one.package} {one.version}" for one in records], "package")
    inputs = stage.inputs
    if stage.kind == "base":
        rows["made by"] = f"{inputs['tool']} {inputs['tool_version']}, variant {inputs['variant']}"
    elif stage.kind not in TREE:
        rows["on"] = rows["on"] or ", ".join(f"{one.title} {one.key}" for one in job.made_of)
        products = session.plan.products
        file = next((one.name for one in products if one.stage.task == stage.task), "")
        words = [str(inputs[name]) for name in ("format", "container") if name in inputs]
        rows["format"] = ", ".join([*words, *([f"to {file}"] if file else [])])
    if isinstance(job, LayerJob):
        rows["removes"] = ", ".join(inputs["removes"])
        rows["files"] = _several([one.target for one in job.entries], "file")
        rows["scripts"] = ", ".join(one.path for one in job.scripts)
    return rows


def _several(names: list[str], one: str) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{counted(len(names), one)}: {', '.join(names[:NAMED])}, …"


# ---------------------------------------------------------------- a failure


def placed(error: CommandFailed, session: Session, stage: Stage, job: Job) -> BuildError:
    """The error of a stage's command with its place in the spec, and with how to look at it."""
    where, about = _place(session, job, error)
    look = ""
    if error.inside and session.visit is None:
        look = f"to look: {session.command('shell')} layer={stage.name}"
    hints = [about, look, error.hint]
    told = error.retold(lambda message: f"{where}: {message}") if where else error
    told.hint = "\n".join(filter(None, hints))
    return told


def _place(session: Session, job: Job, error: CommandFailed) -> tuple[str, str]:
    """(FILE:LINE of what the spec says of a stage, a sentence on the package that is to blame)."""
    from ..spec.compose import compose

    stage = job.stage
    try:
        whole, _made_of = compose(
            session.spec.path, session.given, [session.specs.relative_to(session.root)]
        )
    except (BuildError, OSError):
        return "", ""  # it has been changed, or is gone
    steps = _steps(whole, stage)
    for number, script in enumerate(job.scripts if isinstance(job, LayerJob) else ()):
        if error.blamed and script.path == error.blamed:
            at = steps if steps != ["packages"] else []
            for field in (["script"], ["scripts", number], ["scripts"]):
                if (line := _line(whole, [*at, *field])) != "":
                    return line, ""
    packages = {"base": ["base", "include"], "layer": [*steps, "packages"]}.get(stage.kind, [])
    packages = steps if steps == ["packages"] else packages
    asked = _list(whole, packages)
    for package in error.packages:
        for number, request in enumerate(asked):
            if re.split("[=/:]", str(request))[0] == package:
                return _line(whole, [*packages, number]), ""
    about = ""
    if error.packages and asked:
        about = f"{error.packages[0]} is not in its packages: something there needs it"
    return _line(whole, steps), about


def _steps(whole: Document, stage: Stage) -> list[Any]:
    """Where the spec has a stage, as far as it says anything of it."""
    values = whole.values
    if stage.kind not in TREE:
        steps: list[Any] = _above(values, stage)
    elif stage.kind == "base":
        steps = ["base"] if "base" in values else ["repos"]
    else:
        names = [one.get("name") for one in values.get("layers", ()) if isinstance(one, dict)]
        at_top = stage.name == "packages" and "packages" in values
        steps = ["packages"] if at_top else []
        if not at_top and stage.name in names:
            steps = ["layers", names.index(stage.name)]
    return steps


def _above(values: Any, stage: Stage) -> list[Any]:
    """The same of a stage above the tree: the field that it is made of."""
    if stage.kind in ("image", "export"):
        return [f"{stage.kind}s", stage.name]
    if stage.kind in ("esp", "bios", "verity", "disk"):
        return ["disks", stage.name]
    if stage.kind == "file":
        for name, disk in (values.get("disks") or {}).items():
            if stage.name in (disk.get("files") or {}):
                return ["disks", name, "files", stage.name]
    found = {"filesystem": "disks", "test": "tests", "blob": "exports", "file": "disks"}
    return [found[stage.kind]]


def _list(whole: Document, steps: list[Any]) -> list[Any]:
    value: Any = whole.values
    for step in steps:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return []
    return value if isinstance(value, list) else []


def _line(whole: Document, steps: list[Any]) -> str:
    node, line = whole.find(steps)
    return f"{whole.file(steps)}:{line}" if steps and node is not None and line else ""
