"""What servers say that is no answer: it costs bounded time, a few plain words, and no secret."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.remotes import environment
from support.scripted import Scripted, certificate, scripted
from support.tally import TALLY
from support.world import says
from tasks.errors import BuildError
from tasks.plan.lockfile import Record
from tasks.remote import sockets
from tasks.remote.backend import Backend, Blob, RemoteFault, Unusable
from tasks.remote.configured import SCHEMES, backends
from tasks.remote.login import login, token
from tasks.remote.remotes import Policy
from tasks.remote.shared import Shared
from tasks.store.cache import Cache
from tasks.store.made import Made
from tasks.store.seen import SeenFiles

pytestmark = pytest.mark.root

NAME = "base-" + "5" * 32
DATA = b"x" * 3000
BLOB = Blob(sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))
OK = b"HTTP/1.1 200 OK\r\n"
ENDED = OK + b"Connection: close\r\n"
PATIENCE = 0.6
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_TIMEOUT", "1")
    monkeypatch.setenv("STRATA_RETRIES", "0")
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    for name in ("STRATA_REMOTE_TOKEN", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


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


# ---------------------------------------------------------------- time


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


# ---------------------------------------------------------------- nonsense


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


# ---------------------------------------------------------------- a download as a whole


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


@pytest.mark.parametrize("cut", [True, False])
def test_a_byte_for_each_request_is_no_progress(
    tmp_path: Path, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "2")
    with scripted(parted(DATA, 1, cut)) as server:
        one = shared(server, tmp_path, [])
        fault_of(lambda: one._download(one.remotes[0], BLOB, tmp_path / "file"))
        assert len(server.heads) == 3


def test_a_download_that_goes_on_may_be_cut_off_as_often_as_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "1")
    data = os.urandom(4 << 20)
    blob = Blob(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    with scripted(parted(data, 1 << 20, True)) as server:
        one = shared(server, tmp_path, [])
        one._download(one.remotes[0], blob, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == data
        assert [ranged(head) >> 20 for head in server.heads] == [0, 1, 2, 3]


def test_what_crawls_from_one_request_to_the_next_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer brings something at once, and is cut off before anybody could call it slow."""
    monkeypatch.setenv("STRATA_RETRIES", "1000")
    began = time.monotonic()

    def answer(here: Scripted, one: Any, head: bytes) -> None:
        here.ended.wait(0.3)
        parted(DATA, 1, True)(here, one, head)

    with scripted(answer) as server:
        one = shared(server, tmp_path, [])
        fault_of(
            lambda: one._download(one.remotes[0], BLOB, tmp_path / "file"), "too slow", within=9
        )
    assert time.monotonic() - began < 9


def test_one_dropped_connection_ends_no_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "2")
    dropped: set[bytes] = set()
    sent: list[bytes] = []

    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        method = head.partition(b" ")[0]
        if method not in dropped:
            dropped.add(method)
            return
        if method == b"PUT":
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < len(DATA):
                body += one.recv(65536)
            sent.append(body)
        status = b"404 N" if method == b"HEAD" else b"201 C"
        one.sendall(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)

    told: list[str] = []
    with scripted(answer) as server:
        one = shared(server, tmp_path, told)
        (tmp_path / "deb").write_bytes(DATA)
        one.cache.take_deb(tmp_path / "deb", BLOB.sha256)
        record = Record(package="a", version="1", architecture="all", path="a.deb", size=BLOB.size,
                        sha256=BLOB.sha256, repository="main")  # fmt: skip
        assert one.give_debs("base-1", [record]) == 1
    assert sent == [DATA]
    assert len(server.heads) == 5  # of which two were dropped, and one asks anew
    assert told == []


def test_what_may_pass_is_asked_for_as_often_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(lambda _here, _one, _head: None) as server:
        one = shared(server, tmp_path, [])
        for retries in (0, 2):
            monkeypatch.setenv("STRATA_RETRIES", str(retries))
            server.heads.clear()
            fault_of(lambda: one._asking(lambda: one.remotes[0].backend.record(NAME)), "hung up")
            assert len(server.heads) == retries + 1


# ---------------------------------------------------------------- who is told what


def headers(head: bytes, name: bytes) -> list[bytes]:
    """What a request has of a header."""
    return re.findall(rb"(?im)^%s: *(.*?)\r$" % name, head)


