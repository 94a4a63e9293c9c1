"""What packs a published file, and which of the host's tools decide its bytes."""

from __future__ import annotations

ENDING = {"gzip": ".gz", "zstd": ".zst", "xz": ".xz", "raw": ""}
"""Of a file's name, by its container."""

CONTAINER_TOOL = {"gzip": "", "zstd": "zstd", "xz": "xz", "raw": ""}

GZIP_TOOL = {"fast": "isal", "default": "isal", "best": "zlib-ng"}
"""What deflates at each level: see formats/compress.py."""

GZIP_FIRST = "zlib-ng"
"""What deflates the first block, whatever the level."""


def container_tools(container: str, level: str) -> set[str]:
    """The tools whose versions decide what a container has."""
    if container == "gzip":
        return {GZIP_TOOL[level], GZIP_FIRST}
    return {CONTAINER_TOOL[container]} - {""}


def keyed_level(container: str, level: str) -> str:
    """A level as keys have it: without effect on what is not compressed."""
    return "" if container == "raw" else level
