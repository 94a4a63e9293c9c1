"""A real, signed Debian repository on 127.0.0.1, for a test to change while it is served.

    make_deb, real_debs --> Repository.add, .remove --> .publish (SigningKey) --> Server --> apt

What the host configures for apt or gpg has no part in it; only real_debs needs the network.
"""

from __future__ import annotations

import atexit
import base64
import fcntl
import functools
import gzip
import hashlib
import io
import lzma
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import EllipsisType
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from support.tally import TALLY

MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


def _run(argv: Sequence[str | Path], *, stdin: bytes = b"", env: Mapping[str, str] = {}) -> bytes:
    """Return what a command prints; raise RuntimeError with all of its words when it fails."""
    environ = {**os.environ, "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run(argv, input=stdin, capture_output=True, env=environ, check=False)
    if done.returncode:
        words = (done.stdout + done.stderr).decode(errors="replace")
        raise RuntimeError(f"{shlex.join(map(str, argv))}: exit code {done.returncode}\n{words}")
    return done.stdout


# --- packages ---------------------------------------------------------------------------------


def make_deb(
    folder: Path,
    name: str,
    version: str = "1",
    *,
    arch: str = "all",
    depends: str = "",
    conflicts: str = "",
    priority: str = "optional",
    essential: bool = False,
    files: Mapping[str, str | bytes] = {},
    scripts: Mapping[str, str] = {},
    extra: Mapping[str, str] = {},
    mtime: int = 1_700_000_000,
) -> Path:
    """Build `folder`/name_version_arch.deb, the same bytes from the same arguments.

    `files` maps a path in the rootfs to its content: mode 0755 if that starts with "#!", else 0644.
    `scripts` maps a member of the control archive (postinst, conffiles, triggers, ...) to its text;
    a maintainer script without "#!" becomes a `set -e` shell script. `extra` adds or replaces
    fields of the control file. `mtime` is that of every member, in seconds since 1970.
    """
    control = {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": "Strata Test <test@example.invalid>",
        "Priority": priority,
        "Section": "misc",
        **({"Essential": "yes"} if essential else {}),
        **({"Depends": depends} if depends else {}),
        **({"Conflicts": conflicts} if conflicts else {}),
        "Description": f"test package {name}",
        **extra,
    }
    members: dict[str, str | bytes] = {path.lstrip("/"): content for path, content in files.items()}
    members["DEBIAN/control"] = "".join(f"{key}: {value}\n" for key, value in control.items())
    for script, text in scripts.items():
        plain = script not in MAINTAINER_SCRIPTS or text.startswith("#!")
        members[f"DEBIAN/{script}"] = text if plain else f"#!/bin/sh\nset -e\n{text}\n"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}_{version.split(':', 1)[-1]}_{arch}.deb"
    # The same one in each test's repository is built once by each process.
    made = _made() / hashlib.sha256(repr((sorted(members.items()), mtime)).encode()).hexdigest()
    if not made.exists():
        _build_deb(made, members, mtime)
    try:
        target.unlink(missing_ok=True)
        os.link(made, target)
    except OSError:  # another file system, or fs.protected_hardlinks
        shutil.copy2(made, target)
    return target


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="debs-", dir=tempfile.gettempdir()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build_deb(target: Path, members: Mapping[str, str | bytes], mtime: int) -> None:
    with tempfile.TemporaryDirectory(prefix=".deb-", dir=target.parent) as temporary:
        tree, built = Path(temporary, "tree"), Path(temporary, "built.deb")
        for path, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        for item in (tree, *tree.rglob("*")):  # the umask has no say in the bytes
            executable = item.is_dir() or item.read_bytes().startswith(b"#!")
            item.chmod(0o755 if executable else 0o644)
        _run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, built],
            env={"SOURCE_DATE_EPOCH": str(mtime)},
        )
        built.replace(target)


@dataclass(frozen=True, kw_only=True)
class _Stanza:
    package: str
    version: str
    arch: str
    text: str  # without Filename


