"""A shared cache in a bucket: S3 and what speaks it, Google's and Azure's, through obstore.

Who we are, where the server is and all else that object_store(3rs) knows is in the environment:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_…, AZURE_….
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ..errors import BuildError
from ..host import patience as limits
from ..host.process import POLL, check_signal
from . import names
from .backend import Backend, Blob, Cut, Meter, Missing, RemoteFault, Silent, blocks, plain
from .web import AGENT, FAILED, MEANINGS, bounded, loopback

PART = 5 << 20
"""Bytes that are sent at a time, and held meanwhile: the least that S3 takes as a part."""

PARTS = 9000
"""Parts of a file; S3 takes 10,000."""

AT_ONCE = 2
"""Parts of a file that are on their way at a time."""

METADATA = ("latest/api/token", "latest/meta-data", "computeMetadata/", "metadata/identity")
"""Where a cloud's own machines ask who they are, when nobody has said it."""

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


CONNECT = 10.0
"""Seconds within which a server has to be reached, if patience is no less."""


class Waiting:
    """For what is waited, and since when nothing came: obstore's errors do not tell it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.came()

    def came(self) -> None:
        """Something moved."""
        self.since = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing moved for so long that it was given up."""
        return time.monotonic() - self.since >= self.seconds


class Objects(Backend):
    """`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`."""

    def __init__(self, address: str, patience: float) -> None:
        parts = urlsplit(address)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", parts.netloc) or "?" in address:
            raise RemoteFault(f"expected {parts.scheme}://BUCKET[/PREFIX]")
        try:
            import obstore
        except ImportError:
            raise BuildError(
                f"cache={parts.scheme}://{parts.netloc}: buckets need the Python package obstore",
                f"{sys.executable} -m pip install 'obstore>=0.5', which strata[s3] names, too",
            ) from None
        self.api: Any = obstore
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.shown = self.url
        self.patience = patience
        self.plain = _plain_http()

    @cached_property
    def _short(self) -> Any:
        """For what is a moment's work as a whole."""
        return self._store(timeout=timedelta(seconds=self.patience))

    @cached_property
    def _stream(self) -> Any:
        """For files that come: only each wait is bounded, and `Meter` looks at the rest."""
        return self._store(read_timeout=timedelta(seconds=self.patience), timeout=timedelta(days=7))

    @cached_property
    def _parts(self) -> Any:
        """For parts of files that go, as slow as SLOWEST at the usual patience."""
        return self._store(timeout=timedelta(seconds=5 * self.patience))

    def _store(self, **client: Any) -> Any:
        from obstore.store import from_url

        options = {
            "connect_timeout": timedelta(seconds=min(CONNECT, self.patience)),
            "user_agent": AGENT,
            "allow_http": self.plain,
            **client,
        }
        retries = {
            "max_retries": min(2, limits.retries()),
            "retry_timeout": timedelta(seconds=self.patience),
        }
        with self._told():
            return from_url(self.url, client_options=options, retry_config=retries)  # type: ignore[call-overload]

    def record(self, name: str) -> bytes | None:
        try:
            with self._told():
                path = names.record(name)
                found = _waited(lambda: self.api.get_async(self._short, path))
                return bounded(found.stream(min_chunk_size=1), self.patience)
        except Missing:
            return None

    def put_record(
        self, name: str, data: bytes, files: Sequence[Blob], *, replace: bool = False
    ) -> bool:
        from obstore import exceptions

        mode = "overwrite" if replace else "create"
        with self._told():
            path = names.record(name)
            options: dict[str, Any] = {"mode": mode, "use_multipart": False}
            try:
                _waited(lambda: self.api.put_async(self._short, path, data, **options))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return False
        return True

    def size(self, sha256: str) -> int | None:
        try:
            with self._told():
                path = names.file(sha256)
                return int(_waited(lambda: self.api.head_async(self._short, path))["size"])
        except Missing:
            return None

    def chunks(self, sha256: str, start: int) -> Iterator[bytes]:
        meter = Meter(self.patience)
        options = {"range": {"offset": start}} if start else None
        with self._told() as waiting:
            path = names.file(sha256)
            found = _waited(lambda: self.api.get_async(self._stream, path, options=options))
            for block in found.stream(min_chunk_size=1):
                meter.moved(len(block))
                yield block
                waiting.came()

    def put_file(self, blob: Blob, source: BinaryIO) -> None:
        path = names.file(blob.sha256)

        def moving() -> Iterator[bytes]:
            for block in blocks(source, Meter(5 * self.patience)):
                waiting.came()
                yield block

        if blob.size <= PART:
            data: Any = source.read()
            options: dict[str, Any] = {"use_multipart": False}
        else:
            data = moving()
            options = {
                "use_multipart": True,
                "chunk_size": max(PART, blob.size // PARTS),
                "max_concurrency": AT_ONCE,
            }
        with self._told(5 * self.patience) as waiting:
            _waited(lambda: self.api.put_async(self._parts, path, data, **options))

    @contextlib.contextmanager
    def _told(self, seconds: float | None = None) -> Iterator[Waiting]:
        """Its errors as ours, in few words: its own hold addresses, and those may hold secrets.

        What ends after so many `seconds` in which nothing moved was silence; else it was cut off.
        """
        from obstore import exceptions

        # While a file comes, nothing within the library hears of a signal: of each wait for the
        # next block, its own timeout bounds what that costs.
        check_signal()
        waiting = Waiting(seconds or min(CONNECT, self.patience))
        try:
            yield waiting
        except FileNotFoundError as error:
            raise Missing("there is no such file, or no such bucket") from error
        except exceptions.UnauthenticatedError as error:
            raise RemoteFault(MEANINGS[401]) from error
        except exceptions.PermissionDeniedError as error:
            raise RemoteFault(MEANINGS[403]) from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            kind = RemoteFault
            if isinstance(error, (exceptions.GenericError, OSError)):
                kind = Silent if waiting.over else Cut
            raise kind(_said(str(error))) from error
        except BaseException as error:
            # What the library did not expect: no Exception, so that nobody overlooks it.
            if type(error).__name__ != "PanicException":
                raise
            raise RemoteFault("obstore failed in itself") from error


def _waited(work: Callable[[], Awaitable[Any]]) -> Any:
    """The result of what the library does by itself; a signal ends it in the middle of a part."""

    async def watched() -> Any:
        task = asyncio.ensure_future(work())
        while not task.done():
            await asyncio.wait([task], timeout=POLL)
            check_signal()
        return task.result()

    return asyncio.run(watched())


def _said(text: str) -> str:
    """The cause in what obstore says, which is Rust's description of it; never all of it."""
    if any(f"/{part}" in text for part in METADATA):
        return "it wants credentials, and the environment has none"
    if status := re.search(r"status code: ([0-9]{3})", text):
        number = int(status[1])
        return f"{MEANINGS.get(number, FAILED)} (HTTP {number})"
    for part, meaning in (
        ("BadScheme", "its address is http://, which AWS_ALLOW_HTTP=true permits"),
        ("TimedOut", "no answer in time"),
        ("IncompleteMessage", "it hung up"),
        ("IncompleteBody", "it hung up in the middle"),
        ("dns error", "its name is not known"),
        ("Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
    ):
        if part in text:
            return meaning
    cause = re.search(r'message: "([^"\n]{1,80})"', text)
    return plain(cause[1]) if cause else "no answer that can be used"


def _plain_http() -> bool:
    """Whether http:// will do: where the user says so, or on this host."""
    for name in ENDPOINTS:
        if address := os.environ.get(name):
            parts = names.server(address)
            if parts is None or parts.username is not None:
                raise RemoteFault(f"{name}: expected https://HOST[:PORT]")
            if parts.scheme == "http" and loopback(parts.hostname or ""):
                return True
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
