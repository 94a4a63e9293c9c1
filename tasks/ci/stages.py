"""The stages of several specs as a CI system keeps and makes them: entries, and waves of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stage: its cache entry, `files` being what that holds, relative to the project."""

    task: str
    kind: str
    key: str
    files: tuple[str, ...]

    @property
    def entry(self) -> str:
        """What a CI system's cache calls it."""
        return f"strata-{self.kind}-{self.key}"


@dataclass(frozen=True, kw_only=True)
class Stages:
    """One spec's: a tree of one level on the other, and the images of the last."""

    spec: str
    tree: tuple[Entry, ...]
    images: tuple[Entry, ...]

    @property
    def entries(self) -> str:
        """A name for all its images together, as they are now."""
        names = " ".join(image.entry for image in self.images)
        return f"strata-images-{hashlib.sha256(names.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A stage of one wave: what it stands on, and the specs sharing it; the first makes it."""

    stage: Entry
    below: tuple[Entry, ...]
    specs: tuple[str, ...]

    @property
    def title(self) -> str:
        """What people see of it: no longer than they like to read."""
        shown = ", ".join(self.specs[:3]) + (", …" if self.specs[3:] else "")
        return f"{self.stage.task} ({shown})"


def waves(specs: Sequence[Stages], have: Collection[str] = ()) -> list[list[Made]]:
    """Level by level, each stage once, that is still to be made; `have` are entries that there are.

    Of a spec whose images are all there, nothing is. A tree is made of all its levels, so one that
    is missing below another is made, too.
    """
    found: list[list[Made]] = []
    for level in range(max((len(one.tree) for one in specs), default=0)):
        made: dict[str, Made] = {}
        for one in specs:
            if level >= len(one.tree) or all(image.entry in have for image in one.images):
                continue
            stage = one.tree[level]
            if stage.entry in have:
                continue
            before = made.get(stage.key)
            shared = (*before.specs, one.spec) if before else (one.spec,)
            made[stage.key] = Made(stage=stage, below=one.tree[:level], specs=shared)
        found.append(list(made.values()))
    return found


def told(specs: Sequence[Stages], have: Collection[str]) -> list[str]:
    """The plan, for people: each stage once, with those that share it, and whether it is made."""
    lines = []
    makes = {one.stage.key for wave in waves(specs, have) for one in wave}
    for level, wave in enumerate(waves(specs)):
        for one in wave:
            there = one.stage.entry in have
            state = "built" if one.stage.key in makes else "there" if there else "not needed"
            lines.append(f"wave {level}  {one.title:<40} {one.stage.key[:8]}  {state}")
    for spec in specs:
        for image in spec.images:
            state = "there" if image.entry in have else "built"
            lines.append(f"images  {f'{image.task} ({spec.spec})':<40} {image.key[:8]}  {state}")
    return lines
