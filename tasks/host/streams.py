"""Standard input, output and error as a build needs them: open, and in UTF-8."""

from __future__ import annotations

import io
import os
import sys


def stand_streams() -> None:
    """Open what the caller closed of standard input, output and error, before anything else is.

    The next file to be opened would have that number, and a command would write its complaints
    into it. Errors go to standard output if they have no place of their own.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            if number == 2 and sys.stdout is not None:
                os.dup2(1, 2)
            else:
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
                os.set_inheritable(number, True)
    # Python has none for what was closed when it began; these stay for as long as it runs.
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    buffer = io.FileIO(number, mode, closefd=False)
    buffered = io.BufferedReader(buffer) if mode == "r" else io.BufferedWriter(buffer)
    return io.TextIOWrapper(
        buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where the locale has another encoding.

    Names in a checkout are UTF-8; ISO-8859-1 can neither open nor tell most of them. What is shown
    keeps the locale's encoding.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is meant
