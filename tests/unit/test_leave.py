"""How the program ends: at once, and yet with its status, its threads, its exit handlers and all that it wrote."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.world import PROJECT

pytestmark = pytest.mark.starts

BEGIN = """\
import atexit, sys, threading, time
from tasks.line.leave import exit_with
class Late:
    def __del__(self): print("taken apart")
late = Late()
def work():
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
    atexit.register(print, "handler")
    print("no line end", end="")
"""


def ended(end: str, *, closed: bool = False) -> tuple[int, str, str]:
    program = BEGIN + f"    {end}\nexit_with(work)\n"
    argv = [sys.executable, "-c", program]
    if closed:
        argv = ["sh", "-c", 'exec "$@" > /dev/full', "sh", *argv]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        argv, cwd=PROJECT, env=buffered, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", [0, 1, 3, 141])
def test_all_that_the_work_began_is_done_and_nothing_is_taken_apart(status: int) -> None:
    assert ended(f"return {status}") == (status, "no line endthread\nhandler\n", "")


def test_an_error_and_a_status_of_its_own_end_it_as_ever() -> None:
    code, out, err = ended("sys.exit('said')")
    assert (code, err) == (1, "said\n")
    assert "taken apart" in out
    code, _out, err = ended("raise ValueError('odd')")
    assert code == 1
    assert err.endswith("ValueError: odd\n")


def test_what_cannot_be_written_is_no_success() -> None:
    code, _out, err = ended("return 0", closed=True)
    assert code == 120, err
    assert "No space left" in err
