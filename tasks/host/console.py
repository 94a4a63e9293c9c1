"""What a machine's console shows, wherever it is cut: its lines, and texts that are waited for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])|\r")
"""What moves a cursor, sets a colour or asks a terminal: ECMA-48's control sequences and strings,
and carriage returns."""

BEGINS = re.compile(rb"\r|\x1b\[1?G")
"""What puts the cursor where its line begins: what comes next is shown from there."""

MOVES = re.compile(rb"\x1b\[[0-9;]*[Hf]")
"""What puts the cursor elsewhere: a menu of GRUB's has no other ends of lines."""

LONGEST = 4096
"""Bytes of a line that is shown whole: one that never ends is taken apart."""

DEAD = re.compile(
    # Behind the prompt of getty(8), which ends no line, and with the time and the caller of printk.
    rb"^(?:[\w.-]+ login: )?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? )?(Kernel panic - not syncing)"
    rb"|^(You are in (?:emergency|rescue) mode|Entering emergency mode\. Exit the shell"
    rb"|\(initramfs\) |grub(?: rescue)?> |No bootable device|BdsDxe: No bootable option)",
    re.MULTILINE,
)
"""What a machine shows that will not come up: Linux, systemd's sulogin-shell, dracut,
initramfs-tools, GRUB, SeaBIOS, OVMF. Where their lines begin: elsewhere somebody quotes them."""


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
        self.within = False
        """Whether the rest goes on with a line of which a part was handed on."""
        self.dead = ""

    def add(self, data: bytes) -> None:
        """More of the console."""
        self.rest = MOVES.sub(b"\n", self.rest + data)
        *whole, self.rest = self.rest.split(b"\n")
        for one in whole:
            self._told(one)
            self.within = False
        # A prompt ends in no newline.
        self._look(self.rest)
        if len(self.rest) > LONGEST:
            self.end()
            self.within = True

    def end(self) -> None:
        """There is no more of it."""
        self._told(self.rest)
        self.rest = b""

    def _look(self, line: bytes) -> None:
        shown = SEQUENCE.sub(b"", BEGINS.sub(b"\n", line))
        if not self.dead and (found := DEAD.search(b"\0" * self.within + shown)):
            self.dead = (found[1] or found[2]).decode("ascii").strip()

    def _told(self, line: bytes) -> None:
        self._look(line)
        for part in _plain(line):
            if part.strip():
                self.line(part.decode("utf-8", "replace").rstrip())


def _plain(line: bytes) -> Iterator[bytes]:
    """A line without its colours, in parts that are not too long."""
    plain = SEQUENCE.sub(b"", line)
    for at in range(0, max(1, len(plain)), LONGEST):
        yield plain[at : at + LONGEST]
