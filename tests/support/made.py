"""What a stage was and would be, for tests of what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.plan.cause import Made, Now
from tasks.plan.causes import causes

STAGE = {"stage": "layer", "arch": "amd64"}


def told(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    name: str = "app",
    notes: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    **now: Any,
) -> list[str]:
    """The causes by which a stage is another, a line each."""
    was = Made(name=name, inputs={**STAGE, **old}, notes=notes[0])
    given: dict[str, Any] = {"known": {}, "passwords": {}, **now}
    return [
        one.text
        for one in causes(was, Now(name=name, inputs={**STAGE, **new}, notes=notes[1], **given))
    ]
