"""Fixtures of what builds nothing: a folder to plan in, an apt of its own, a project that imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fuel import Project
from support.private import Private
from tasks.plan import inputs


@pytest.fixture
def planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for specs, on a host that has every tool in version 1."""
    monkeypatch.setattr(inputs, "tool_versions", lambda names, *_how: dict.fromkeys(names, "1"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


@pytest.fixture
def private(tmp_path: Path) -> Private:
    """An apt that reads nothing of the host."""
    return Private(tmp_path / "apt")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that imports fuel-agent's input."""
    return Project(tmp_path)
