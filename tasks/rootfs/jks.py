"""Java's keystore format, version 2, as far as its dates go: cacerts of ca-certificates-java.

    u4 0xFEEDFEED, u4 version, u4 count, count entries, SHA-1 of a password and all before it
    entry: u4 tag, UTF alias, u8 date in ms, then of a certificate (tag 2): UTF type, bytes
           of a key (tag 1): bytes, u4 count, count certificates
    UTF: u2 length and so many bytes; bytes: u4 length and so many

Source: OpenJDK, sun.security.provider.JavaKeyStore. A keystore is believed only if its digest is
right, for the password that Debian's has; of anything else nothing is changed.
"""

from __future__ import annotations

import hashlib
import struct

MAGIC = b"\xfe\xed\xfe\xed\x00\x00\x00\x02"

WORD = "changeit"
"""The password that every Java has for cacerts, which are no secret."""


DIGEST = 20

KEY, CERTIFICATE = 1, 2


def dated(content: bytes, epoch: int) -> bytes | None:
    """The keystore with `epoch`, in seconds, for each entry's date; None if it is none of ours."""
    body = bytearray(content[:-DIGEST])
    if not content.startswith(MAGIC) or _digest(body) != content[-DIGEST:]:
        return None
    try:
        (count,) = struct.unpack_from(">I", body, len(MAGIC))
        at = len(MAGIC) + 4
        for _ in range(count):
            at = _entry(body, at, epoch * 1000)
    except (struct.error, ValueError):
        return None
    return bytes(body) + _digest(body) if at == len(body) else None


def _entry(body: bytearray, at: int, date: int) -> int:
    """Date the entry at an offset; the offset of the next one."""
    tag, length = struct.unpack_from(">IH", body, at)
    at += 6 + length
    struct.pack_into(">Q", body, at, date)
    at += 8
    if tag == CERTIFICATE:
        return _certificate(body, at)
    if tag != KEY:
        raise ValueError(tag)
    at = _bytes(body, at)
    (count,) = struct.unpack_from(">I", body, at)
    at += 4
    for _ in range(count):
        at = _certificate(body, at)
    return at


def _certificate(body: bytearray, at: int) -> int:
    (length,) = struct.unpack_from(">H", body, at)
    return _bytes(body, at + 2 + length)


def _bytes(body: bytearray, at: int) -> int:
    (length,) = struct.unpack_from(">I", body, at)
    at += 4 + int(length)
    if at > len(body):
        raise ValueError(at)
    return at


def _digest(body: bytes | bytearray) -> bytes:
    salted = WORD.encode("utf-16-be") + b"Mighty Aphrodite" + body
    return hashlib.sha1(salted, usedforsecurity=False).digest()
