"""A run that a signal ends wherever it is: what was not begun is not begun in order to close it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.session.session import Session


def test_closing_reads_no_spec_asks_for_no_plan_and_imports_no_shared_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that a signal cut short is not to be tried again: half a module would be there."""

    def never(_session: Session) -> None:
        pytest.fail("this was begun in order to close it")

    for name in ("spec", "plan", "exchange", "shared", "policy", "trees", "scratch"):
        lazy = vars(next(one for one in Session.__mro__ if name in vars(one)))[name]
        monkeypatch.setattr(lazy, "func", never)
    session = Session(root=tmp_path, variables={"spec": "web"})
    session.chronicle.begin()
    session.close()
    session.close()
    assert list(tmp_path.rglob("builds/*")) == []
