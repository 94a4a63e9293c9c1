"""What a machine's console shows, wherever it is cut: its lines, and texts that are waited for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])|\r")
"""What moves a cursor or sets a colour: ECMA-48's control sequences, and carriage returns."""

MOVES = re.compile(rb"\x1b\[[0-9;]*[Hf]")
"""What puts the cursor elsewhere: a menu of GRUB's has no other ends of lines."""

LONGEST = 4096
"""Bytes of a line that is shown whole: one that never ends is taken apart."""

DEAD = re.compile(
    rb"Kernel panic - not syncing|You are in (?:emergency|rescue) mode|^\(initramfs\) "
    rb"|^grub(?: rescue)?> |No bootable device|BdsDxe: No bootable option",
    re.MULTILINE,
)
"""What a machine shows that will not come up: Linux, systemd's sulogin-shell, initramfs-tools,
GRUB, SeaBIOS, OVMF."""


class Shown:
    """Looks for a text in what a console shows, whatever its colours and wherever it is cut."""

    MARGIN = 4096
    """Bytes before the last ones that may be a part of it, or of what moves a cursor."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.rest = b""

    def add(self, data: bytes) -> bool:
        """More of the console; whether the text has been shown by now."""
        if not self.text:
            return False
        shown = self.rest + data
        self.rest = shown[-len(self.text) - self.MARGIN :]
        return self.text in SEQUENCE.sub(b"", shown)


class Lines:
    """Hands on whole lines of a console, and remembers the first that a machine is dead by."""

    def __init__(self, line: Callable[[str], object]) -> None:
        self.line = line
        self.rest = b""
        self.dead = ""

    def add(self, data: bytes) -> None:
        """More of the console."""
        self.rest = MOVES.sub(b"\n", self.rest + data)
        *whole, self.rest = self.rest.split(b"\n")
        for one in whole:
            for part in _plain(one):
                self._told(part)
        shown = SEQUENCE.sub(b"", self.rest)
        # A prompt ends in no newline.
        if not self.dead and (found := DEAD.search(shown)):
            self.dead = found[0].decode("ascii").strip()
        if len(self.rest) > LONGEST:
            self.end()

    def end(self) -> None:
        """There is no more of it."""
        for part in _plain(self.rest) if self.rest else ():
            self._told(part)
        self.rest = b""

    def _told(self, line: bytes) -> None:
        if not self.dead and (found := DEAD.search(line)):
            self.dead = found[0].decode("ascii").strip()
        if line.strip():
            self.line(line.decode("utf-8", "replace").rstrip())


def _plain(line: bytes) -> Iterator[bytes]:
    """A line without its colours, in parts that are not too long."""
    plain = SEQUENCE.sub(b"", line)
    for at in range(0, max(1, len(plain)), LONGEST):
        yield plain[at : at + LONGEST]
