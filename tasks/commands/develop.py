"""`doit test` and `doit bench`."""

from __future__ import annotations

import os
import subprocess
import sys

from ..errors import BuildError
from ..host.process import need_root
from ..session.session import Session


def test(session: Session) -> None:
    """Run the linters and pytest, as CI does."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for argv in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        # A file's tests share what they build, so that each file is one process's.
        ["pytest", "--numprocesses", "auto", "--dist", "loadfile", "--durations", "25"],
    ):
        session.screen.line("+ " + " ".join(argv))
        code = subprocess.call([sys.executable, "-m", *argv], env=environment, cwd=session.root)
        if code:
            raise BuildError(f"{argv[0]} failed (exit status {code})")


def bench(session: Session) -> None:
    """Measure Strata and its rivals on one local mirror: tests/bench/."""
    need_root("the benchmark")
    given = session.variables
    rounds = given.get("rounds", "3")
    if not rounds.isdecimal() or not 1 <= int(rounds) <= 100:
        raise BuildError(f"rounds={rounds}: expected a number from 1 to 100")
    argv = [sys.executable, "-B", "tests/bench/bench.py", "--rounds", rounds]
    argv += ["--only", given["only"]] if "only" in given else []
    if code := subprocess.call(argv, cwd=session.root):
        raise BuildError(f"the benchmark failed (exit status {code})")
