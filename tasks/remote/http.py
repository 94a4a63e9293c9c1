"""A shared cache on a web server: GET, HEAD and PUT, as nginx's and bazel-remote have them."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from . import names
from .backend import Blob, Meter, blocks
from .web import Web, arriving, basic, bearer, bounded, length, place

TOKEN = "STRATA_REMOTE_TOKEN"  # noqa: S105 - its name
"""Names the variable with a bearer token (RFC 6750) for servers that want one."""


class Http(Web):
    """`https://cache.example.org/strata`, with `user:password@` if it is to be."""

    def __init__(self, address: str, patience: float) -> None:
        parts = urlsplit(address)
        url = f"{parts.scheme}://{place(parts)}{parts.path.rstrip('/')}"
        super().__init__(url, patience, credentials(parts))

    def record(self, name: str) -> bytes | None:
        with self.asked("GET", f"/{names.record(name)}") as response:
            if response.status == 404:
                return None
            self.check(response, 200)
            return bounded(arriving(response), self.patience)

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

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        meter = Meter(self.patience)
        path = f"/{names.file(blob.sha256)}"
        headers = {"Content-Length": str(blob.size)}
        with self.asked("PUT", path, headers=headers, body=blocks(source, meter)) as response:
            self.check(response, 200, 201, 202, 204)


def credentials(parts: SplitResult) -> dict[str, str]:
    """Who we are to a server: by its address, else netrc(5), else the token."""
    if parts.username is not None:
        return basic(unquote(parts.username), unquote(parts.password or ""))
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        found = None
    if found is not None:
        return basic(found[0], found[2] or "")
    if token := os.environ.get(TOKEN):
        return bearer(token, TOKEN)
    return {}
