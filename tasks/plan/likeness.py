"""What a stage is but for the tools of its host: by that, `why` finds what another host built.

Hosts with other versions compute other keys, so that none takes what the other made. Who wonders
why nothing is found in a shared cache is told which tools differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..host import strict
from .keys import key
from .stage import STANDS_ON, TREE, Plan, tools_of

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """`name` is the same on hosts that differ in their tools; `tools` has those of this one."""

    name: str
    tools: Mapping[str, str]

    def dump(self) -> bytes:
        """As a shared cache keeps it, under its name."""
        return json.dumps({"format": FORMAT, "tools": dict(self.tools)}).encode("ascii")


def likenesses(plan: Plan) -> dict[str, Likeness]:
    """Each stage's, by its entry."""
    found: dict[str, Likeness] = {}
    below: dict[str, Likeness] = {}
    for stage in plan.stages:
        inputs = {
            name: value
            for name, value in stage.inputs.items()
            if name not in ("tools", "tool_version", *STANDS_ON)
        }
        parent = below.get(str(stage.inputs.get("parent", "")))
        # Of what has no parent, or more than that: what else it is made of.
        parts = [below[one.key] for one in plan.below(stage) if one.kind not in TREE]
        named = [parent.name if parent else "", *(one.name for one in parts)]
        digest = key([inputs, named[0]] if not parts else [inputs, *named])
        tools: dict[str, str] = {}
        for one in [*([parent] if parent else []), *parts]:
            tools |= one.tools
        tools |= tools_of(stage.inputs)
        below[stage.key] = found[stage.entry] = Likeness(name=f"like-{digest}", tools=tools)
    return found


def tools_in(raw: bytes) -> dict[str, str]:
    """The tools of what `dump` wrote, or what somebody put in its place: nothing then."""
    try:
        record = strict.parse(raw)
        if strict.number(record, "format") != FORMAT:
            return {}
        tools = strict.mapping(strict.field(record, "tools"), "its tools")
    except ValueError:
        return {}
    return {
        name: text
        for name, text in tools.items()
        if isinstance(text, str) and re.fullmatch(r"[\x20-\x7e]{1,80}", f"{name}{text}")
    }
