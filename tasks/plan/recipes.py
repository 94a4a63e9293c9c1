"""A stage and its key, made of its inputs, and the numbers of the recipes of all stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .keys import key
from .stage import Stage

RECIPES = {
    "base": 5, "layer": 7, "image": 4, "filesystem": 1, "verity": 2, "esp": 1, "bios": 1,
    "disk": 1, "file": 2, "blob": 1, "export": 3, "test": 2,
}  # fmt: skip
"""Raised when a stage's code would make other bytes from the same inputs."""


def stage_of(
    kind: str,
    name: str,
    suffix: str,
    inputs: dict[str, Any],
    *,
    parent: Stage | None = None,
    on: Sequence[Stage] = (),
) -> Stage:
    """A stage with its key; `parent` is the stage whose tree it takes, `on` all it is made of."""
    inputs = {"stage": kind, "recipe": RECIPES[kind], **inputs}
    if parent is not None:
        inputs["parent"] = parent.key
    return Stage(
        kind=kind,
        name=name,
        key=key(inputs),
        inputs=inputs,
        suffix=suffix,
        on=tuple(one.task for one in on),
    )