def test_a_proxy_is_told_its_password_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        if head.startswith(b"CONNECT"):
            one.sendall(b"HTTP/1.1 407 \x1b[31mright-0-secret\r\n\r\n")
        else:
            one.sendall(ENDED + b"Content-Length: 2\r\n\r\n{}")

    word = b"Basic " + base64.b64encode(b"u:right-0-secret @")
    with scripted(answer) as proxy, scripted(answer) as server:
        given = f"http://u:right-0-secret%20%40@{proxy.place}"
        monkeypatch.setenv("http_proxy", given)
        monkeypatch.setenv("https_proxy", given)
        assert backends("http://cache.invalid:8000/x")[0].record(NAME) == b"{}"
        assert headers(proxy.heads[0], b"proxy-authorization") == [word]
        assert proxy.heads[0].startswith(b"GET http://cache.invalid:8000/x/ac/")
        (cache,) = backends("https://cache.invalid/x")
        fault_of(lambda: cache.record(NAME), "proxy")
        assert headers(proxy.heads[1], b"proxy-authorization") == [word]
        for none in ("127.0.0.1", "*", f"other,{server.place}", "127.0.0.1,localhost"):
            monkeypatch.setenv("no_proxy", none)
            assert backends(f"{server.url}/x")[0].record(NAME) == b"{}"
        assert len(proxy.heads) == 2
        assert [headers(head, b"proxy-authorization") for head in server.heads] == [[]] * 4
        monkeypatch.delenv("no_proxy")
        for bad in (
            "socks5://u:right-0-secret@h",
            "http://u:right-0-secret@h:x",
            "http://[u:secret",
        ):
            monkeypatch.setenv("http_proxy", bad)
            with pytest.raises(BuildError) as caught:
                backends(f"{server.url}/x")
            says(str(caught.value), "http_proxy: expected http://HOST[:PORT]")
            assert "secret" not in str(caught.value)
        monkeypatch.setenv("http_proxy", proxy.place)  # as curl takes it
        assert backends("http://cache.invalid/x")[0].record(NAME) == b"{}"
    with scripted(lambda _here, one, _head: one.sendall(b"HTTP/1.1 407 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")) as proxy:  # fmt: skip
        monkeypatch.setenv("http_proxy", proxy.url)
        (cache,) = backends("http://cache.invalid/x")
        fault_of(lambda: cache.record(NAME), "the proxy wants other credentials (HTTP 407)")


def test_a_token_is_for_the_first_web_server_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_here: Scripted, one: Any, _head: bytes) -> None:
        one.sendall(ENDED + b"Content-Length: 2\r\n\r\n{}")

    bearer = b"Bearer right-0-secret"
    monkeypatch.setenv("STRATA_REMOTE_TOKEN", "right-0-secret")
    (tmp_path / "netrc").write_text("default login u password p\n")
    with scripted(answer) as first, scripted(answer) as second:

        def asked(address: str) -> list[list[bytes]]:
            """What each server was told."""
            first.heads.clear()
            second.heads.clear()
            for cache in backends(address):
                cache.record(NAME)
            return [
                headers(one.heads[-1], b"authorization") for one in (first, second) if one.heads
            ]

        folder = f"file://{tmp_path}"
        assert asked(f"{folder} {first.url}/x {second.url}/x") == [[bearer], []]
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        default = b"Basic " + base64.b64encode(b"u:p")
        assert asked(f"{first.url}/x {second.url}/x") == [[bearer], [default]]
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login m password q\n")
        named = b"Basic " + base64.b64encode(b"m:q")
        assert asked(f"{first.url}/x {second.url}/x") == [[named], [named]]
        monkeypatch.setenv("NETRC", "/nonexistent")
        with pytest.raises(BuildError) as caught:
            backends("http://cache.example.org/x")
        says(str(caught.value), "STRATA_REMOTE_TOKEN would go there as plain text")
        assert backends("https://cache.example.org/x")
        assert backends("http://u:p@cache.example.org/x")
        # What nobody can read is told, where it would have counted.
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for content in (b"machine h login u passwort right-0-secret\n", b"\xff\xfe\x00"):
            (tmp_path / "netrc").write_bytes(content)
            monkeypatch.setenv("STRATA_REMOTE_TOKEN", "right-0-secret")
            assert asked(f"{first.url}/x") == [[bearer]]
            monkeypatch.delenv("STRATA_REMOTE_TOKEN")
            assert backends(f"http://u:p@{first.place}/x")
            with pytest.raises(BuildError) as caught:
                backends(f"{first.url}/x")
            says(str(caught.value), "netrc: it is no netrc(5)")
            assert "secret" not in str(caught.value)
        monkeypatch.setenv("NETRC", str(tmp_path))
        with pytest.raises(BuildError, match="Is a directory"):
            backends(f"{first.url}/x")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RemoteFault, match=r"config\.json: "):
        login("registry.example.org")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_address_whose_host_is_none_is_told(scheme: str) -> None:
    with pytest.raises(BuildError) as caught:
        backends(f"{scheme}://u:right-0-secret@[bad")
    says(str(caught.value), f"cache={scheme}://***@[bad: expected")
