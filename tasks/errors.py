"""The one error that is shown to a user without a traceback."""

from __future__ import annotations


class BuildError(Exception):
    """What went wrong and, when it is known, what to do about it.

    `message` is one sentence that names the file, the path in it and what was expected; `hint`
    says what to do. Both are printed as they are: neither may hold a secret.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class DamagedEntry(BuildError):
    """A cached file is not what its record says; the entry has been dropped, so it is rebuilt."""
