"""Servers that say little, late or nothing: each is given up in bounded time."""

from __future__ import annotations

import contextlib
import functools
import io
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
from support.scripted import Scripted, certificate, scripted
from tasks.remote import sockets
from tasks.remote.backend import Blob, Cut, Silent
from tasks.remote.configured import SCHEMES, backends

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


CRAWLS: list[tuple[bytes, bytes]] = [
    (OK + b"X-Long: ", b"a"),
    (OK, b"X-Many: a\r\n"),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (CHUNKED + b"0", b"0"),
    (CHUNKED + b"1\r\na\r\n0\r\n", b"T: a\r\n"),
    (b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n", b"a" * 1000),
]
"""What comes first, and then a little again and again: heads, chunks' sizes, trailers, redirects."""


@pytest.mark.parametrize("crawl", [
    pytest.param(number, marks=pytest.mark.nightly if number in (1, 2, 3) else ())
    for number in range(len(CRAWLS))
])  # fmt: skip
def test_an_answer_that_comes_bit_by_bit_is_given_up(crawl: int) -> None:
    begin, more = CRAWLS[crawl]
    with scripted(lambda here, one, _head: here.slowly(one, begin, more)) as server:
        for kind in ("http", "oci"):
            fault_of(lambda: opened(kind, server).record(NAME))  # noqa: B023
            fault_of(lambda: taken(opened(kind, server)))  # noqa: B023
        if crawl == 0:
            fault_of(lambda: opened("http", server).size(BLOB.sha256), "no answer in time")
            fault_of(lambda: put(opened("http", server)), "no answer in time")
            fault_of(lambda: opened("s3", server).record(NAME))
            fault_of(lambda: taken(opened("s3", server)))


def test_so_is_one_by_tls_and_a_handshake_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    def answer(here: Scripted, one: Any, head: bytes) -> None:
        if b"/cas/" in head:
            one.sendall(ENDED + b"Content-Length: %d\r\n\r\n" % len(DATA) + DATA)
        else:
            here.slowly(one, OK + b"X-Long: ")

    with scripted(answer, path) as server:
        cache = opened("http", server)
        assert taken(cache) == DATA
        fault_of(lambda: cache.record(NAME), "no answer in time")
        monkeypatch.delenv("SSL_CERT_FILE")
        fault_of(lambda: opened("http", server).record(NAME), "certificate")
    with scripted(lambda here, one, _head: here.slowly(one, b"\x16\x03\x03\x3f\xff")) as server:
        (cache,) = backends(f"https://{server.place}/x")
        fault_of(lambda: cache.record(NAME), "no answer in time")


def test_a_registry_s_token_is_not_waited_for_without_end() -> None:
    def answer(here: Scripted, one: Any, head: bytes) -> None:
        if b"/token" in head:
            here.slowly(one, OK + b"X-Long: ")
        else:
            one.sendall(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="%s/token"\r\n'
                        b"Connection: close\r\nContent-Length: 0\r\n\r\n" % here.url.encode())  # fmt: skip

    with scripted(answer) as server:
        fault_of(lambda: opened("oci", server).record(NAME), "no answer in time")


def test_an_address_that_nobody_answers_at_is_given_up() -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        (cache,) = backends(f"http://127.0.0.1:{full.getsockname()[1]}/x")
        fault_of(lambda: cache.record(NAME), "no answer in time")


def test_whoever_waits_at_a_server_goes_on_when_all_is_hung_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal does it: at a head, a body, an upload, a handshake, with TLS and without."""
    path = certificate(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    large = Blob(sha256="0" * 64, size=64 << 20)

    def answer(here: Scripted, one: Any, head: bytes) -> None:
        if b"GET /x/cas/" in head:
            one.sendall(OK + b"Content-Length: 3000\r\n\r\nabc")
        here.ended.wait(20)

    def silent(here: Scripted, _one: Any, _head: bytes) -> None:
        here.ended.wait(20)

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(scripted(answer, one)) for one in (None, path)]
        mute = stack.enter_context(scripted(silent))
        caches = [SCHEMES[one.scheme](f"{one.url}/x", 30) for one in servers]
        shaking = SCHEMES["https"](f"https://{mute.place}/x", 30)
        works: list[Callable[[], object]] = [functools.partial(shaking.record, NAME)]
        for one in caches:
            works.append(functools.partial(one.record, NAME))
            works.append(functools.partial(taken, one))
            works.append(functools.partial(one.put_file, large, io.BytesIO(bytes(large.size))))
        with ThreadPoolExecutor(len(works)) as pool:
            waiting = [pool.submit(fault_of, work) for work in works]
            time.sleep(1)
            assert not any(wait.done() for wait in waiting)
            sockets.hang_up()
            for wait in waiting:
                wait.result(timeout=2)


def test_a_bucket_that_says_nothing_is_asked_no_more_and_one_that_hangs_up_is() -> None:
    """obstore tells both by one error: which it was shows in how long nothing came."""

    def silence(here: Scripted, _one: Any, _head: bytes) -> None:
        here.ended.wait(5)

    with scripted(silence) as server:
        cache = opened("s3", server)
        for work in (
            lambda: cache.record(NAME),
            lambda: cache.size(BLOB.sha256),
            lambda: taken(cache),
        ):
            with pytest.raises(Silent, match="no answer in time"):
                work()
    with scripted(lambda _here, _one, _head: None) as server:
        cache = opened("s3", server)
        for work in (lambda: cache.record(NAME), lambda: taken(cache), lambda: put(cache)):
            with pytest.raises(Cut) as caught:
                work()
            assert not isinstance(caught.value, Silent)
