"""One filesystem image of a spec, as a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Image:
    """One filesystem image; sizes in bytes."""

    mount: str
    file: str
    format: str
    container: str
    level: str
    pack: str
    label: str
    uuid: str
    options: tuple[str, ...]
    size: int | None
    free: int | None
    max_size: int | None = None
    """What it may have at the most: no content, so in no key."""
