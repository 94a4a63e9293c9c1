"""What HTTP needs, whichever way a cache speaks it: connections, bounds, faults in few words."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    LocationParseError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.response import BaseHTTPResponse

from ..host.process import check_signal
from ..spec.words import without_users
from .backend import BLOCK, RECORD_LIMIT, Backend, Cut, Meter, Missing, RemoteFault

AGENT = "strata"

MEANINGS = {401: "it wants other credentials", 403: "it refuses this",
            404: "there is no such place", 405: "it takes no files",
            413: "the file is too large for it", 507: "it is full"}  # fmt: skip
"""What statuses of HTTP (RFC 9110, RFC 4918) mean here."""

FAILED = "it failed"

PASSING = (429, 500, 502, 503, 504)
"""Statuses that may be others when asked again."""

LEFT = 1 << 12
"""Bytes of an answer that are read for nothing, so that its connection serves again."""


def said(error: BaseException) -> str:
    """The cause of what urllib3 wraps, in a few words."""
    inner: Any = error
    while getattr(inner, "reason", None) is not None and isinstance(inner.reason, Exception):
        inner = inner.reason
    if isinstance(inner, ProtocolError) and isinstance(inner.args[-1], Exception):
        inner = inner.args[-1]
    while isinstance(inner.__cause__, OSError):
        inner = inner.__cause__
    if isinstance(inner, IncompleteRead):
        return "it hung up in the middle"
    if isinstance(inner, RemoteDisconnected):
        return "it hung up"
    if isinstance(inner, (ReadTimeoutError, TimeoutError)):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror)
    text = str(inner).rpartition(">: ")[2].rpartition(": Failed to ")[2]
    return without_users(text or type(inner).__name__)


class Web(Backend):
    """A cache behind a web server; `url` is what paths are added to."""

    def __init__(self, url: str, patience: float, headers: Mapping[str, str]) -> None:
        self.url = self.shown = url
        self.patience = patience
        self.headers = {"Accept-Encoding": "identity", "User-Agent": AGENT, **headers}
        self.pool = pool(url, patience)

    def close(self) -> None:
        self.pool.clear()

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Iterator[BaseHTTPResponse]:
        """The answer to a request, of which nothing is read yet; Cut where there is none."""
        with self.sent(method, self.url + path, {**self.headers, **(headers or {})}, body) as found:
            yield found

    @contextlib.contextmanager
    def sent(
        self, method: str, url: str, headers: Mapping[str, str], body: Any = None
    ) -> Iterator[BaseHTTPResponse]:
        """The same of any address, and with just these headers."""
        try:
            response = self.pool.request(
                method, url, headers=headers, body=body,
                preload_content=False, decode_content=False, redirect=method in ("GET", "HEAD"),
            )  # fmt: skip
            try:
                yield response
            finally:
                _let_go(response)
        except (HTTPError, OSError) as error:
            raise Cut(said(error)) from error

    def check(self, response: BaseHTTPResponse, *good: int) -> None:
        """RemoteFault for another status than these; Cut for one that may pass."""
        if response.status in good:
            return
        text = MEANINGS.get(response.status) or response.reason or FAILED
        kind = Cut if response.status in PASSING else RemoteFault
        raise kind(f"{text[:80]} (HTTP {response.status})")

    def ranged(self, path: str, start: int) -> Iterator[bytes]:
        """What is at a path from this byte on, also of a server that knows no ranges."""
        meter = Meter(self.patience)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self.asked("GET", path, headers=headers) as response:
            if response.status == 404:
                raise Missing("there is no such file")
            if response.status == 416:
                return  # nothing is behind what came already
            self.check(response, 200, 206)
            skip = start if response.status == 200 else 0
            for block in arriving(response):
                meter.moved(len(block))
                if skip < len(block):
                    yield block[skip:]
                skip = max(0, skip - len(block))


def _let_go(response: BaseHTTPResponse) -> None:
    """Give an answer's connection back where nothing is left in it, or end it.

    Also of an answer without a body the end is read: before, its connection takes no other request.
    """
    left = response.length_remaining
    if left is not None and left <= LEFT:
        with contextlib.suppress(HTTPError, OSError):
            response.read1(LEFT)
    if response.length_remaining == 0:
        response.release_conn()
    else:
        response.close()


def arriving(response: BaseHTTPResponse) -> Iterator[bytes]:
    """An answer's bytes as they come: a block is no reason to wait for the rest of it."""
    while block := response.read1(BLOCK):
        yield block


def bounded(blocks: Iterable[bytes], patience: float) -> bytes:
    """At most RECORD_LIMIT + 1 bytes of what comes, in bounded time."""
    until = time.monotonic() + patience
    found = b""
    for block in blocks:
        found += block
        check_signal()
        if len(found) > RECORD_LIMIT:
            break
        if time.monotonic() > until:
            raise RemoteFault(f"too slow: no whole answer in {patience:g} seconds")
    return found[: RECORD_LIMIT + 1]


def length(response: BaseHTTPResponse) -> int:
    """An answer's Content-Length; -1 where it has none: no file is so long."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else -1


def pool(url: str, patience: float) -> urllib3.PoolManager:
    """Connections to a server, by the proxy that the environment names for it, if any."""
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=min(10.0, patience), read=patience),
        # Asked again by us, who know what came already. Redirects lose Authorization on the way
        # to another host.
        "retries": urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=5),
        "maxsize": 8,
    }
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    try:
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            return urllib3.ProxyManager(proxy, **options)
    except (HTTPError, LocationParseError, ValueError) as error:
        raise RemoteFault(f"the proxy of {parts.scheme}_proxy: {said(error)}") from error
    return urllib3.PoolManager(**options)


def loopback(host: str) -> bool:
    """Whether a host is this one, by its name or number."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def place(parts: SplitResult) -> str:
    """HOST[:PORT] of an address, without who asks."""
    host = parts.hostname or ""
    inner = f"[{host}]" if ":" in host else host
    return f"{inner}:{parts.port}" if parts.port else inner


def basic(user: str, password: str) -> dict[str, str]:
    """The header of Basic authentication (RFC 7617)."""
    word = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {word}"}


def bearer(token: str, whence: str) -> dict[str, str]:
    """The header of a bearer token (RFC 6750); RemoteFault for what no header may hold."""
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise RemoteFault(f"{whence} has characters that no token has")
    return {"Authorization": f"Bearer {token}"}
