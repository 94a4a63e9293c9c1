"""A shared cache on a web server: GET, HEAD and PUT, as nginx's and bazel-remote have them."""

from __future__ import annotations

import base64
import contextlib
import netrc
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.response import BaseHTTPResponse

from ..host.process import check_signal
from ..spec.words import without_users
from . import names
from .backend import BLOCK, RECORD_LIMIT, Backend, Blob, Cut, Meter, Missing, RemoteFault, blocks

TOKEN = "STRATA_REMOTE_TOKEN"  # noqa: S105 - its name
"""Names the variable with a bearer token (RFC 6750) for servers that want one."""

REFUSED = {401: "it wants other credentials", 403: "it refuses this", 405: "it takes no files",
           413: "the file is too large for it", 507: "it is full"}  # fmt: skip
"""What statuses of HTTP (RFC 9110, RFC 4918) mean here."""


def said(error: BaseException) -> str:
    """The cause of what urllib3 wraps, in a few words."""
    inner: Any = error
    while getattr(inner, "reason", None) is not None and isinstance(inner.reason, Exception):
        inner = inner.reason
    while isinstance(inner.__cause__, OSError):
        inner = inner.__cause__
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror)
    text = str(inner).rpartition(">: ")[2].rpartition(": Failed to ")[2]
    return without_users(text or type(inner).__name__)


class Http(Backend):
    """`https://cache.example.org/strata`, with `user:password@` if it is to be."""

    def __init__(self, address: str, patience: float) -> None:
        parts = urlsplit(address)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        inner = f"[{host}]" if ":" in host else host
        self.url = f"{parts.scheme}://{inner}{port}{parts.path.rstrip('/')}"
        self.shown = self.url
        self.patience = patience
        self.headers = {"Accept-Encoding": "identity", "User-Agent": "strata", **credentials(parts)}
        self.pool = pool(self.url, patience)

    def record(self, name: str) -> bytes | None:
        with self.asked("GET", f"/{names.record(name)}") as response:
            if response.status == 404:
                return None
            self.check(response, 200)
            return bounded(response, self.patience)

    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        path = f"/{names.record(name)}"
        # Servers that know no conditions answer as ever; to them it is the earlier look that tells.
        only_new = {} if replace else {"If-None-Match": "*"}
        with self.asked("PUT", path, headers=only_new, body=data) as response:
            if response.status == 412:
                return False
            self.check(response, 200, 201, 202, 204)
            return True

    def size(self, sha256: str) -> int | None:
        with self.asked("HEAD", f"/{names.file(sha256)}") as response:
            if response.status == 404:
                return None
            self.check(response, 200)
            return length(response)

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        yield from self.ranged(f"/{names.file(sha256)}", start)

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
            for block in response.stream(BLOCK, decode_content=False):
                meter.moved(len(block))
                yield block[skip:]
                skip = max(0, skip - len(block))

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        meter = Meter(self.patience)
        path = f"/{names.file(blob.sha256)}"
        headers = {"Content-Length": str(blob.size)}
        with self.asked("PUT", path, headers=headers, body=blocks(source, meter)) as response:
            self.check(response, 200, 201, 202, 204)

    def close(self) -> None:
        self.pool.clear()

    @contextlib.contextmanager
    def asked(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Iterator[BaseHTTPResponse]:
        """The answer to a request, of which nothing is read yet; Cut where there is none."""
        try:
            response = self.pool.request(
                method, self.url + path, headers={**self.headers, **(headers or {})}, body=body,
                preload_content=False, decode_content=False, redirect=method != "PUT",
            )  # fmt: skip
            try:
                yield response
            finally:
                response.close() if response.length_remaining else response.release_conn()
        except (HTTPError, OSError) as error:
            raise Cut(said(error)) from error

    def check(self, response: BaseHTTPResponse, *good: int) -> None:
        """RemoteFault for another status than these; Cut for one that may pass."""
        if response.status in good:
            return
        text = REFUSED.get(response.status, response.reason or "an answer that is none")
        kind = Cut if response.status in (429, 500, 502, 503, 504) else RemoteFault
        raise kind(f"{text} (HTTP {response.status})")


def bounded(response: BaseHTTPResponse, patience: float) -> bytes:
    """At most RECORD_LIMIT + 1 bytes of an answer, in bounded time."""
    until = time.monotonic() + patience
    found = b""
    for block in response.stream(1 << 16, decode_content=False):
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


def basic(user: str, password: str) -> dict[str, str]:
    """The header of Basic authentication (RFC 7617)."""
    word = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {word}"}


def credentials(parts: Any) -> dict[str, str]:
    """Who we are to a server: by its address, else netrc(5), else the token."""
    if parts.username is not None:
        return basic(unquote(parts.username), unquote(parts.password or ""))
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        found = None
    if found is not None:
        return basic(found[0], found[2] or "")
    if token := os.environ.get(TOKEN):
        return {"Authorization": f"Bearer {token}"}
    return {}
