"""A tar's extended attributes put in order by name: each filesystem lists them in one of its own.

As a program it is a filter of a sandbox's pipeline: it needs only the standard library.
"""

from __future__ import annotations

import sys
from typing import IO

ATTRIBUTE = b"SCHILY.xattr."


def sort_xattrs(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a tar, the SCHILY.xattr records of each pax header (pax(1), IEEE 1003.1) in order."""
    stated = None  # a member's size where it has more than 8 GiB, in the pax header before it
    while header := source.read(512):
        target.write(header)
        field = header[124:136]
        if field[0] & 0x80:  # GNU: base 256
            size = int.from_bytes(field[1:], "big")
        else:
            size = int(field.strip(b" \0") or b"0", 8)
        if header[156:157] == b"x":
            left = -(-size // 512) * 512
            found = records(source.read(left)[:size])
            # The last one counts: a value that looks like a record is none.
            sizes = [record for name, record in found if name == b"size"]
            stated = int(sizes[-1].partition(b"=")[2]) if sizes else None
            target.write(b"".join(_sorted(found)).ljust(left, b"\0"))
            continue
        size, stated = size if stated is None else stated, None
        left = -(-size // 512) * 512
        while left and (chunk := source.read(min(left, 1 << 20))):
            target.write(chunk)
            left -= len(chunk)


def records(text: bytes) -> list[tuple[bytes, bytes]]:
    """(name, whole record) of a pax header's records, by their lengths: values hold any byte."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(text):
        length = int(text[at : text.index(b" ", at)])
        record = text[at : at + length]
        found.append((record.partition(b" ")[2].partition(b"=")[0], record))
        at += length
    return found


def _sorted(found: list[tuple[bytes, bytes]]) -> list[bytes]:
    # Other records stay where they are, in front.
    rest = [record for name, record in found if not name.startswith(ATTRIBUTE)]
    attributes = sorted(pair for pair in found if pair[0].startswith(ATTRIBUTE))
    return [*rest, *(record for _name, record in attributes)]


if __name__ == "__main__":
    sort_xattrs(sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