# Of every .deb seen in this process. Hard links share the key: a new Repository of known .debs
# hashes nothing.
_stanzas: dict[tuple[int, int, int, int], _Stanza] = {}


def _stanza(deb: Path) -> _Stanza:
    stat = deb.stat()
    key = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _stanzas:
        control = _run(["dpkg-deb", "--field", deb]).decode().rstrip("\n")
        fields = dict(
            re.findall(r"^(Package|Version|Architecture):\s*(\S+)", control, re.MULTILINE)
        )
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        _stanzas[key] = _Stanza(
            package=fields["Package"],
            version=fields["Version"],
            arch=fields["Architecture"],
            text=f"{control}\nSize: {stat.st_size}\nSHA256: {sha256}\n",
        )
    return _stanzas[key]


def _read_stanzas(debs: Sequence[Path]) -> list[tuple[Path, _Stanza]]:
    with ThreadPoolExecutor() as pool:
        return list(zip(debs, pool.map(_stanza, debs), strict=True))


# --- signing ----------------------------------------------------------------------------------


class SigningKey:
    """An ed25519 key without passphrase; its gpg-agent ends with `close`, the object or Python."""

    def __init__(self, name: str = "Strata Test") -> None:
        # Not below tmp_path: the path of the agent's socket may have 107 characters.
        self.home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
        self.close = weakref.finalize(self, _remove_gpg_home, self.home, os.getpid())
        self._gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
        listing = self._gpg("--with-colons", "--list-keys").decode()
        self.fingerprint = re.findall(r"^fpr:+(\w+):", listing, re.MULTILINE)[0]

    def _gpg(self, *args: str, stdin: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty"]
        return _run([*argv, "--no-auto-check-trustdb", *args], stdin=stdin)

    def sign(self, release: bytes) -> tuple[bytes, bytes]:
        """Return (InRelease, Release.gpg) of the text of a Release."""
        with ThreadPoolExecutor() as pool:
            inline = pool.submit(self._gpg, "--clearsign", stdin=release)
            detached = pool.submit(self._gpg, "--armor", "--detach-sign", stdin=release)
            return inline.result(), detached.result()

    def export(self, path: Path) -> None:
        """Write the public key, a binary keyring as Signed-By takes it (*.gpg)."""
        _write(path, self._gpg("--export", self.fingerprint))


def _remove_gpg_home(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not at the exit of a fork
        for verb in (["--kill", "all"], ["--remove-socketdir"]):
            subprocess.run(["gpgconf", "--homedir", home, *verb], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


@functools.cache
def session_key() -> SigningKey:
    """The key which every Repository has that asks for no other."""
    return SigningKey()


# --- the repository ---------------------------------------------------------------------------


def _write(path: Path, data: bytes, mtime: int | None = None) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    if mtime is not None:
        os.utime(temporary, (mtime, mtime))
    temporary.replace(path)


class Repository:
    """One suite with one component in `root`; what is in the pool is what gets published.

    Attributes may be set between two publishes (`key=None`: unsigned). `flat` puts the index files
    into `root` itself, and the suite is then "./". Repositories of several suites may share a root.
    """

    def __init__(
        self,
        root: Path,
        *,
        suite: str = "stable",
        codename: str = "teststable",
        component: str = "main",
        origin: str = "Strata Test",
        label: str = "Strata Test",
        version: str = "1",
        arch: str = "amd64",
        flat: bool = False,
        key: SigningKey | EllipsisType | None = ...,  # ...: session_key()
        valid_until: datetime | None = None,
        inrelease: bool = True,
        by_hash: bool = False,
    ) -> None:
        self.by_hash = by_hash
        self.root = root.absolute()
        self.suite = "./" if flat else suite
        self.codename, self.component, self.arch, self.flat = codename, component, arch, flat
        self.origin, self.label, self.version = origin, label, version
        self.key = session_key() if isinstance(key, EllipsisType) else key
        self.valid_until, self.inrelease = valid_until, inrelease
        self.changelogs = ""  # the Release's field
        self.dist = self.root if flat else self.root / "dists" / suite
        self.pool = self.root / "pool" / ("" if flat else f"{suite}/{component}")
        self.pool.mkdir(parents=True, exist_ok=True)

    @property
    def keyring(self) -> Path:
        """The public half of `key`; another key has another file."""
        if self.key is None:
            raise ValueError(f"{self.root}: an unsigned repository has no keyring")
        path = self.root / f"{self.key.fingerprint}.gpg"
        if not path.exists():
            self.key.export(path)
        return path

    def source(self, url: str, *options: str) -> str:
        """Return the one-line entry of sources.list for a server of `root` at `url`."""
        signed = [f"signed-by={self.keyring}"] if self.key else []
        bracket = f"[{' '.join([*signed, *options])}] " if signed or options else ""
        return f"deb {bracket}{url} {self.suite} {'' if self.flat else self.component}".rstrip()

    def add(self, *debs: Path) -> None:
        """Hard-link .debs into the pool under the names a pool gives them (no epoch, no %3a).

        Never write into a file of the pool, it is the caller's as well: a Fault changes bytes.
        """
        for deb, stanza in _read_stanzas(debs):
            name = f"{stanza.package}_{stanza.version.split(':', 1)[-1]}_{stanza.arch}.deb"
            temporary = self.pool / f".{name}.new"
            temporary.unlink(missing_ok=True)  # left by a crash
            try:
                os.link(deb, temporary)
            except OSError:  # another file system, or fs.protected_hardlinks
                shutil.copy2(deb, temporary)
            temporary.replace(self.pool / name)
            temporary.unlink(missing_ok=True)  # rename(2) of two links to one file does nothing

    def remove(self, package: str, version: str | None = None) -> None:
        """Delete a package from the pool at once; LookupError if there is none such."""
        found = [
            deb
            for deb, stanza in _read_stanzas(self._debs())
            if stanza.package == package and version in (None, stanza.version)
        ]
        if not found:
            raise LookupError(f"{self.pool}: no package {package} {version or ''}")
        for deb in found:
            deb.unlink()

    def publish(self) -> None:
        """Write Packages, then Release and its signatures, each whole and at least 10 s newer."""
        stamp = self._next_stamp()
        folder = "" if self.flat else f"{self.component}/binary-{self.arch}/"
        packages = self._packages().encode()
        indexes = {
            f"{folder}Packages": packages,
            f"{folder}Packages.gz": gzip.compress(packages, 1, mtime=0),
            f"{folder}Packages.xz": lzma.compress(packages, preset=0),
        }
        release = self._release(stamp, indexes).encode()
        (self.dist / folder).mkdir(parents=True, exist_ok=True)
        for path, data in indexes.items():
            _write(self.dist / path, data, stamp)
            if self.by_hash:
                named = (self.dist / path).parent / "by-hash/SHA256"
                named.mkdir(parents=True, exist_ok=True)
                _write(named / hashlib.sha256(data).hexdigest(), data, stamp)
        inline, detached = self.key.sign(release) if self.key else (None, None)
        files = {
            "Release.gpg": detached,
            "Release": release,
            "InRelease": inline if self.inrelease else None,
        }
        for name, content in files.items():
            if content is None:
                (self.dist / name).unlink(missing_ok=True)
            else:
                _write(self.dist / name, content, stamp)
        alias = self.root / "dists" / self.codename
        if not self.flat and not alias.exists():
            alias.symlink_to(os.path.relpath(self.dist, alias.parent))

    def _debs(self) -> list[Path]:
        return sorted(self.pool.rglob("[!.]*.deb"))

    def _next_stamp(self) -> int:
        # HTTP dates count seconds, publishes may not wait for one. They start a day ago because
        # apt refuses a Release whose Date is to come, as well as one older than it has.
        with suppress(FileNotFoundError):
            return int((self.dist / "Release").stat().st_mtime) + 10
        return int(time.time()) - 86_400

    def _packages(self) -> str:
        dot = "./" if self.flat else ""
        return "\n".join(
            f"{stanza.text}Filename: {dot}{deb.relative_to(self.root)}\n"
            for deb, stanza in _read_stanzas(self._debs())
            if stanza.arch in ("all", self.arch)
        )

    def _release(self, stamp: int, indexes: Mapping[str, bytes]) -> str:
        until = self.valid_until and _release_date(self.valid_until.timestamp())
        fields = {
            "Origin": self.origin,
            "Label": self.label,
            "Suite": None if self.flat else self.suite,
            "Version": self.version,
            "Codename": None if self.flat else self.codename,
            "Date": _release_date(stamp),
            "Valid-Until": until,
            "Acquire-By-Hash": "yes" if self.by_hash else None,
            "Architectures": self.arch,
            "Changelogs": self.changelogs,
            "Components": None if self.flat else self.component,
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if value]
        sums = [
            f" {hashlib.sha256(data).hexdigest()} {len(data):8} {path}"
            for path, data in indexes.items()
        ]
        return "\n".join([*lines, "SHA256:", *sums, ""])


def _release_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True).replace("GMT", "UTC")


# --- the server -------------------------------------------------------------------------------


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


# --- apt --------------------------------------------------------------------------------------


def apt_environment(folder: Path, *sources: str, arch: str = "amd64") -> dict[str, str]:
    """Return the environment of an apt that knows only `folder` and these sources.list lines."""
    state = ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial")
    for path in (*state, "var/log/apt"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path in ("apt.conf", "preferences", "sources.list", "trusted.gpg"):
        (folder / "etc/apt" / f"{path}.d").mkdir(exist_ok=True)
    (folder / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
    (folder / "status").touch()
    config = {
        "Dir": folder.absolute(),
        "Dir::State::status": folder.absolute() / "status",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::http::Proxy::127.0.0.1": "DIRECT",
        "Debug::NoLocking": "true",
    }
    (folder / "private.conf").write_text("".join(f'{k} "{v}";\n' for k, v in config.items()))
    return {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(folder / "private.conf")}


def host_mirror() -> str:
    """Return STRATA_MIRROR, or the Debian archive that this host installs from."""
    if mirror := os.environ.get("STRATA_MIRROR"):
        return mirror
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.[ls]*"))]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    entry = r"^(?:URIs:|deb(?:[ \t]+\[[^\]]*\])?)[ \t]+(https?://\S+/debian)/?(?=\s|$)"
    found: list[str] = re.findall(entry, text, re.MULTILINE)
    if not found:
        raise RuntimeError(f"{etc}: no http source ends in /debian; set STRATA_MIRROR")
    # A vendor's archive may end in /debian as well, below some other folder.
    return min(found, key=lambda url: urlsplit(url).path != "/debian")


def real_debs(
    cache: Path, names: Sequence[str], *, suite: str = "bookworm", arch: str = "amd64"
) -> list[Path]:
    """Return the .debs of `names` (packages, or patterns as ?essential) and all they depend on.

    `cache` keeps them, and a list of each closure: the network is needed once. Do not change them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    closure = hashlib.sha256("\0".join([arch, *sorted(names)]).encode()).hexdigest()[:16]
    marker, debs = cache / f"{suite}-{closure}", cache / "debs"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
            source = f"deb [signed-by={keyring}] {host_mirror()} {suite} main"
            env = apt_environment(cache / f"apt-{suite}-{arch}", source, arch=arch)
            (debs / "partial").mkdir(parents=True, exist_ok=True)
            _run(["apt-get", "update", "--error-on=any"], env=env)
            install = ["apt-get", "install", "--yes", *names]
            # into the empty archives, to see also what is in the cache already
            uris = _run([*install, "--print-uris"], env=env).decode()
            found = re.findall(r"^'[^']+' (\S+\.deb) ", uris, re.MULTILINE)
            _run([*install, "--download-only", "-o", f"Dir::Cache::archives={debs}"], env=env)
            _write(marker, "".join(f"{name}\n" for name in sorted(found)).encode())
    return [debs / name for name in marker.read_text().split()]
