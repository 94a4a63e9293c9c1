"""Digests of what a build made."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every layer and image in a cache, and of the metadata."""
    files = [*root.glob("cache/layers/*.zst"), *root.glob("cache/images/*.img*"),
             *root.glob("out/*/[!b]*.*")]  # fmt: skip
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }
