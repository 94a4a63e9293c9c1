"""`doit test` and `doit bench`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import STDOUT
from typing import IO

from ..errors import BuildError
from ..host.process import need_root
from ..session.session import Session

SHELL = "tasks/*/scripts/*.sh"
REPEATED = {"STRATA_TEST_KILLS": ("3", "60"), "STRATA_TEST_SWEEP": ("4", "12"),
            "STRATA_TEST_NIGHTLY": ("0", "1")}  # fmt: skip
"""How often what is tried many times is tried in each run, and with all=1."""


def test(session: Session) -> None:
    """Run the linters and pytest, as CI does; fast=1: units and ruff alone; all=1: all of it."""
    given = session.variables
    for name in ("fast", "all"):
        if given.get(name, "1") != "1":
            raise BuildError(f"{name}={given[name]}: expected 1, or nothing")
    every, fast = "all" in given, "fast" in given
    environment = {name: both[every] for name, both in REPEATED.items()}
    environment = {**environment, **os.environ}
    # pytest's bytecode of the tests is two seconds of each process in the next run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # One more than there are CPUs: some tests wait, for a timeout or for another build.
    processes = str(len(os.sched_getaffinity(0)) + (not fast))
    # Which process does which test, and in what order, is tests/conftest.py's to say.
    pytest = ["pytest", "--numprocesses", processes, "--dist", "loadscope"]
    pytest += ["--no-loadscope-reorder", "--durations", "25"]
    if fast:
        # The others need not even be read. A fifth of the time is files that are made and removed.
        pytest += ["-m", "unit", "tests/unit"]
        if os.access("/dev/shm", os.W_OK):
            environment.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")
    scripts = sorted(str(path.relative_to(session.root)) for path in session.root.glob(SHELL))
    # What a run that is killed has mounted goes with it: the next one could not tidy up.
    apart = ["unshare", "--mount", "--"] if not fast and os.geteuid() == 0 else []
    linters = [["ruff", "check", "."], ["ruff", "format", "--check", "."]]
    if not fast:  # these take CPUs from the units, mypy half a minute if it knows nothing yet
        linters += [["shellcheck", "doit", *scripts], ["lint-imports"], ["mypy"]]
    with _begun(session, pytest, environment, before=apart) as testing:
        try:
            for argv in linters:  # the tests go on beside them
                _linted(session, argv, environment)
            _ended(pytest, testing)
        except BaseException:
            testing.send_signal(signal.SIGINT)  # it removes what it has made
            raise


def _linted(session: Session, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a linter, and show in one piece what it says."""
    with (
        tempfile.TemporaryFile() as said,
        _begun(session, argv, environment, said=said) as checking,
    ):
        try:
            checking.wait()
        except BaseException:
            checking.kill()
            raise
        said.seek(0)
        session.screen.line(said.read().decode(errors="replace").strip())
        _ended(argv, checking)


def _begun(
    session: Session,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    before: Sequence[str] = (),
    said: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    session.screen.line("+ " + " ".join(argv))
    # Beside this Python, whichever PATH the caller has.
    command = [*before, str(Path(sys.executable).with_name(argv[0])), *argv[1:]]
    return subprocess.Popen(
        command, env=environment, cwd=session.root, stdout=said, stderr=said and STDOUT
    )


def _ended(argv: Sequence[str], process: subprocess.Popen[bytes]) -> None:
    if code := process.wait():
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
