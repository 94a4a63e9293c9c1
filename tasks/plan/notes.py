"""What of a stage no key has, but people want to read of it later: sizes, paths, a variant.

With a digest alone nobody can say from how many bytes to how many a file went.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..spec.model import Layer, Spec
from .accounts import user_salt
from .entries import Entry, layer_entries
from .lockfile import Lock
from .passwords import salt_of


def notes(spec: Spec, lock: Lock) -> dict[str, dict[str, Any]]:
    """Of each stage that has any, by its task: see causes.Made."""
    found: dict[str, dict[str, Any]] = {"base": {"variant": spec.base.variant}}
    for layer in spec.layers:
        found[f"layer:{layer.name}"] = {
            "sizes": dict(filter(None, map(_size, layer_entries(layer, spec)))),
            "scripts": [_path(run.path, spec) for run in layer.scripts],
            # A salt is made of the packages, so it tells nobody anything.
            "salts": {
                user.name: user_salt(user, layer, lock) for user in layer.users if user.password
            },
        }
    if spec.settings.root_password:
        found["layer:settings"] = {"salts": {"": salt_of(spec.name, lock)}}
    return found


def passwords(spec: Spec, layer: Layer | None) -> Mapping[str, str]:
    """The plain ones of a layer's users by their names or, of no layer, of root as ""."""
    if layer is None:
        return {"": spec.settings.root_password}
    return {user.name: user.password for user in layer.users}


def _size(entry: Entry) -> tuple[str, int] | None:
    if entry.kind != "file":
        return None
    if entry.source is None:
        return entry.target, len(entry.content)
    with contextlib.suppress(OSError):
        return entry.target, entry.source.stat().st_size
    return None


def _path(path: Path, spec: Spec) -> str:
    """A script's path as the spec has it: from its own folder on, where it is below that."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(spec.path.parent))
    return str(path)
