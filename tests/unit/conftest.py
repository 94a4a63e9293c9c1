"""Fixtures of what plans and builds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.plan import inputs


@pytest.fixture
def planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for specs, on a host that has every tool in version 1."""
    monkeypatch.setattr(inputs, "tool_versions", lambda names, *_how: dict.fromkeys(names, "1"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path
