"""Lines for a person."""

from __future__ import annotations

import io
import os
import re
import signal
import sys

from ..host.process import on_signal


class Screen:
    """Lines for a person: one per stage, and on a terminal what the running one does."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.running = ""
        self.quiet = self.verbose = False
        # Whatever the locale's encoding lacks is shown as stderr shows it, rather than an error.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

    def line(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        try:
            # At once: several threads may have something to say.
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # As SIGPIPE would end another program; what Python still holds must go somewhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            on_signal(signal.SIGPIPE, None)

    def note(self, text: str) -> None:
        """A line that stays, unless only results are wanted."""
        if not self.quiet:
            self.line(text)

    def progress(self, text: str) -> None:
        """What goes on now: overwritten on a terminal, a line of its own in a log."""
        if self.quiet:
            return
        if self.terminal:
            self._clear()
            text = re.sub(r"[\x00-\x1f\x7f]", " ", text)[: _columns() - 1]
            sys.stderr.write(text)
            sys.stderr.flush()
            self.running = text
        else:
            self.line(f"  {text}")

    def moving(self, text: str) -> None:
        """How far it is, many times a second: for a terminal alone, where it is overwritten."""
        if self.terminal:
            self.progress(text)

    def _clear(self) -> None:
        if self.running:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.running = ""


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80
