"""One file and one record, put into a shared cache and got again; and what may be said of a fault."""

from __future__ import annotations

import hashlib
import io
import re

from support import servers
from support.world import says
from tasks.remote.backend import Backend, Blob

DATA = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(DATA).hexdigest()
BLOB = Blob(sha256=SHA256, size=len(DATA))
NAME = "base-" + "5" * 32
RECORD = b'{"format": 1}\n'


def put(cache: Backend) -> None:
    cache.put_file(BLOB, io.BytesIO(DATA))


def got(cache: Backend, start: int = 0) -> bytes:
    return b"".join(cache.chunks(SHA256, start))


def assert_plain(text: str, *parts: str) -> None:
    """What is said of a fault: a few words, no secret."""
    says(text, *filter(None, parts))
    assert 5 < len(text) < 120, text
    assert "\n" not in text
    assert not re.search(rf"{servers.PASSWORD}|AKID|Authorization|://\w+:", text), text
