"""Another user of this host, and what a build that is refused says."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from support.world import Build, says

OTHER = 65534


root = pytest.mark.root


def refused(build: Build, *parts: str) -> None:
    """One clear message, whichever way doit gives it."""
    assert build.code != 0, build.text
    assert "Traceback" not in build.text
    says(build.text, "ERROR: ", *parts)


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


def some(places: Sequence[str]) -> Sequence[str]:
    """At night all; by day every other one, of each depth."""
    return places if NIGHTLY else places[::2]
