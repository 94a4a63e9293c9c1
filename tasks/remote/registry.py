"""A shared cache in a registry, which a team has for its containers: OCI's distribution API.

    tag <record's name> ─→ manifest ─→ config: the record     tag debs-<name> ─→ manifest
                                    └─→ layers: its files                          └─→ layers: .debs

A registry keeps of blobs just those that a manifest names; so the manifest is what is pushed last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from urllib3.response import BaseHTTPResponse

from ..host import strict
from .backend import RECORD_LIMIT, Blob, Meter, RemoteFault, Unusable, blocks
from .login import Challenge, Login, Token, challenges, login, token, token_request
from .web import Web, arriving, basic, bearer, bounded, loopback, origin, place

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
RECORD = "application/vnd.strata.record.v1+json"
FILE = "application/vnd.strata.file.v1"
DEBS = "application/vnd.strata.debs.v1"
DEB = "application/vnd.debian.binary-package"
EMPTY = "application/vnd.oci.empty.v1+json"
NOTHING = b"{}"

NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
"""A repository's name (OCI distribution 1.1, "Pulling manifests")."""


class Registry(Web):
    """`oci://registry.example.org/team/strata`, `oci+http://` without TLS.

    This host's own registry is spoken to without TLS, as docker does.
    """

    def __init__(self, address: str, patience: float) -> None:
        parts = urlsplit(address)
        self.repository = parts.path.strip("/")
        try:
            good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good or not re.fullmatch(NAME, self.repository) or "?" in address or "#" in address:
            raise RemoteFault(
                f"expected {parts.scheme}://HOST[:PORT]/NAME, the name in small letters"
            )
        self.place = place(parts)
        plain = parts.scheme == "oci+http" or loopback(parts.hostname or "")
        super().__init__(f"{'http' if plain else 'https'}://{self.place}", patience, {})
        self.shown = f"{parts.scheme}://{self.place}/{self.repository}"
        self.path = f"/v2/{self.repository}"
        self._stated = parts
        self._login: Login | None = None
        self._asked_login = False
        self._basic = False
        self._token: Token | None = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------ records and files

    def record(self, name: str) -> bytes | None:
        """The record that a tag's manifest has as its config; Unusable where it has none."""
        accept = {"Accept": MANIFEST}
        with self.asked("GET", f"{self.path}/manifests/{tag(name)}", headers=accept) as response:
            if response.status == 404:
                return None
            self.check(response, 200)
            raw = bounded(arriving(response), self.patience)
        digest, size = described(raw)
        with self.asked("GET", f"{self.path}/blobs/sha256:{digest}") as response:
            if response.status == 404:
                raise Unusable("its manifest is there, and its record is not")
            self.check(response, 200)
            found = bounded(arriving(response), self.patience)
        if len(found) != size or hashlib.sha256(found).hexdigest() != digest:
            raise Unusable("its record is not what its manifest says")
        return found

    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        """Write a record, its manifest last.

        The API has no condition, so the first one wins only as far as it was there when we looked:
        of two that write within the same moment the last one does, and both are whole.
        """
        if not replace:
            path = f"{self.path}/manifests/{tag(name)}"
            with self.asked("HEAD", path, headers={"Accept": MANIFEST}) as response:
                if response.status == 200:
                    return False
                self.check(response, 404)
        # An artifact of nothing but its config has an empty layer (OCI image 1.1, "Guidance").
        nothing = Blob(sha256=hashlib.sha256(NOTHING).hexdigest(), size=len(NOTHING))
        layers = [(FILE, one) for one in files] or [(EMPTY, nothing)]
        parts = [data] if files else [data, NOTHING]
        self._put_manifest(tag(name), parts, manifest(RECORD, (RECORD, data), layers))
        return True

    def keep(self, name: str, files: Sequence[Blob]) -> None:
        body = manifest(DEBS, (EMPTY, NOTHING), [(DEB, one) for one in files])
        path, headers = f"{self.path}/manifests/debs-{tag(name)}", {"Accept": MANIFEST}
        with self.asked("HEAD", path, headers=headers) as response:
            there = response.headers.get("Docker-Content-Digest", "")
            if response.status == 200 and there == f"sha256:{hashlib.sha256(body).hexdigest()}":
                return
        self._put_manifest(f"debs-{tag(name)}", [NOTHING], body)

    def size(self, sha256: str) -> int | None:
        return self.sized(f"{self.path}/blobs/sha256:{sha256}")

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        yield from self.ranged(f"{self.path}/blobs/sha256:{sha256}", start)

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        self._put_blob(blob.sha256, blob.size, blocks(source, Meter(self.patience)))

    def _put_blob(self, sha256: str, size: int, body: Any) -> None:
        path = f"{self.path}/blobs/uploads/"
        with self.asked("POST", path, body=b"") as response:
            self.check(response, 202)
            url = self._elsewhere(path, response.headers.get("Location", ""))
            url += f"{'&' if urlsplit(url).query else '?'}digest=sha256:{sha256}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self.once("PUT", url, headers, body) as response:
            self.check(response, 201, 204)

    def _elsewhere(self, path: str, location: str) -> str:
        """The address to which a registry sends us on; RemoteFault where it is none."""
        try:
            found = urljoin(self.url + path, location)
            good = urlsplit(found).scheme in ("http", "https") and urlsplit(found).port != 0
        except ValueError:
            good = False
        if not good:
            raise RemoteFault("it names no place for an upload")
        return found

    def _put_manifest(self, name: str, parts: Sequence[bytes], body: bytes) -> None:
        """Push a manifest, after those of its blobs that are no files."""
        for part in parts:
            digest = hashlib.sha256(part).hexdigest()
            if self.size(digest) != len(part):
                self._put_blob(digest, len(part), part)
        headers = {"Content-Type": MANIFEST}
        with self.asked(
            "PUT", f"{self.path}/manifests/{name}", headers=headers, body=body
        ) as answer:
            self.check(answer, 200, 201, 202)

    # ------------------------------------------------------------ who asks

    @contextlib.contextmanager
    def asked(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Iterator[BaseHTTPResponse]:
        """The answer to a request; where the registry asks who we are, to the next one.

        So `body` has to be one that can be sent twice.
        """
        used = self._token, self._basic
        with self.once(method, self.url + path, headers or {}, body) as response:
            if response.status != 401:
                yield response
                return
            asked = challenges(", ".join(response.headers.getlist("WWW-Authenticate")))
        self._log_in(asked, used)
        with self.once(method, self.url + path, headers or {}, body) as response:
            yield response

    @contextlib.contextmanager
    def once(
        self, method: str, url: str, headers: Mapping[str, str], body: Any
    ) -> Iterator[BaseHTTPResponse]:
        """The answer to one request; who we are is told to the registry, and to nobody else."""
        ours = {**self.headers, **headers}
        if origin(url) == origin(self.url):
            ours |= self._authorization()
        with self.sent(method, url, ours, body) as response:
            yield response

    def _authorization(self) -> dict[str, str]:
        if self._token is not None:
            return bearer(self._token.text, "the registry's token")
        if self._basic and self._login is not None:
            return basic(self._login.user, self._login.password)
        return {}

    def _log_in(self, asked: Sequence[Challenge], used: tuple[Token | None, bool]) -> None:
        """Be somebody: RemoteFault where the registry wants what we have not."""
        with self._lock:
            if (self._token, self._basic) != used:
                return  # another thread has been here meanwhile
            if not self._asked_login:
                self._login, self._asked_login = self._known(), True
            for one in asked:
                if one.scheme == "bearer":
                    self._token = self._fetched(one)
                    return
            if self._login is None or not any(one.scheme == "basic" for one in asked):
                raise RemoteFault("it wants credentials: docker login")
            if self._basic:
                raise RemoteFault("it wants other credentials (HTTP 401)")
            self._basic = True

    def _known(self) -> Login | None:
        if self._stated.username is not None:
            return Login(unquote(self._stated.username), unquote(self._stated.password or ""))
        return login(self.place)

    def _fetched(self, challenge: Challenge) -> Token:
        if self._token is not None and time.monotonic() < self._token.until:
            self._token = None
            raise RemoteFault("it wants other credentials (HTTP 401)")
        scope = f"repository:{self.repository}:{'pull,push' if self.writing else 'pull'}"
        near = loopback(self._stated.hostname or "")
        method, url, headers, body = token_request(challenge, scope, self._login, near=near)
        with self.sent(method, url, {**self.headers, **headers}, body) as response:
            if response.status in (401, 403):
                raise RemoteFault(
                    f"its token server wants other credentials (HTTP {response.status})"
                )
            self.check(response, 200)
            return token(bounded(arriving(response), self.patience))


def tag(name: str) -> str:
    """A record's name as a tag, which it is already: <kind>-<key>."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:122]


def manifest(kind: str, config: tuple[str, bytes], layers: Sequence[tuple[str, Blob]]) -> bytes:
    """An artifact of OCI 1.1 with this config and these files, each with its media type."""
    media, data = config
    found = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": descriptor(media, hashlib.sha256(data).hexdigest(), len(data)),
        "layers": [descriptor(media, one.sha256, one.size) for media, one in layers],
    }
    return json.dumps(found, separators=(",", ":")).encode("ascii")


def descriptor(media: str, sha256: str, size: int) -> dict[str, Any]:
    """How a manifest names a blob."""
    return {"mediaType": media, "digest": f"sha256:{sha256}", "size": size}


def described(raw: bytes) -> tuple[str, int]:
    """SHA-256 and size of the record that a manifest names; Unusable for what names none."""
    try:
        if len(raw) > RECORD_LIMIT:
            raise strict.Damaged(f"it has more than {RECORD_LIMIT} bytes")
        config = strict.mapping(strict.field(strict.parse(raw), "config"), "its config")
        media = strict.text(config, "mediaType")
        if media != RECORD:
            raise strict.Damaged("its config is no record of Strata's")
        digest = strict.text(config, "digest", f"sha256:{strict.SHA256}")
        return digest.partition(":")[2], strict.number(config, "size", RECORD_LIMIT)
    except ValueError as error:
        raise Unusable(f"its manifest is malformed: {error}") from error
