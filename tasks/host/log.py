"""One stage's log file, and the lines of a command's output that tell why it failed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from ..errors import BuildError, printable
from . import safe, space

LOG_LIMIT = 64 << 20
"""Characters of a log file: what a package prints without end does not fill the disk."""


TAIL = 12
"""Lines of a failed command's output that are shown."""


STEP_MARK = "\x01"
"""Begins a line of a sandbox's output that says what it does next."""

WATCH = 0.25
"""Seconds between two looks at how far a step is that does not tell it."""


def _unheard(_done: int, _total: int, _unit: str) -> None:
    """Nobody asks how far a step is."""


class Log:
    """One stage's log file: each command as it could be typed, then all of its output.

    `progress` gets what the stage is doing now, in a few words, `counting` how far that is. `mask`
    takes secrets out of a line. `places` are the folders that the stage writes to, by what they are
    called. `echo` gets each line as well. `started` is when the log's clock began, by
    time.monotonic(): its headings have the time then.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        progress: Callable[[str], None] = lambda _text: None,
        mask: Callable[[str], str] = lambda text: text,
        places: Mapping[str, Path] | None = None,
        echo: Callable[[str], None] | None = None,
        counting: Callable[[int, int, str], None] = _unheard,
        started: float | None = None,
    ) -> None:
        self.path = path
        self.counting = counting
        self.started = started
        self.echo = echo
        self.places = places or {}
        self.began = {name: space.free_bytes(place) for name, place in self.places.items()}
        self.progress = progress
        self.mask = mask
        self.hidden: list[str] = []
        self.tail: deque[str] = deque(maxlen=400)
        self.room = LOG_LIMIT
        self.file: IO[str] | None = None

    def __enter__(self) -> Log:
        if self.path is not None:
            self.file = open(
                safe.creating(self.path), "w", encoding="utf-8", errors="replace", buffering=1
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            # What a full disk did not take was told when it was written.
            with contextlib.suppress(OSError):
                self.file.close()
            self.file = None

    def hide(self, secret: str) -> None:
        """Take this out of all lines from here on, too."""
        self.hidden.append(secret)

    def line(self, text: str) -> str:
        """Add one line; as it is shown, without secrets."""
        text = self.mask(text.rstrip("\n"))
        for secret in self.hidden:
            text = text.replace(secret, "***")
        if text.startswith(STEP_MARK):
            title = printable(text[len(STEP_MARK) :])
            self.progress(title)
            text = self._heading(title)
        return self._put(printable(text))

    def _put(self, text: str) -> str:
        self.tail.append(text)
        if self.echo is not None:
            self.echo(text)
        if self.file is not None and self.path is not None and self.room > 0:
            self.room -= len(text) + 1
            with space.placed(self.path):
                self.file.write(text + "\n" if self.room > 0 else "# the rest is left out\n")
        return text

    def step(self, text: str) -> None:
        """Say what the stage does now: a heading in the log, and the running line on the screen."""
        self.line(self._heading(text))
        self.progress(self.mask(text))

    def _heading(self, text: str) -> str:
        """A step's heading, with the time that has passed, below a blank line."""
        if self.started is None:
            return f"# {text}"
        self._put("")
        seconds = int(time.monotonic() - self.started)
        return f"# {seconds // 60}:{seconds % 60:02} {text}"

    def plumbing(self, text: str) -> None:
        """A line of what Strata does for itself, which only who asked for all wants to see."""
        if self.echo is not None:
            self.line(text)

    def count(self, done: int, total: int, unit: str) -> None:
        """Say how far the step is: of so many `packages` or `bytes`, or `percent` of 100."""
        if total > 0:
            self.counting(max(0, min(done, total)), total, unit)

    @contextlib.contextmanager
    def watched(self, total: int, unit: str, measure: Callable[[], int]) -> Iterator[None]:
        """Say again and again how far the block is, of `total`, by what `measure` finds."""
        if self.counting is _unheard or total <= 0:
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH):
                with contextlib.suppress(OSError):
                    done = measure()
                    if unit == "percent":  # an estimate: what is left may be more than it says
                        self.count(min(99, 100 * done // total), 100, unit)
                    else:
                        self.count(done, total, unit)

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def need_room(self, name: str, size: int, what: str) -> None:
        """BuildError unless the folder `name` of `places` has `size` bytes of room for `what`."""
        if name in self.places:
            space.need_room(self.places, name, size, what)

    def failure(self, what: str, message: str, hint: str = "") -> BuildError:
        """The error of a command that said `message`: a full disk's if that is what stopped it.

        To be asked before anything is removed: it looks at what is free now.
        """
        if full := space.blamed(message, self.places):
            return space.no_room(what, self.places, full, self.began)
        return BuildError(f"{what} {message}", hint)


# Lines like these say why a command failed; what follows them is often noise.
_TELLING = ("E: ", "dpkg: error", "error:", "Error:", "ERROR", "fatal:", "sandbox: ", "Err:", "W: ")

_NOISE = ("#", "+ ", "Get:", "Hit:", "Ign:", "Fetched ", "Reading ", "Building ")


def last_lines(said: Iterable[str]) -> str:
    """The last lines that matter of an output: the telling ones if there are any, and the last."""
    lines = [line for line in said if line.strip() and not line.startswith(_NOISE)]
    telling = [line for line in lines if any(mark in line for mark in _TELLING)][-TAIL // 2 :]
    rest = [line for line in lines if line not in telling][-(TAIL - len(telling)) :]
    chosen = {*telling, *rest}
    return "\n".join("    " + line[:300] for line in lines if line in chosen)
