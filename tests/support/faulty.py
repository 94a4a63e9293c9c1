"""A proxy before a server of the tests that counts what passes, and does to it what networks do."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from support.servers import serving

FILES = r"/cas/|/blobs/sha256:"
"""Requests for files, whichever server they are sent to."""

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@dataclass
class Fault:
    """What is done to requests that match `on`, the first `times` of them.

    down: hung up on; silent: never answered; slow: a byte now and then; cut: ended after `after`
    bytes; wrong: other bytes; longer: more than there is; lying: a Content-Length of more than
    comes; redirect: sent to `to`; elsewhere: told to upload to `to`; a number: this status.
    """

    kind: str
    on: str = "."
    times: int = 1 << 30
    after: int = 0
    to: str = ""


@dataclass
class Seen:
    """One request, and how many bytes were answered."""

    method: str
    path: str
    headers: dict[str, str]
    bytes: int = 0


@dataclass
class Proxy:
    """The proxy as a test has it."""

    url: str
    upstream: str
    fault: Fault | None = None
    token: str = ""
    """An access token that is wanted; /token gives it to who has `password`."""
    password: str = ""
    seen: list[Seen] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """As at first."""
        self.fault, self.token, self.password = None, "", ""
        self.seen.clear()

    def asked(self, pattern: str) -> list[str]:
        """Requests that match, as METHOD PATH."""
        lines = [f"{one.method} {one.path}" for one in self.seen]
        return [line for line in lines if re.search(pattern, line)]

    @property
    def bytes(self) -> int:
        """Of all answers."""
        return sum(one.bytes for one in self.seen)

    def due(self, line: str) -> Fault | None:
        """The fault that this request meets."""
        with self.lock:
            fault = self.fault
            if fault is None or fault.times < 1 or not re.search(fault.on, line):
                return None
            fault.times -= 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Nowhere."""

    def _any(self) -> None:
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.proxy.seen.append(seen)
        fault = self.proxy.due(f"{self.command} {self.path}")
        kind = fault.kind if fault else ""
        if kind == "down":
            self._hang_up()
        elif kind == "silent":
            self.proxy.ended.wait(60)
            self._hang_up()
        elif fault and fault.kind == "cut" and self.command == "PUT":
            self.rfile.read(fault.after)
            self._hang_up()
        else:
            body = self._body()
            if body is None:  # the client has gone in the middle
                self._hang_up()
            elif kind.isdigit():
                self._answer(seen, int(kind), {}, b"no\n")
            elif fault and kind == "redirect":
                self._answer(seen, 302, {"Location": fault.to + self.path}, b"")
            elif self.proxy.token and (wanted := self._wanted(seen)):
                self._answer(seen, *wanted)
            else:
                self._pass(seen, fault, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _any

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            found = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        size = int(self.headers.get("Content-Length") or 0)
        found = self.rfile.read(size)
        return found if len(found) == size else None

    def _wanted(self, seen: Seen) -> tuple[int, dict[str, str], bytes] | None:
        given = seen.headers.get("authorization", "")
        if seen.path.startswith("/token"):
            if given == self.proxy.password:
                return 200, {}, json.dumps({"token": self.proxy.token}).encode()
            return 401, {}, b"{}"
        if given == f"Bearer {self.proxy.token}":
            return None
        realm = f'Bearer realm="{self.proxy.url}/token",service="cache",scope="repository:x:pull"'
        return 401, {"WWW-Authenticate": realm}, b"{}"

    def _pass(self, seen: Seen, fault: Fault | None, body: bytes) -> None:
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        upstream.request(self.command, self.path, body=body or None, headers=headers)
        answer = upstream.getresponse()
        data = answer.read()
        more = {k: v for k, v in answer.getheaders() if k.lower() not in HOP}
        if "Location" in more:
            more["Location"] = more["Location"].replace(self.proxy.upstream, self.proxy.url)
        if fault and fault.kind == "elsewhere":
            more["Location"] = fault.to
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        upstream.close()
        self._answer(seen, answer.status, more, data, fault, length)

    def _answer(self, seen: Seen, status: int, headers: dict[str, str], data: bytes,
                fault: Fault | None = None, length: str | None = None) -> None:  # fmt: skip
        kind = fault.kind if fault else ""
        if kind == "wrong":
            data = bytes(255 - byte for byte in data)
        elif kind == "longer":
            data += b"more" * 64
        told = len(data) + 100 if kind == "lying" else len(data)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if length is not None else str(told))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "slow":
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                seen.bytes += 1
                if self.proxy.ended.wait(0.2):
                    break
            return
        if fault and kind == "cut":
            data = data[: fault.after]
        self.wfile.write(data)
        seen.bytes += len(data)
        if kind in ("cut", "lying"):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up on us is what the tests are about."""


@contextlib.contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy before a server, http://HOST:PORT."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", upstream)
        handler.proxy = proxy  # type: ignore[attr-defined]
        with serving(server, proxy.ended):
            yield proxy
