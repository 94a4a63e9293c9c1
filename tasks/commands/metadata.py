"""out/NAME/NAME.yaml, as a build wrote it: whoever reads it asks for what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..host import safe, strict


def metadata(path: Path) -> dict[str, Any]:
    """All of it; OSError where it cannot be read, Damaged (a ValueError) where it is none."""
    import yaml

    raw = safe.read_bytes(path, strict.LIST_LIMIT)
    try:
        told = yaml.safe_load(raw)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise strict.Damaged(f"it is no YAML: {error}") from error
    return strict.mapping(told, "the file")


def texts(told: Mapping[str, Any], name: str) -> dict[str, str]:
    """A mapping in it, of texts; {} where an older version did not tell. Damaged for another."""
    found = strict.mapping(told.get(name, {}), f"its {name}")
    return {str(one): str(text) for one, text in found.items()}
