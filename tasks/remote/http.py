"""A shared cache on a web server: GET, HEAD and PUT, as nginx's and bazel-remote have them."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from . import names
from .backend import Blob, Meter, RemoteFault, blocks
from .web import Web, arriving, basic, bearer, bounded, loopback, place

TOKEN = "STRATA_REMOTE_TOKEN"  # noqa: S105 - its name
"""Names the variable with a bearer token (RFC 6750) for servers that want one."""


class Http(Web):
    """`https://cache.example.org/strata`, with `user:password@` if it is to be.

    `first`: it is the one that the token of the environment is for.
    """

    def __init__(self, address: str, patience: float, *, first: bool = True) -> None:
        parts = urlsplit(address)
        url = f"{parts.scheme}://{place(parts)}{parts.path.rstrip('/')}"
        token = os.environ.get(TOKEN, "").strip() if first else ""
        super().__init__(url, patience, credentials(parts, token))

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
        return self.sized(f"/{names.file(sha256)}")

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        yield from self.ranged(f"/{names.file(sha256)}", start)

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        meter = Meter(self.patience)
        path = f"/{names.file(blob.sha256)}"
        headers = {"Content-Length": str(blob.size)}
        with self.asked("PUT", path, headers=headers, body=blocks(source, meter)) as response:
            self.check(response, 200, 201, 202, 204)


def credentials(parts: SplitResult, token: str) -> dict[str, str]:
    """Who we are to a server: by its address, its entry in netrc(5), the token, netrc's default.

    RemoteFault for a token that would go as plain text, and for a netrc that says nothing.
    """
    if parts.username is not None:
        return basic(unquote(parts.username), unquote(parts.password or ""))
    host = parts.hostname or ""
    known: netrc.netrc | None = None
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, netrc.NetrcParseError, UnicodeError) as error:
        if not token:
            raise RemoteFault(_netrc_fault(error)) from error
    if token and (known is None or host not in known.hosts):
        if parts.scheme != "https" and not loopback(host):
            raise RemoteFault(f"{TOKEN} would go there as plain text: https:// is wanted")
        return bearer(token, TOKEN)
    found = known.authenticators(host) if known is not None else None
    return basic(found[0], found[2] or "") if found is not None else {}


def _netrc_fault(error: Exception) -> str:
    """Why a netrc cannot be used; of what is in it nothing is said."""
    path = os.environ.get("NETRC") or "~/.netrc"
    if isinstance(error, OSError):
        return f"{path}: {error.strerror}"
    if isinstance(error, netrc.NetrcParseError) and error.filename is None:
        return f"{path}: it must be yours, and of mode 0600"
    line = f" (line {error.lineno})" if isinstance(error, netrc.NetrcParseError) else ""
    return f"{path}: it is no netrc(5){line}"
