"""A server of the tests that says what a test has it say, which need not be HTTP."""

from __future__ import annotations

import contextlib
import datetime
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from support.servers import serving


@dataclass
class Scripted:
    """The server as a test has it: `answer` is called with each request's first lines."""

    place: str = ""
    scheme: str = "http"
    heads: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.place}"

    def slowly(
        self, connection: Any, begin: bytes, more: bytes = b"a", pause: float = 0.15
    ) -> None:
        """Send this, and then the same again and again, as long as anybody listens."""
        connection.sendall(begin)
        until = time.monotonic() + 12
        while time.monotonic() < until and not self.ended.wait(pause):
            connection.sendall(more)


Answer = Callable[[Scripted, Any, bytes], None]


@contextlib.contextmanager
def scripted(answer: Answer, certificate: Path | None = None) -> Iterator[Scripted]:
    """A server on 127.0.0.1; one thread for each connection, which ends when `answer` returns."""
    here = Scripted(scheme="https" if certificate else "http")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                one = self.request
                if certificate:
                    one = context.wrap_socket(one, server_side=True)
                with one:
                    head = b""
                    while b"\r\n\r\n" not in head and (more := one.recv(65536)):
                        head += more
                    here.heads.append(head)
                    answer(here, one, head)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        here.place = f"127.0.0.1:{server.server_address[1]}"
        with serving(server, here.ended):
            yield here


def certificate(path: Path) -> Path:
    """A certificate of 127.0.0.1 that has signed itself, and its key, in one file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                          serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    return path
