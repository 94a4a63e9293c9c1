"""`${name}` in the nodes of a spec: each replaced by what `vars` or the command line says.

Nodes, not values: each keeps the file and line that it was written on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BuildError
from .document import TAG
from .names import FILLED_LIMIT, LATE, filled
from .words import near, printable

HOST = ("mirror", "security_mirror", "snapshot_mirror")
"""Names in `${}` that are not the spec's: what they stand for, the building host says later."""


def at(node: Any) -> str:
    """Where a node was written: `file:line`."""
    return f"{node.start_mark.name}:{node.start_mark.line + 1}"


def values_of(path: Path, variables: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The text of each name: the command line's, else the spec's."""
    found = {}
    for name, node in variables.items():
        if node.tag in (TAG + "map", TAG + "seq", TAG + "null"):
            raise BuildError(f"{at(node)}: vars.{name}: expected a text or a number")
        found[name] = str(node.value)
    for name in given:
        if name not in found:
            meant = near(name, found)
            raise BuildError(
                f"{path}: var.{printable(name)}=: the spec's vars have no {printable(name)!r}",
                (f"did you mean var.{meant}=? " if meant else "")
                + (f"vars: {', '.join(found)}" if found else "add it to the spec's vars"),
            )
    return {**found, **given}


def filled_nodes(node: Any, values: Mapping[str, str]) -> tuple[Any, bool]:
    """The same nodes with each `${name}` of their texts replaced; whether there was any."""
    import yaml

    known: dict[tuple[int, str], Any] = {}
    changed = False
    size = 0
    late = [name for name in LATE if name not in values]

    def text(node: Any, place: str = "") -> Any:
        nonlocal changed, size
        if node.tag != TAG + "str" or "${" not in node.value:
            return node
        kept = (*HOST, *late) if place == "file" else HOST
        value = filled(node.value, values, at(node), kept=kept)
        if value == node.value:
            return node
        changed = True
        size += len(value)
        if size > FILLED_LIMIT:
            raise BuildError(f"{at(node)}: with its names replaced, the spec is too large")
        return yaml.ScalarNode(node.tag, value, node.start_mark, node.end_mark, node.style)

    def walk(node: Any, place: str) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return text(node, place)
        if (id(node), place) in known:
            return known[id(node), place]
        kind = type(node)
        if isinstance(node, yaml.MappingNode):
            items: list[Any] = [
                pair
                if _left(pair[0].value, place)
                else (text(pair[0]), walk(pair[1], _place(pair[0], place)))
                for pair in node.value
            ]
        else:
            # Of merge keys, `<<: [*a, *b]`: what stands in them stands where the key does.
            items = [walk(one, place) for one in node.value]
        known[id(node), place] = made = kind(node.tag, items, node.start_mark, node.end_mark)
        return made

    return walk(node, "top"), changed


PLACES = {
    ("top", "images"): "images", ("images", ""): "image", ("image", "file"): "file",
    ("top", "disks"): "disks", ("disks", ""): "disk", ("disk", "files"): "files",
    ("top", "exports"): "exports", ("exports", ""): "export", ("export", "config"): "config",
}  # fmt: skip
"""By where a key stands, and what it is: where its value stands, as far as it matters.

"" is any name of the user's own.
"""

NAMED = ("disks", "files", "exports")
"""Places in which keys are names of the user's own, which may be those of fields."""


def _place(key: Any, place: str) -> str:
    if key.tag == TAG + "merge":
        return place
    return PLACES.get((place, str(key.value)), PLACES.get((place, ""), ""))


def _left(name: str, place: str) -> bool:
    """Whether the value of a field is not looked at here: anybody's, and what is its source."""
    if place in NAMED:
        return False
    if place == "top" and (name in ("vars", "variants", "include") or name.startswith("x-")):
        return True
    # In env of scripts the settings have names, too: it is filled when they are known.
    return name == "meta" or (name == "env" and place != "config")
