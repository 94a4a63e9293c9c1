"""QEMU's machine protocol: lines of JSON (QEMU's docs/interop/qmp-spec)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LINE_LIMIT = 1 << 20
"""Bytes of one line: QEMU is as little believed as what runs in it."""


class BadMessage(ValueError):
    """A line that is no object of JSON, or too long."""


def order(command: str, /, *, mark: str = "", **arguments: Any) -> bytes:
    """One command, as a line; `mark` is the `id` of QEMU's answer to it."""
    given = {"execute": command, "arguments": arguments, **({"id": mark} if mark else {})}
    return json.dumps(given).encode() + b"\n"


class Messages:
    """Takes messages out of a stream of bytes, wherever it is cut."""

    def __init__(self) -> None:
        self.rest = b""

    def add(self, data: bytes) -> Sequence[dict[str, Any]]:
        """More of the stream; the messages that are whole by now."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        if max(map(len, [*lines, self.rest])) > LINE_LIMIT:
            raise BadMessage(f"a line of more than {LINE_LIMIT} bytes")
        found = []
        for line in filter(bytes.strip, lines):
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadMessage(ascii(line[:80])) from error
            if not isinstance(message, dict):
                raise BadMessage(ascii(line[:80]))
            found.append(message)
        return found


def port_opened(message: dict[str, Any], port: str) -> bool | None:
    """Whether a message says that the machine opened a port or closed it; None if neither."""
    data = message.get("data")
    if message.get("event") != "VSERPORT_CHANGE" or not isinstance(data, dict):
        return None
    return bool(data.get("open")) if data.get("id") == port else None


def no_room(message: dict[str, Any]) -> bool:
    """Whether a message says that what the machine wrote had no room."""
    data = message.get("data")
    if message.get("event") != "BLOCK_IO_ERROR" or not isinstance(data, dict):
        return False
    return bool(data.get("nospace"))
