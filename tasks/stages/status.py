"""How far apt, mmdebstrap, debootstrap and tar are, by what they print while they run.

apt's own form is that of its README.progress-reporting: `pmstatus:PACKAGE:PERCENT:WORDS`. What is
read here is shown and nothing else: whatever runs in the sandbox can print the same.
"""

from __future__ import annotations

import re

from ..host.log import Log

STATUS_FD = ("/bin/sh", "-c", 'exec 3>&1; exec "$@"', "sh")
"""Before an apt-get with STATUS_OPTION: its status comes among its output.

Not on descriptor 1 itself, since apt closes the one it is given for all that it starts."""
STATUS_OPTION = ("--option", "APT::Status-Fd=3")

_STATUS = re.compile(
    r"(dlstatus|pmstatus|pmerror|pmconffile|media-change):(.*?):\d+(?:\.\d+)?:(.*)", re.DOTALL
)
_SAID = re.compile(r"(?:I: )?(Unpacking|Setting up|Configuring) ([a-z0-9][a-z0-9+.-]+)\b")

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


class Installing:
    """Of the installation of `total` packages: takes each line, says how far it is to `log`."""

    def __init__(self, log: Log, total: int) -> None:
        self.log = log
        self.total = total
        self.failed: list[str] = []
        """The packages that apt told an error of."""
        self._unpacked: set[str] = set()
        self._configured: set[str] = set()

    def __call__(self, line: str) -> bool:
        """Whether the line only says how far it is, as apt's status does."""
        status = _STATUS.fullmatch(line)
        if status is not None:
            kind, subject, words = status.groups()
            name = PACKAGE.match(subject.rpartition("/")[2])
            if name is not None and kind == "pmerror":
                self.failed.append(name[0])
            elif name is not None and kind == "pmstatus":
                self._note(words.partition(" ")[0], name[0])
            return True
        said = _SAID.match(line)
        if said is not None:
            self._note(*said.groups())
        return False

    def _note(self, verb: str, package: str) -> None:
        # A package is half done when it is unpacked, whichever order they come in.
        if verb == "Unpacking":
            self._unpacked.add(package)
        elif verb in ("Configuring", "Setting up"):
            self._configured.add(package)
        else:
            return
        done = len(self._unpacked | self._configured) + len(self._configured)
        self.log.count(done // 2, self.total, "packages")
