"""The bar of a terminal: what each running stage does and how far it is, below all other lines.

rich draws it, and is imported here alone, when the first stage is made. Its own Live is not used:
that would take stdout, to which results go, and could not be taken off the screen by a signal's
handler before it says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EVERY = 0.2
"""Seconds between two drawings."""

PATIENCE = 0.3
"""Seconds that a signal's handler waits for a drawing that is under way: the terminal may stand."""


@dataclass(kw_only=True)
class Doing:
    """What one stage does now."""

    title: str
    text: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def count(self) -> str:
        """How far it is, in the fewest words."""
        if not self.total:
            return ""
        if self.unit == "bytes":
            return f"{self.done / 1e6:.0f}/{self.total / 1e6:.0f} MB"
        return f"{self.done} %" if self.unit == "percent" else f"{self.done}/{self.total}"


def clock(seconds: float) -> str:
    """A time as 0:42, or as 1:02:03."""
    whole = int(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    minutes = whole // 60 % 60
    return f"{hours}{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def columns() -> int:
    """How wide the terminal of stderr is now."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def rows() -> int:
    """How high it is."""
    try:
        return os.get_terminal_size(2).lines or 24
    except OSError:
        return 24


class Bar:
    """Draws until it is closed; `foot` gives the last row, of the whole run."""

    def __init__(self, foot: Callable[[], str]) -> None:
        from rich.console import Console

        self.foot = foot
        self.doing: dict[str, Doing] = {}
        self._drawn = 0
        self._over = False
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._console: Console = Console(
            file=sys.stderr, highlight=False, markup=False, emoji=False
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Take it off the screen while the block writes something that stays."""
        with self._lock:
            self._erase()
            yield

    def close(self) -> None:
        """Take it off for good; a second time is fine. A signal's handler calls it, too."""
        self._over = True
        self._wake.set()
        # Whoever holds the lock may be what this interrupts, or wait for a terminal that stands.
        if self._lock.acquire(timeout=PATIENCE):
            try:
                self._erase()
            finally:
                self._lock.release()

    def _run(self) -> None:
        while not self._wake.wait(EVERY):
            with self._lock:
                if not self._over:
                    self._draw()

    def _write(self, text: str) -> None:
        # The terminal may be gone, which is for others to find.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r" + "\x1b[1A" * (self._drawn - 1) + "\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        # Room for the ^C that a terminal shows where it is typed, which must not begin another row.
        lines = self.text(columns() - 3).splitlines()[: max(1, rows() - 1)]
        if not lines:
            self._erase()
            return
        # In one piece, each row over the one before: nothing flickers.
        up = "\x1b[1A" * (self._drawn - 1)
        self._write("\r" + up + "\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        self._drawn = len(lines)

    def text(self, width: int) -> str:
        """Its rows, none of them wider than `width` columns."""
        self._console.width = max(width, 10)
        with self._console.capture() as captured:
            self._console.print(self._table(max(width, 10)), end="")
        return captured.get().rstrip("\n")

    def _table(self, width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        doing = list(self.doing.values())
        wide = min(30, width // 5) if width >= 50 else 0
        counts = max((len(one.count) for one in doing), default=0) if width >= 30 else 0
        # What each other column takes, with the blank before it, and the time.
        rest = width - (wide + 1 if wide else 0) - (counts + 1 if counts else 0) - 6
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=max(rest, 4), no_wrap=True, overflow="ellipsis")
        if wide:
            table.add_column(width=wide)
        if counts:
            table.add_column(width=counts, justify="right", no_wrap=True)
        table.add_column(width=5, justify="right", no_wrap=True)
        for one in doing:
            text = Text(f"{one.title}: {one.text}" if one.text else one.title)
            text.stylize("bold", 0, len(one.title))
            bar = ProgressBar(
                total=one.total or None,
                completed=one.done,
                width=wide or None,
                animation_time=now,
                complete_style="cyan",  # rich's own is a red, as of failures
                finished_style="green",
                pulse_style="cyan",
            )
            spent = Text(clock(now - one.began), style="cyan")
            counted = [Text(one.count)] if counts else []
            table.add_row(text, *([bar] if wide else []), *counted, spent)
        if foot := self.foot():
            table.add_row(Text(foot, style="dim"))
        return table
