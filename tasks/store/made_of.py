"""What the stages of a spec's last build were made of, and what it published.

    .doit/made-of/NAME.json      a line that tells of which build, and one of JSON with all of it

The cache's records have the inputs of stages, too, but `prune` drops those, and a cache has many
specs: so each spec is compared with itself. It is a memory for people: nothing that is built
depends on it, and what is not of our form there counts as none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..host import safe, strict
from ..host.files import remove, write_text
from ..plan.keys import checksum

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage as it was last; `there`: a build had it, and did not only pass it over.

    `inputs` and `notes` are those of plan.causes.Made, of any form by now.
    """

    task: str
    key: str
    there: bool
    inputs: Mapping[str, Any]
    notes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Build:
    """The last build of a spec: its stages from the base up, SHA-256 of what it published."""

    files: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()

    def stage(self, task: str) -> Stage | None:
        """What a stage of this task was, None if there was none."""
        return next((one for one in self.stages if one.task == task), None)


def last(state: Path, name: str) -> Build:
    """The last build of a spec; an empty one where none is known. `state` is .doit."""
    try:
        told = strict.parse(_lines(state, name)[1], paths=True)
        files = strict.mapping(told["files"], "files")
        return Build(
            files={one: strict.text(files, one, strict.SHA256) for one in files},
            stages=tuple(map(_stage, strict.items(told["stages"], "stages"))),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return Build()


def remember(
    state: Path,
    name: str,
    files: Mapping[str, str],
    stages: Sequence[tuple[str, str, bool]],
    written: Callable[[], Build],
) -> None:
    """Keep a build; `stages` are (task, key, there): the same ones again are not written twice.

    Where it cannot be written, the one before stays.
    """
    mark = checksum([FORMAT, dict(files), [list(one) for one in stages]])
    with contextlib.suppress(OSError, LookupError):
        if _lines(state, name)[0] == mark.encode():
            return
    build = written()
    told = {
        "files": dict(build.files),
        "stages": [
            {"task": one.task, "key": one.key, "there": one.there, "inputs": one.inputs,
             "notes": one.notes}
            for one in build.stages
        ],
    }  # fmt: skip
    text = f"{mark}\n{json.dumps(told)}\n"
    if len(text) <= strict.LIST_LIMIT:
        with contextlib.suppress(OSError):
            write_text(_place(state, name), text, sync=False)


def forget(state: Path, names: Collection[str]) -> None:
    """Let go of specs other than these."""
    top = state / "made-of"
    for folder, _folders, files in os.walk(top):
        for file in files:
            path = Path(folder) / file
            if str(path.relative_to(top).with_suffix("")) not in names:
                with contextlib.suppress(OSError):  # it is a memory
                    remove(path)


def _place(state: Path, name: str) -> Path:
    return state / "made-of" / f"{name}.json"


def _lines(state: Path, name: str) -> list[bytes]:
    return safe.read_bytes(_place(state, name), strict.LIST_LIMIT).split(b"\n", 1)


def _stage(value: object) -> Stage:
    told = strict.mapping(value, "a stage")
    return Stage(
        task=strict.text(told, "task"),
        key=strict.text(told, "key", strict.KEY),
        there=told["there"] is True,
        inputs=strict.mapping(told["inputs"], "its inputs"),
        notes=strict.mapping(told["notes"], "its notes"),
    )
