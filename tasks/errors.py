"""The errors that are shown to a user without a traceback, and what they carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

# C0 but tab and newline, DEL, C1, and halves of surrogate pairs, which no encoding has.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """text with `?` for what would command a terminal: a package's output is shown to a person."""
    return _CONTROL.sub("?", text)


Same = TypeVar("Same", bound="BuildError")


class BuildError(Exception):
    """What went wrong and, when it is known, what to do about it.

    `message` is one sentence that names the file, the path in it and what was expected; `hint`
    says what to do, in lines of its own. Both are printed as they are: neither may hold a secret.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = printable(message)
        self.hint = printable(hint)

    def retold(self: Same, how: Callable[[str], str]) -> Same:
        """The same error for whoever knows more, or wants less: its message as `how` makes it."""
        told = type(self).__new__(type(self), how(self.message))
        told.__dict__.update(self.__dict__)  # what it carries beside its words
        told.message = printable(how(self.message))
        return told

    @property
    def in_a_line(self) -> str:
        """All that it says, for a place that has one line."""
        # A command's message has the lines that matter, several of them.
        return "; ".join(map(str.strip, f"{self.message}\n{self.hint}".splitlines()))

    def fields(self, mask: Callable[[str], str]) -> dict[str, str]:
        """`message` and `hint` as another program gets them, each as `mask` makes it."""
        return {"message": mask(self.message), "hint": mask(self.hint)}

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.hint.splitlines()])


class DamagedEntry(BuildError):
    """A cached file is not what its record says; the entry has been dropped, so it is rebuilt."""


class NoRoom(BuildError):
    """A filesystem is full or too small: not what the command that met it thinks of it."""


class RepositoryFault(BuildError):
    """What a repository sent is not to be used; what is kept of it here may be the reason."""


class SpecFault(BuildError):
    """What a spec may not hold: `what` it is, the file, and the line in it if it is known."""

    def __init__(self, what: str, hint: str = "", *, file: str, line: int | None) -> None:
        super().__init__(f"{file}: {what}" + (f" (line {line})" if line else ""), hint)
        self.what = printable(what)
        self.file = file
        self.line = line


class CommandFailed(BuildError):
    """A command ended with another status than it may; `message` has the lines that matter.

    Whoever has to decide by what it said looks at `output`, its last lines as the log has them,
    never at `message`, which is cut for people.
    """

    def __init__(self, message: str, hint: str = "", *, status: int, output: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.output = output
        self.inside = False
        """Whether it ran in a sandbox that a person can be let into."""
        self.blamed = ""
        """The script whose fault it is, by its path, if it is one's."""
        self.packages: tuple[str, ...] = ()
        """The packages that apt itself blamed, by name."""
