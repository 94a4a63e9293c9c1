"""Connections of the back ends: each wait at one is bounded, and ends when a signal comes.

urllib3's timeouts are of a single read. A server that sends a byte now and then meets none of them,
as long as a header lasts; so here a whole answer's head, and each block after it, have a moment
until when they must be there.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse
from urllib3.util.ssl_ import create_urllib3_context

from ..host.process import at_signal, check_signal
from . import names
from .backend import RemoteFault

_live: set[weakref.ref[socket.socket]] = set()


def hang_up() -> None:
    """Shut every socket of a back end down: whoever waits at one goes on at once."""
    for one in list(_live):
        if (live := one()) is not None:
            # Of a TLS socket, too, this is the system call alone: another thread is in the library.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(live, socket.SHUT_RDWR)


def _noted(one: socket.socket) -> None:
    at_signal(hang_up)
    _live.add(weakref.ref(one, _live.discard))
    check_signal()  # one that came before the socket was noted


class Plain(socket.socket):
    """A socket whose reading ends at a moment, `until`, however little comes at a time."""

    until = math.inf

    def left(self) -> None:
        """Let the next wait be no longer than what is left; TimeoutError when nothing is."""
        if self.until < math.inf:
            seconds = self.until - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("timed out")
            self.settimeout(seconds)

    def recv_into(self, *given: Any, **named: Any) -> int:
        self.left()
        return super().recv_into(*given, **named)


class Tls(ssl.SSLSocket):
    """The same with TLS; as the handshake begins, it is the only one that has the connection."""

    until = math.inf
    left = Plain.left

    def do_handshake(self, block: bool = False) -> None:
        _noted(self)
        super().do_handshake(block)

    def recv_into(self, *given: Any, **named: Any) -> int:
        self.left()  # type: ignore[misc]
        return super().recv_into(*given, **named)

    def recv(self, *given: Any, **named: Any) -> bytes:
        self.left()  # type: ignore[misc]  # by a proxy with TLS, within which is another one
        return super().recv(*given, **named)

    def send(self, *given: Any, **named: Any) -> int:
        self.left()  # type: ignore[misc]  # whose sendall() bounds each part, not the whole
        return super().send(*given, **named)


class Watched(HTTPConnection):
    """A connection of urllib3's with a moment until when what is waited for must be there."""

    inner: Any = None

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 10)
        until = time.monotonic() + seconds
        found = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        fault: OSError = TimeoutError("timed out")
        for family, kind, number, _name, address in found:
            if (left := until - time.monotonic()) <= 0:
                break
            one = Plain(family, kind, number)
            try:
                _noted(one)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.settimeout(left)
                one.connect(address)
                one.settimeout(seconds)
                one.until = until
            except OSError as error:
                fault = error
                one.close()
            except BaseException:
                one.close()
                raise
            else:
                return one
        raise fault

    def connect(self) -> None:
        super().connect()
        self.inner = getattr(self.sock, "socket", self.sock)

    def more(self) -> None:
        """Wait as long as `timeout` from now on."""
        if self.inner is not None:
            self.inner.until = time.monotonic() + float(self.timeout or 10)

    def request(self, method: str, url: str, body: Any = None, *given: Any, **named: Any) -> None:
        if body is None or isinstance(body, bytes):
            self.more()
        elif self.inner is not None:  # whoever gives it block by block looks at each
            self.inner.until = math.inf
        super().request(method, url, body, *given, **named)

    def getresponse(self) -> Any:
        self.more()
        try:
            return super().getresponse()
        except BaseException:
            # What has begun to read an answer that is none keeps the socket open otherwise.
            if self.inner is not None and (number := self.inner.detach()) >= 0:
                os.close(number)
            raise


class Secure(Watched, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = Watched


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = Secure


class Pools:
    """Connections to wherever a cache leads, by the proxies that the environment names."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let them go."""
        for manager in self._managers.values():
            manager.clear()

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: Any
    ) -> BaseHTTPResponse:
        """The head of an answer. No redirect is followed: urllib3 would read all of one's body."""
        check_signal()
        return self.manager(urlsplit(url)).request(
            method, url, headers=headers, body=body,
            preload_content=False, decode_content=False, redirect=False, retries=False,
        )  # fmt: skip

    def manager(self, parts: SplitResult) -> urllib3.PoolManager:
        """The pools for an address; RemoteFault where its proxy can be none."""
        with self._lock:
            proxy = proxy_of(parts)
            key = (proxy, "https" in (parts.scheme, urlsplit(proxy).scheme))
            if key not in self._managers:
                self._managers[key] = self._made(parts.scheme, *key)
            return self._managers[key]

    def _made(self, scheme: str, proxy: str, secure: bool) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=min(10.0, self.patience), read=self.patience),
            "maxsize": 8,
        }
        if secure:
            options["ssl_context"] = self._context
        make: Callable[..., urllib3.PoolManager] = urllib3.PoolManager
        if proxy:
            make = urllib3.ProxyManager
            options["proxy_url"] = proxy
            options["proxy_headers"] = _proxy_headers(proxy)
            options["proxy_ssl_context"] = options.get("ssl_context")
        try:
            made = make(**options)
        except ValueError as error:  # which may hold a password
            raise RemoteFault(f"{scheme}_proxy: expected http://HOST[:PORT]") from error
        made.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return made

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = create_urllib3_context()
        context.load_default_certs()
        context.sslsocket_class = Tls
        return context


def proxy_of(parts: SplitResult) -> str:
    """The proxy by which an address is asked (http_proxy, no_proxy), or ""; RemoteFault."""
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if not proxy or urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if names.server(proxy) is None:
        raise RemoteFault(f"{parts.scheme}_proxy: expected http://HOST[:PORT]")
    return proxy


def _proxy_headers(proxy: str) -> dict[str, str]:
    """Who we are to a proxy, by its address: urllib3 does not look there."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=user))
