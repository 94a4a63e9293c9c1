"""A shared cache of each kind, on servers that a process of the tests starts once."""

from __future__ import annotations

import contextlib
import functools
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support import servers
from support.faulty import Proxy, proxied
from support.world import Build, World
from tasks.remote.backend import Backend
from tasks.remote.configured import SCHEMES

KINDS = ("folder", "http", "s3", "oci")

SERVED = KINDS[1:]


@dataclass
class Place:
    """One empty shared cache: its address, and what the environment has for it."""

    kind: str
    address: str
    env: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    proxy: Proxy | None = None

    def opened(self, *, writing: bool = True, patience: float = 2) -> Backend:
        """As Strata opens it, with this environment."""
        with environment(**self.env):
            backend = SCHEMES[self.address.partition("://")[0]](self.address, patience)
            backend.writing = writing
            if self.kind == "s3":  # which looks at the environment when it is first used
                for name in ("_short", "_stream", "_parts"):
                    getattr(backend, name)
        return backend


@contextlib.contextmanager
def environment(**env: str) -> Iterator[None]:
    """Variables, as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield


class Servers:
    """What is started so far, each with a proxy before it."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.root = Path(self.stack.enter_context(TemporaryDirectory(prefix="strata-servers-")))

    @functools.cache  # noqa: B019 - it lives as long as the process
    def proxy(self, kind: str) -> Proxy:
        """The proxy before the server of this kind."""
        start = {"http": servers.nginx, "s3": servers.s3, "oci": servers.docker_registry}[kind]
        url = self.stack.enter_context(start(self.root / kind))
        return self.stack.enter_context(proxied(url))

    def place(self, kind: str, *, direct: bool = False) -> Place:
        """An empty cache of this kind; `direct`: not by way of the proxy."""
        name = f"c{uuid.uuid4().hex[:12]}"
        if kind == "folder":
            folder = self.root / name
            return Place(kind, f"file://{folder}", folder=folder)
        proxy = self.proxy(kind)
        proxy.clear()
        url = proxy.upstream if direct else proxy.url
        if kind == "http":
            return Place(kind, f"{url}/{name}", folder=self.root / "http/files" / name, proxy=proxy)
        if kind == "oci":
            return Place(kind, f"oci://{url.partition('://')[2]}/team/{name}", proxy=proxy)
        env = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "AKIDci", "AWS_REGION": "us-east-1",
               "AWS_SECRET_ACCESS_KEY": servers.PASSWORD}  # fmt: skip
        return Place(kind, f"s3://{servers.BUCKET}/{name}", env, proxy=proxy)


@functools.cache
def shared_servers() -> Servers:
    """Those of this process."""
    return Servers()


def close() -> None:
    """End them."""
    if shared_servers.cache_info().currsize:
        shared_servers().stack.close()


@dataclass
class Team:
    """A checkout that has built, whose lock and images the others' are to be; and who they are."""

    first: World
    count: int = 0

    @functools.cached_property
    def key(self) -> tuple[str, str]:
        """The path of a secret key, and the public line."""
        line = self.first.doit("keygen", "name=ci").out.strip()
        return str(self.first.root / "ci.key"), line

    def clone(self) -> World:
        """A fresh checkout of it."""
        self.count += 1
        return self.first.clone(self.first.root.parent / f"clone-{self.count}")

    def fill(self, place: Place) -> None:
        """Send what was built."""
        env = {"STRATA_SIGNING_KEY": self.key[0], "STRATA_TIMEOUT": "20", **place.env}
        self.first.doit("push", "spec=web", f"cache={place.address}", check=True, **env)

    def build(self, place: Place, *words: str) -> tuple[World, Build]:
        """Build in a fresh checkout, with this shared cache."""
        world = self.clone()
        words = ("build", "spec=web", "lock=frozen", f"cache={place.address}", *words)
        done = world.doit(*words, check=True, STRATA_TRUSTED_KEYS=self.key[1], **place.env)
        assert world.outputs() == self.first.outputs()
        assert world.leftovers() == []
        return world, done


HELPER = """\
import hashlib, os, sys
from pathlib import Path
from tasks.remote.backend import Blob
from tasks.remote.configured import backends
(cache,) = backends(sys.argv[1])
cache.writing = True
path, stop = Path(sys.argv[2]), sys.argv[3]
sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if stop else sys.argv[4]
size = path.stat().st_size

class Source:
    def __init__(self, file): self.file, self.came = file, 0
    def read(self, size=-1):
        if stop == "file" and self.came >= 12 << 20:
            print("there", flush=True); sys.stdin.read()
        data = self.file.read(min(size, 1 << 20) if size > 0 else size)
        self.came += len(data)
        return data

def peak(): return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
cache.size(sha256)
before = peak()
with path.open("rb") as file:
    cache.put_file(Blob(sha256=sha256, size=size), Source(file) if stop else file)
if stop == "record":
    print("there", flush=True); sys.stdin.read()
digest = hashlib.sha256()
for block in cache.chunks(sha256, 0): digest.update(block)
assert digest.hexdigest() == sha256
print(peak() - before)
"""
"""Sends a file and gets it; stops where it is told to, to be killed there; prints how much memory it took."""


def helper_env(place: Place) -> dict[str, str]:
    """The environment for HELPER."""
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "STRATA_TIMEOUT": "20", **place.env, "PYTHONPATH": str(root)}
