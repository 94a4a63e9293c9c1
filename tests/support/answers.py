"""Caches at servers that say what a test has them say, and what comes of that."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.remotes import environment
from support.scripted import Scripted
from support.tally import TALLY
from support.world import says
from tasks.remote.backend import Backend, Blob, RemoteFault, Unusable
from tasks.remote.configured import SCHEMES
from tasks.remote.remotes import Policy
from tasks.remote.shared import Shared
from tasks.store.cache import Cache
from tasks.store.made import Made
from tasks.store.seen import SeenFiles

NAME = "base-" + "5" * 32
DATA = b"x" * 3000
BLOB = Blob(sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))
OK = b"HTTP/1.1 200 OK\r\n"
ENDED = OK + b"Connection: close\r\n"
PATIENCE = 0.6
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def opened(kind: str, server: Scripted) -> Backend:
    """A cache at this server."""
    if kind == "s3":
        env = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "AKIDci",
               "AWS_SECRET_ACCESS_KEY": "right-0-secret", "AWS_REGION": "us-east-1"}  # fmt: skip
        with environment(**env):
            cache = SCHEMES["s3"]("s3://bucket/x", PATIENCE)
            for name in ("_short", "_stream", "_parts"):
                getattr(cache, name)
        return cache
    address = f"oci://{server.place}/a/b" if kind == "oci" else f"{server.url}/x"
    return SCHEMES[address.partition("://")[0]](address, PATIENCE)


def fault_of(work: Callable[[], object], *parts: str, within: float = 3.5) -> str:
    """The text of the fault that this ends with, soon, in few words, without a secret."""
    TALLY["network faults"] += 1
    began = time.monotonic()
    with pytest.raises((RemoteFault, Unusable)) as caught:
        work()
    assert time.monotonic() - began < within
    text = str(caught.value)
    says(text, *parts)
    assert text.isprintable()
    assert len(text) < 120
    assert "secret" not in text
    return text


def taken(cache: Backend) -> bytes:
    return b"".join(cache.chunks(BLOB.sha256, 0))


def put(cache: Backend) -> None:
    cache.put_file(BLOB, io.BytesIO(DATA))


def shared(server: Scripted, folder: Path, told: list[str]) -> Shared:
    """The shared caches of a run, of which this is the one."""
    cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
    rules = Policy(pull=True, push=True, any=True)
    return Shared([opened("http", server)], rules, cache, Made(folder / "built"), told.append)


def ranged(head: bytes) -> int:
    """Where a request wants to begin."""
    found = re.search(rb"[Rr]ange: bytes=([0-9]+)-", head)
    return int(found[1]) if found else 0


def parted(data: bytes, size: int, cut: bool) -> Callable[[Scripted, Any, bytes], None]:
    """An answer of `size` bytes at most, from where it is asked for on, then nothing more."""

    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        start = ranged(head)
        said = len(data) - start if cut else len(data[start : start + size])
        one.sendall(b"HTTP/1.1 206 P\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % said)
        one.sendall(data[start : start + size])

    return answer
