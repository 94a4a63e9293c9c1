"""Versions of host tools as keys see them: those that make the same bytes count as one.

Only what a test has shown stands here (tests/unit/test_versions.py); a version that nobody has
tried keys as itself, and so does one with another revision of Debian's: patches change bytes, too.
"""

from __future__ import annotations

SAME: dict[str, tuple[tuple[str, ...], ...]] = {
    # Bookworm's and trixie's: every member of a base's tarball is the same.
    "mmdebstrap": (("1.3.5-7", "1.5.7-1+deb13u1"),),
}
"""By tool, groups of versions of which the first stands for all: it must never change."""


def keyed(tool: str, version: str) -> str:
    """The version that keys see for one of a tool's."""
    for group in SAME.get(tool, ()):
        if version in group:
            return group[0]
    return version
