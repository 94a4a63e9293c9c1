"""The builds that this checkout did of a spec: what each stage was, when, and for how long.

    .doit/builds/NAME.jsonl      a line of JSON for each build, the newest last

It is a memory for people and for guesses of how long a stage takes: nothing that is built depends
on it, and what is no line of ours there is passed over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..host import safe, strict
from ..host.files import write_text

FORMAT = 1

KEPT = 100
"""Builds of a spec that are remembered."""

OTHERS = 10
"""Specs that a guess looks at where a spec's own builds do not tell."""

RESULTS = ("hit", "pulled", "built", "failed", "skipped")
"""What a stage can have been; `skipped` is what was not needed, or not come to."""


@dataclass(frozen=True, kw_only=True)
class Took:
    """One stage of a build; `began` and `seconds` are from the beginning of that build.

    Both are 0 for what took no time of its own: a hit, or what was skipped.
    """

    stage: str
    name: str
    key: str
    result: str
    began: float
    seconds: float
    bytes: int

    @property
    def task(self) -> str:
        """Its doit task, by which it is the same stage in another build."""
        return self.stage if self.stage == "base" else f"{self.stage}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build: `began` in seconds since 1970, `result` is done, failed or interrupted.

    `lock` is the digest of the lock that it was of, `changes` what it changed in that, in package
    terms.
    """

    began: float
    seconds: float
    result: str
    lock: str
    changes: tuple[str, ...]
    stages: tuple[Took, ...]


def builds(state: Path, name: str) -> list[Build]:
    """The builds of a spec that are remembered, the newest last; `state` is .doit."""
    return [build for line in _lines(state, name) if (build := _parsed(line)) is not None]


def remember(state: Path, name: str, build: Build) -> None:
    """Add a build; where it cannot be written, it is forgotten."""
    told = {"format": FORMAT, **dataclasses.asdict(build)}
    lines = [*_lines(state, name)[1 - KEPT :], json.dumps(told, ensure_ascii=False).encode()]
    with contextlib.suppress(OSError, UnicodeError):
        text = b"\n".join(lines).decode("utf-8") + "\n"
        write_text(_place(state, name), text, sync=False)


def took(known: Sequence[Build], task: str) -> float | None:
    """About how many seconds a stage takes to build, by the last builds of it; None if unknown."""
    times = [
        one.seconds
        for build in known
        for one in build.stages
        if one.task == task and one.result == "built"
    ][-3:]
    return sorted(times)[len(times) // 2] if times else None


def took_kind(known: Sequence[Build], kind: str) -> float | None:
    """About how many seconds a stage of this kind takes, by these; None if unknown."""
    times = [
        one.seconds
        for build in known
        for one in build.stages
        if one.stage == kind and one.result == "built"
    ]
    return sorted(times)[len(times) // 2] if times else None


def of_others(state: Path, name: str) -> list[Build]:
    """The builds of other specs of this checkout, of those that were built last."""
    folder = state / "builds"
    paths = [path for path in folder.rglob("*.jsonl") if path != _place(state, name)]
    paths.sort(key=lambda path: path.lstat().st_mtime)
    names = [str(path.relative_to(folder).with_suffix("")) for path in paths[-OTHERS:]]
    return [build for one in names for build in builds(state, one)]


def _place(state: Path, name: str) -> Path:
    return state / "builds" / f"{name}.jsonl"


def _lines(state: Path, name: str) -> list[bytes]:
    try:
        return safe.read_bytes(_place(state, name), strict.LIST_LIMIT).splitlines()
    except OSError:
        return []


def _parsed(line: bytes) -> Build | None:
    """A line as a build; None where it is none of this version's."""
    try:
        told = strict.parse(line)
        if told["format"] != FORMAT or told["result"] not in ("done", "failed", "interrupted"):
            return None
        return Build(
            began=_number(told["began"]),
            seconds=_number(told["seconds"]),
            result=told["result"],
            lock=strict.text(told, "lock"),
            changes=tuple(map(_text, strict.items(told["changes"], "changes"))),
            stages=tuple(map(_took, strict.items(told["stages"], "stages"))),
        )
    except (ValueError, LookupError, TypeError):
        return None


def _took(value: object) -> Took:
    told = strict.mapping(value, "a stage")
    if told["result"] not in RESULTS:
        raise strict.Damaged("its result is unknown")
    return Took(
        stage=strict.text(told, "stage"),
        name=strict.text(told, "name"),
        key=strict.text(told, "key"),
        result=told["result"],
        began=_number(told["began"]),
        seconds=_number(told["seconds"]),
        bytes=int(_number(told["bytes"])),
    )


def _number(value: object) -> float:
    if type(value) not in (int, float) or value < 0:  # type: ignore[operator]
        raise strict.Damaged("it is no number")
    return float(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise strict.Damaged("it is no text")
    return value
