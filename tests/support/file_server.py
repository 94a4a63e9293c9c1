"""A server of files over HTTP on 127.0.0.1, with the faults that a test wants of it."""

from __future__ import annotations

import base64
import io
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from support.tally import TALLY


@dataclass(kw_only=True)
class Fault:
    """What is wrong with an answer; `times` counts down the requests it still hits (None: all)."""

    status: int | None = None  # this status and no body
    body: bytes | None = None  # these bytes instead of the file, whatever condition is asked
    cut: int | None = None  # close after so many bytes of the body, with the whole Content-Length
    delay: float = 0  # seconds before the answer
    times: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # with `status`
    before: Callable[[], object] | None = None  # called before the answer
    drop: bool = False  # close without an answer
    drip: float = 0  # seconds between the tenths of the body
    chunked: bool = False  # no Content-Length: `cut` shows by the missing last chunk

    @property
    def harmful(self) -> bool:
        """Whether the client gets another answer than it should, or later: a redirect is none."""
        other = self.body is not None or self.cut is not None or self.drop
        return other or (self.status or 0) >= 400 or self.delay + self.drip > 0


NO_FAULT = Fault()


class Server:
    """Serve `root` over HTTP/1.1 on 127.0.0.1 within a `with`; directly, or as a client's proxy.

    `requests` lists (method, target, status) in order of the answers; the target is unquoted, and
    the absolute URI if the client took this for its proxy. `port` is asked for, and may be another's. `faults` maps the end of a path to a
    Fault ("" is the end of every path, the first that fits counts). `auth`: (user, password).
    """

    def __init__(
        self,
        root: Path,
        *,
        auth: tuple[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.root, self.auth, self.host, self.wanted = root, auth, host, port
        self.requests: list[tuple[str, str, int]] = []
        self.faults: dict[str, Fault] = {}
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Server:
        kind = _HTTPServer6 if ":" in self.host else _HTTPServer
        try:
            self._http = kind((self.host, self.wanted), _Handler)
        except OSError:
            self._http = kind((self.host, 0), _Handler)
        self._http.owner = self
        # shutdown() lasts as long as one poll
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.close_connections()
        self._http.server_close()

    @property
    def port(self) -> int:
        return int(self._http.server_port)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def clear(self) -> None:
        self.requests.clear()

    def take_fault(self, path: str) -> Fault:
        with self._lock:
            for suffix, fault in self.faults.items():
                if path.endswith(suffix) and fault.times != 0:
                    fault.times = fault.times and fault.times - 1
                    TALLY["network faults"] += fault.harmful
                    return fault
        return Fault()


class _HTTPServer(ThreadingHTTPServer):
    """Knows its connections: keep-alive ones would outlive the server, and their sockets it."""

    owner: Server

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: list[tuple[threading.Thread, socket.socket]] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections = [pair for pair in self.connections if pair[0].is_alive()]
        args = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=args, daemon=True)
        thread.start()
        self.connections.append((thread, request))

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error and not isinstance(error, ConnectionError):  # a client may go away
            raise error

    def close_connections(self) -> None:
        for thread, connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()


class _HTTPServer6(_HTTPServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _HTTPServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the ACK of its headers

    def do_GET(self) -> None:
        owner, path = self.server.owner, unquote(urlsplit(self.path).path)
        fault = owner.take_fault(path)
        if fault.before:
            fault.before()
        if (fault.delay and owner.stopping.wait(fault.delay)) or fault.drop:
            self.close_connection = True
        elif owner.auth and self.headers.get("Authorization") != _basic(*owner.auth):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="Strata"'})
        elif fault.status is not None:
            self._answer(fault.status, fault.headers)
        elif fault.body is not None:
            span = range(len(fault.body))
            self._answer(200, {}, io.BytesIO(fault.body), span, fault)
        elif ".." in path.split("/") or not (owner.root / path.lstrip("/")).is_file():
            self._answer(404)
        else:
            with (owner.root / path.lstrip("/")).open("rb") as file:
                self._answer_file(file, fault)

    do_HEAD = do_GET

    def _answer_file(self, file: BinaryIO, fault: Fault) -> None:
        stat = os.fstat(file.fileno())
        size, modified = stat.st_size, formatdate(int(stat.st_mtime), usegmt=True)
        headers = {"Last-Modified": modified, "Accept-Ranges": "bytes"}
        # As nginx: only the very date matches, so that a test may put older files back.
        if self.headers.get("If-Modified-Since") == modified:
            return self._answer(304, headers)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted or self.headers.get("If-Range", modified) != modified:
            return self._answer(200, headers, file, range(size), fault)
        span = range(int(wanted[1]), min(size, int(wanted[2] or size) + 1))
        if not span:
            return self._answer(416, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {span[0]}-{span[-1]}/{size}"
        return self._answer(206, headers, file, span, fault)

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str] = {},
        body: BinaryIO | None = None,
        span: range = range(0),
        fault: Fault = NO_FAULT,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        chunked = fault.chunked and body is not None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif status != 304:
            self.send_header("Content-Length", str(len(span)))
        self.end_headers()
        count = len(span) if fault.cut is None else min(fault.cut, len(span))
        if body and self.command != "HEAD":
            if chunked:
                body.seek(span.start)
                self.wfile.write(b"%x\r\n%b\r\n" % (count, body.read(count)) if count else b"")
                self.wfile.write(b"0\r\n\r\n" if count == len(span) else b"")
            else:
                step = -(-count // 10) if fault.drip else count
                for start in range(0, count, step or 1):
                    length = min(step, count - start)
                    # A body of bytes has no descriptor: sendfile then sends it piece by piece.
                    self.connection.sendfile(body, span.start + start, length)
                    if fault.drip and self.server.owner.stopping.wait(fault.drip):
                        break
        if count < len(span):
            self.close_connection = True

    def log_request(self, code: object = "-", size: object = "-") -> None:
        target = unquote(getattr(self, "path", ""))
        self.server.owner.requests.append((self.command or "", target, int(str(code))))

    def log_message(self, *_: object) -> None:
        pass


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
