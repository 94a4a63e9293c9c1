"""Lines for a person, on a terminal with a bar below them, or events for another program."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ..errors import printable
from ..host.process import before_signal, on_signal

if TYPE_CHECKING:
    from .bar import Bar

EVENT_EVERY = 0.5
"""Seconds between two events of how far one step is."""

LINE_EVERY = 30.0
"""The same of lines, where there is no terminal: a log shows that a long step goes on."""


class Screen:
    """Lines for a person: one per stage, and on a terminal what the running one does."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.running = ""
        self.quiet = self.verbose = self.events = False
        self.spec = ""
        self.bar: Bar | None = None
        self.began = time.monotonic()
        self._closed = False
        self._told: dict[str, float] = {}
        self._step: dict[str, str] = {}
        self._lock = threading.RLock()
        # Whatever the locale's encoding lacks is shown as stderr shows it, rather than an error.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

    def begin(self, spec: str, progress: str) -> None:
        """A build of `spec` begins, and `progress` is how it is to be told: auto, plain or json."""
        self.spec = spec
        self.events = progress == "json"
        self.terminal = self.terminal and progress == "auto"

    @property
    def narrow(self) -> bool:
        """Whether lines are for a terminal that a line of 64 columns does not fit in."""
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns < 64
        except (OSError, ValueError):
            return False

    # ------------------------------------------------------------ lines that stay

    def line(self, text: str) -> None:
        """A line that stays."""
        with self._away():
            self._write(sys.stderr if self.events else sys.stdout, text)

    def note(self, text: str) -> None:
        """A line that stays, unless only results are wanted."""
        if not self.quiet and not self.events:
            self.line(text)

    def warned(self, text: str) -> None:
        """A line that stays of what is not as it might be."""
        self.line(text)
        self.event("warning", message=text.strip().removeprefix("warning: "))

    def event(self, event: str, **fields: Any) -> None:
        """A line of JSON for another program, where this run is for one."""
        if not self.events or (self.quiet and event == "progress"):
            return
        import json

        told = {"event": event, "time": round(time.time(), 3), "spec": self.spec, **fields}
        with self._lock:
            self._write(sys.stdout, json.dumps(told))

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        """What is overwritten is not there while the block writes a line that stays."""
        with self._lock, self.bar.away() if self.bar else contextlib.nullcontext():
            self._clear()
            yield

    def _write(self, stream: IO[str], text: str) -> None:
        try:
            # At once: several threads may have something to say.
            stream.write(f"{text}\n")
            stream.flush()
        except BrokenPipeError:
            # As SIGPIPE would end another program; what Python still holds must go somewhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            on_signal(signal.SIGPIPE, None)

    # ------------------------------------------------------------ what goes on now

    def step(self, title: str, text: str) -> None:
        """What a stage does now."""
        with self._lock:
            self._step[title] = text
            self._told[title] = time.monotonic()
        self.event("progress", task=_task(title), step=text)
        one = self.bar.doing.get(title) if self.bar is not None else None
        if one is not None:
            one.text, one.done, one.total, one.unit = printable(text), 0, 0, ""
        else:
            self.progress(f"{title}: {text}")

    def count(self, title: str, done: int, total: int, unit: str) -> None:
        """How far that is: of so many `packages` or `bytes`, or `percent` of 100."""
        one = self.bar.doing.get(title) if self.bar is not None else None
        if one is not None:
            one.done, one.total, one.unit = done, total, unit
            return
        every = EVENT_EVERY if self.events or self.terminal else LINE_EVERY
        with self._lock:
            now = time.monotonic()
            if now - self._told.get(title, self.began) < every:
                return
            self._told[title] = now
            text = self._step.get(title, "")
        if self.events:
            self.event("progress", task=_task(title), step=text, done=done, total=total, unit=unit)
            return
        from .bar import Doing

        far = Doing(title=title, done=done, total=total, unit=unit).count
        self.progress(f"{title}: {text}, {far}" if text else f"{title}: {far}")

    def progress(self, text: str) -> None:
        """What goes on now: overwritten on a terminal, a line of its own in a log."""
        if self.quiet or self.events:
            return
        if self.terminal and self._closed:
            return  # a thread that a signal has not reached yet
        if not self.terminal:
            from .bar import clock

            self.line(f"  {clock(time.monotonic() - self.began):>5}  {text}")
            return
        with self._lock:
            text = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
            if self.bar is None:
                from .bar import columns

                self._clear()
                sys.stderr.write(text[: columns() - 1])
                sys.stderr.flush()
            self.running = text

    def moving(self, text: str) -> None:
        """How far it is, many times a second: for a terminal alone, where it is overwritten."""
        if self.terminal:
            self.progress(text)

    def _clear(self) -> None:
        if self.running and self.bar is None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self.running = ""

    # ------------------------------------------------------------ the bar

    def raise_bar(self, foot: Callable[[], str]) -> None:
        """From now on a bar is drawn, where there is a terminal for it; `foot` is its last row."""
        if self.bar is None and self.terminal and not self.quiet and not self.events:
            from .bar import Bar

            self._clear()
            self.bar = Bar(lambda: self.running or foot())
            before_signal(self.close)

    @contextlib.contextmanager
    def doing(self, title: str) -> Iterator[None]:
        """A stage is made while the block runs."""
        bar = self.bar
        if bar is None:
            yield
            return
        from .bar import Doing

        bar.doing[title] = Doing(title=title)
        try:
            yield
        finally:
            bar.doing.pop(title, None)

    def close(self) -> None:
        """Leave nothing on the terminal that is overwritten; a signal's handler calls this, too."""
        self._closed = True
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        self._clear()


def _task(title: str) -> str:
    """The doit task of what has this title: `layer app` is layer:app."""
    return title.replace(" ", ":", 1)
