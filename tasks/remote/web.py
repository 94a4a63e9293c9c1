"""What HTTP needs, whichever way a cache speaks it: connections, bounds, faults in few words."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import time
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPException, RemoteDisconnected
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from ..host.process import check_signal
from .backend import BLOCK, RECORD_LIMIT, Backend, Cut, Meter, Missing, RemoteFault, Silent, plain
from .sockets import Pools, Watched, proxy_of

AGENT = "strata"

MEANINGS = {401: "it wants other credentials", 403: "it refuses this",
            404: "there is no such place", 405: "it takes no files",
            407: "the proxy wants other credentials",
            413: "the file is too large for it", 507: "it is full"}  # fmt: skip
"""What statuses of HTTP (RFC 9110, RFC 4918) mean here."""

FAILED = "it failed"

PASSING = (429, 500, 502, 503, 504)
"""Statuses that may be others when asked again."""

REDIRECTING = (301, 302, 303, 307, 308)

REDIRECTS = 5
"""Of how many, one after another, the last is still followed."""

SECRET = ("authorization", "cookie")
"""Headers that are for one server alone."""

LEFT = 1 << 12
"""Bytes of an answer that are read for nothing, so that its connection serves again."""


def said(error: BaseException) -> str:
    """The cause of what urllib3 wraps, in a few words, and never in a server's or a header's."""
    inner = _innermost(error)
    if isinstance(inner, IncompleteRead):
        return "it hung up in the middle"
    if isinstance(inner, RemoteDisconnected):
        return "it hung up"
    if _silent(error):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return plain(str(inner.strerror))
    if isinstance(error, ProxyError):
        return "the proxy does not do it"
    return f"its answer makes no sense ({type(inner).__name__})"


def _innermost(error: BaseException) -> Any:
    """What an error was made of at last."""
    inner: Any = error
    while isinstance(cause := _within(inner), Exception):
        inner = cause
    return inner


def _silent(error: BaseException) -> bool:
    """Whether nothing came in time."""
    return isinstance(_innermost(error), (ReadTimeoutError, TimeoutError))


def _within(error: Any) -> Any:
    """What an error was made of."""
    if isinstance(error, ProxyError):
        return error.original_error
    if isinstance(error, MaxRetryError):
        return error.reason
    if isinstance(error, (ProtocolError, SSLError)) and error.args:
        return error.args[-1]
    return error.__cause__ if isinstance(error.__cause__, OSError) else None


class Web(Backend):
    """A cache behind a web server; `url` is what paths are added to."""

    def __init__(self, url: str, patience: float, headers: Mapping[str, str]) -> None:
        self.url = self.shown = url
        self.patience = patience
        self.headers = {"Accept-Encoding": "identity", "User-Agent": AGENT, **headers}
        self.pools = Pools(patience)
        proxy_of(urlsplit(url))  # what can be none is said now

    def close(self) -> None:
        self.pools.close()

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
            response = self._led(method, url, headers, body)
            try:
                yield response
            finally:
                _let_go(response)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            check_signal()  # one hangs up at us, too
            passing = isinstance(error, (HTTPError, HTTPException, OSError))
            kind = Silent if _silent(error) else Cut if passing else RemoteFault
            raise kind(said(error)) from error

    def _led(
        self, method: str, url: str, headers: Mapping[str, str], body: Any
    ) -> BaseHTTPResponse:
        """The answer of wherever an address leads; who we are is no other server's business."""
        for _ in range(REDIRECTS + 1):
            response = self.pools.request(method, url, headers, body)
            to = response.headers.get("Location")
            if method not in ("GET", "HEAD") or response.status not in REDIRECTING or not to:
                return response
            _let_go(response)
            before, url = url, urljoin(url, to)
            if urlsplit(url).scheme not in ("http", "https"):
                raise RemoteFault("it redirects to what is no web server")
            if origin(url) != origin(before):
                headers = {one: headers[one] for one in headers if one.lower() not in SECRET}
        raise RemoteFault(f"it redirects more than {REDIRECTS} times")

    def check(self, response: BaseHTTPResponse, *good: int) -> None:
        """RemoteFault for another status than these; Cut for one that may pass."""
        if response.status in good:
            return
        text = MEANINGS.get(response.status) or plain(response.reason or "") or FAILED
        kind = Cut if response.status in PASSING else RemoteFault
        raise kind(f"{text} (HTTP {response.status})")

    def sized(self, path: str) -> int | None:
        """How long what is at a path is; None where nothing is."""
        with self.asked("HEAD", path) as response:
            if response.status == 404:
                return None
            self.check(response, 200)
            return length(response)

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
        with contextlib.suppress(HTTPError, HTTPException, OSError, ValueError):
            _waiting(response)
            response.read1(LEFT)
    if response.length_remaining == 0:
        response.release_conn()
    else:
        response.close()


def arriving(response: BaseHTTPResponse) -> Iterator[bytes]:
    """An answer's bytes as they come: a block is no reason to wait for the rest of it."""
    while True:
        _waiting(response)
        if not (block := response.read1(BLOCK)):
            return
        yield block


def _waiting(response: BaseHTTPResponse) -> None:
    """Bound the next wait for more of an answer."""
    if isinstance(response.connection, Watched):
        response.connection.more()


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
    return int(text) if len(text) < 19 and text.isascii() and text.isdigit() else -1


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address; of what can be none, nobody's."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port
    except ValueError:
        return "", None, None


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
