"""What servers say that is no answer: it costs a few plain words, and no secret."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest

from support.answers import (
    BLOB,
    CHUNKED,
    DATA,
    ENDED,
    NAME,
    OK,
    fault_of,
    opened,
    put,
    taken,
)
from support.scripted import Scripted, scripted
from tasks.remote.backend import RemoteFault
from tasks.remote.login import token

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


NONSENSE: list[bytes] = [
    OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    OK + b"Content-Length: 5, 6\r\n\r\nright-0-secret",
    OK + b"Transfer-Encoding: chunked\r\n\r\nright-0-secret\r\n",
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://[right-0-secret\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://right-0-secret:99999/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: file:///etc/right-0-secret\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://\xff\xfe\x00/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://"
    + b"a" * 300
    + b"/\r\n\r\n",
    b"HTTP/1.1 right-0-secret\r\n\r\n",
    b"\x00\x01\x02" * 100,
    OK + b"A: b\r\n" * 200 + b"\r\n",
    OK + b"A" * 70000,
    b"HTTP/1.1 599 \x1b[31mright-0\x1b]0;x\x07"
    + b"w" * 500
    + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 407 \x1b[31m\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("number", range(len(NONSENSE)))
def test_nonsense_is_told_in_plain_words(number: int) -> None:
    with scripted(lambda _here, one, _head: one.sendall(NONSENSE[number])) as server:
        for kind in ("http", "oci"):
            cache = opened(kind, server)
            if number == 0:
                assert cache.size(BLOB.sha256) == -1
                continue
            fault_of(lambda: cache.record(NAME))  # noqa: B023
            with contextlib.suppress(RemoteFault):
                cache.size(BLOB.sha256)
            fault_of(lambda: taken(cache))  # noqa: B023
            if number not in (1, 2):
                fault_of(lambda: put(cache))  # noqa: B023


def test_redirects_are_followed_five_times_and_no_further() -> None:
    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        left = int(re.findall(rb"left=([0-9]+)", head)[0])
        to = f"/?left={left - 1}" if left else ""
        one.sendall(b"HTTP/1.1 302 F\r\nConnection: close\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % to.encode()
                    if left else ENDED + b"Content-Length: 3000\r\n\r\n" + DATA)  # fmt: skip

    with scripted(answer) as server:
        cache: Any = opened("http", server)
        for left in (0, 1, 5):
            assert b"".join(cache.ranged(f"/?left={left}", 0)) == DATA
        fault_of(lambda: list(cache.ranged("/?left=6", 0)), "redirects more than 5 times")


def test_an_upload_is_led_nowhere_bad() -> None:
    """The Location that a registry gives for an upload."""
    for to in (b"http://[x", b"http://h:99999/", b"file:///x", b""):

        def answer(_here: Scripted, one: Any, head: bytes, to: bytes = to) -> None:
            status = b"202 A" if head.startswith(b"POST") else b"404 N"
            one.sendall(
                b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
                % (status, to)
            )

        with scripted(answer) as server:
            fault_of(lambda: put(opened("oci", server)))


def test_what_a_registry_names_is_looked_at() -> None:
    """Manifests and realms of a hostile one; what its errors say is not shown."""
    record = b'{"format": 1}'
    config = {"mediaType": "application/vnd.strata.record.v1+json", "size": len(record),
              "digest": "sha256:" + "0" * 64}  # fmt: skip
    whole = json.dumps({"config": config}).encode()
    bearer = 'HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer realm="{}"\r\n\r\n'
    answers: dict[bytes, str] = {
        CHUNKED + (b"10000\r\n" + b"a" * 0x10000 + b"\r\n") * 20: "malformed",
        ENDED + b"Content-Length: %d\r\n\r\n" % len(whole) + whole: "not what its manifest says",
        bearer.format("http://registry.example.org/token").encode(): "no https://",
        bearer.format("https://u:right-0-secret@h/").encode(): "no https://",
        bearer.format("https://[x").encode(): "no https://",
        b'HTTP/1.1 400 No\r\nContent-Length: 40\r\n\r\n{"errors":[{"message":"right-0-secret"}]}': "No (HTTP 400)",
    }
    for text, said in answers.items():
        with scripted(lambda _here, one, _head: one.sendall(text)) as server:  # noqa: B023
            fault_of(lambda: opened("oci", server).record(NAME), said)
    for seconds in ("1" + "0" * 400, "NaN", "1e999", '"x"', "1" + "0" * 5000):
        with contextlib.suppress(RemoteFault):
            token(b'{"token": "x", "expires_in": %s}' % seconds.encode())
