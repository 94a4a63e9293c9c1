"""Real servers on 127.0.0.1 that a shared cache may be kept in; each ends by its number."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from socketserver import BaseServer

USER, PASSWORD = "ci", "right-0-secret"

HASHED = f"{USER}:$2y$05$abcdefghijklmnopqrstuuJN.njjf0m599BV7V9pfb8cfWwMqEjHO\n"
"""PASSWORD by bcrypt, as docker-registry wants it."""

BUCKET = "strata-cache"

NGINX = """\
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log; user root;
events {{ worker_connections 256; }}
http {{
  log_format short '$request_method $uri $status $bytes_sent'; access_log {root}/access.log short;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  client_max_body_size {limit}; {rate}
  server {{
    listen 127.0.0.1:{port}; root {root}/files; {auth}
    location / {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""

REGISTRY = """\
version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage: {{filesystem: {{rootdirectory: {root}/blobs}}}}
http: {{addr: "127.0.0.1:{port}", relativeurls: true}}
{auth}
"""

MOTO = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


def free_port() -> int:
    """A port that nobody listens at, now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    argv: Sequence[str], port: int, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server as long as the block lasts, from when it answers on."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            # Also where the tests are killed, it ends with them.
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=env,
        )
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def nginx(root: Path, *, login: bool = False, limit: str = "200m", rate: str = "") -> Iterator[str]:
    """nginx with WebDAV; the address of what is in `root`/files."""
    port = free_port()
    (root / "files").mkdir(parents=True)
    auth = f"auth_basic cache; auth_basic_user_file {root}/users;" if login else ""
    (root / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    text = NGINX.format(root=root, port=port, limit=limit, auth=auth,
                        rate=f"limit_rate {rate};" if rate else "")  # fmt: skip
    (root / "nginx.conf").write_text(text)
    argv = [
        "/usr/sbin/nginx",
        "-p",
        str(root),
        "-c",
        f"{root}/nginx.conf",
    ]
    with running(argv, port, root / "log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def docker_registry(root: Path, *, login: bool = False) -> Iterator[str]:
    """Debian's docker-registry; http:// and its place."""
    port = free_port()
    root.mkdir(parents=True, exist_ok=True)
    (root / "users").write_text(HASHED)
    auth = f"auth: {{htpasswd: {{realm: cache, path: {root}/users}}}}" if login else ""
    (root / "config.yml").write_text(REGISTRY.format(root=root, port=port, auth=auth))
    argv = ["docker-registry", "serve", f"{root}/config.yml"]
    with running(
        argv, port, root / "log", env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"}
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def s3(root: Path) -> Iterator[str]:
    """moto's S3 with one bucket; its address as AWS_ENDPOINT_URL has it."""
    port = free_port()
    root.mkdir(parents=True, exist_ok=True)
    with running([sys.executable, "-W", "ignore", "-c", MOTO, str(port)], port, root / "log"):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(server: BaseServer, ended: threading.Event) -> Iterator[None]:
    """A server of our own as long as the block lasts; `ended` then tells those who answer."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        ended.set()
        server.shutdown()
        thread.join()
