"""Shared caches of each kind hold files and records, on real servers, and give them back."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import servers
from support.faulty import FILES, Fault, proxied
from support.remotes import HELPER, KINDS, SERVED, Place, environment, helper_env, shared_servers
from support.tally import TALLY
from support.world import says
from tasks.errors import BuildError
from tasks.host.tools import ENV
from tasks.remote import folder, names
from tasks.remote.backend import (
    RECORD_LIMIT,
    Backend,
    Blob,
    Cut,
    Missing,
    RemoteFault,
    Unusable,
)
from tasks.remote.configured import backends

pytestmark = pytest.mark.root

DATA = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(DATA).hexdigest()
BLOB = Blob(sha256=SHA256, size=len(DATA))
NAME = "base-" + "5" * 32
RECORD = b'{"format": 1}\n'


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_TIMEOUT", "1")
    monkeypatch.setenv("STRATA_RETRIES", "0")
    monkeypatch.delenv("STRATA_REMOTE_TOKEN", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    """An empty cache of each kind."""
    return shared_servers().place(request.param)


def put(cache: Backend) -> None:
    cache.put_file(BLOB, io.BytesIO(DATA))


def got(cache: Backend, start: int = 0) -> bytes:
    return b"".join(cache.chunks(SHA256, start))


def test_what_is_put_is_got(place: Place) -> None:
    cache = place.opened()
    assert cache.record(NAME) is None
    assert cache.size(SHA256) is None
    with pytest.raises(Missing):
        got(cache)
    put(cache)
    put(cache)  # as a second pusher does that looked before the first was done
    assert cache.size(SHA256) == len(DATA)
    for start in (0, 1, 70000, len(DATA) - 1):
        assert got(cache, start) == DATA[start:]
    assert cache.put_record(NAME, RECORD, [BLOB])
    assert cache.record(NAME) == RECORD
    cache.keep(NAME, [BLOB])
    assert cache.put_record("like-" + "6" * 32, b"{}", [])  # which names no file
    assert cache.record("like-" + "6" * 32) == b"{}"
    cache.close()
    assert place.opened(writing=False).record(NAME) == RECORD


def test_the_first_record_stays_unless_it_is_to_be_replaced(place: Place) -> None:
    cache = place.opened()
    put(cache)
    assert cache.put_record(NAME, RECORD, [BLOB])
    # nginx knows no condition: there it is Shared's earlier look that tells.
    assert cache.put_record(NAME, b"{}", [BLOB]) == (place.kind == "http")
    assert cache.record(NAME) == (b"{}" if place.kind == "http" else RECORD)
    assert cache.put_record(NAME, b'{"format": 2}', [BLOB], replace=True)
    assert cache.record(NAME) == b'{"format": 2}'


def test_of_a_long_record_no_more_than_its_bound_is_read(place: Place) -> None:
    cache = place.opened()
    put(cache)
    cache.put_record(NAME, b"x" * (RECORD_LIMIT * 3), [BLOB])
    if place.proxy:
        place.proxy.seen.clear()
    if place.kind == "oci":
        with pytest.raises(Unusable, match="malformed"):
            cache.record(NAME)
    else:
        assert len(cache.record(NAME) or b"") == RECORD_LIMIT + 1
    cache.put_record(NAME, b"x" * RECORD_LIMIT, [BLOB], replace=True)
    assert cache.record(NAME) == b"x" * RECORD_LIMIT


def test_of_two_pushers_at_once_one_is_seen_and_whole(place: Place) -> None:
    ours = [place.opened() for _ in range(4)]
    put(ours[0])
    texts = [f'{{"by": {number}}}'.encode() * 1000 for number in range(len(ours))]
    with ThreadPoolExecutor(len(ours)) as pool:
        first = list(pool.map(lambda one, text: one.put_record(NAME, text, [BLOB]), ours, texts))
    found = ours[0].record(NAME)
    assert found in texts
    if place.kind == "folder":  # moto's S3 looks and then writes, where S3 itself does both at once
        assert first.count(True) == 1
        assert found == texts[first.index(True)]
    else:
        assert any(first)


@pytest.mark.parametrize("where", ["file", pytest.param("record", marks=pytest.mark.nightly)])
def test_a_pusher_that_is_killed_leaves_nothing_half(
    place: Place, where: str, tmp_path: Path
) -> None:
    place = shared_servers().place(place.kind, direct=True)
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20) * 16)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with subprocess.Popen([sys.executable, "-c", HELPER, place.address, path, where], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=helper_env(place)) as pusher:  # fmt: skip
        assert pusher.stdout is not None
        assert pusher.stdout.readline() == "there\n"
        pusher.kill()
    TALLY["kills"] += 1
    cache = place.opened()
    assert cache.record(NAME) is None
    assert cache.size(sha256) == (None if where == "file" else 16 << 20)
    if place.folder and where == "file":
        assert list(place.folder.glob("*/*")) == []
    blob = Blob(sha256=sha256, size=16 << 20)
    with path.open("rb") as file:
        cache.put_file(blob, file)
    assert cache.put_record(NAME, RECORD, [blob])
    assert cache.size(sha256) == 16 << 20


@pytest.mark.parametrize("kind", [
    "http", "s3", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("folder", "oci"))
])  # fmt: skip
def test_a_large_file_passes_without_being_held(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(48 << 20)
    sha256 = subprocess.check_output(["sha256sum", path], text=True).split()[0]
    place = shared_servers().place(kind, direct=True)
    out = subprocess.check_output([sys.executable, "-c", HELPER, place.address, path, "", sha256],
                                  env=helper_env(place), text=True)  # fmt: skip
    assert int(out) < 32 << 20


# ---------------------------------------------------------------- faults


READING: dict[str, tuple[type[Exception], str]] = {
    "down": (Cut, "it hung up"), "silent": (Cut, "no answer in time"), "slow": (RemoteFault, "too slow"),
    "401": (RemoteFault, "it wants"), "403": (RemoteFault, "it refuses this"), "500": (Cut, "500"),
    "503": (Cut, "503"), "cut": (Cut, "in the middle"), "lying": (Cut, "in the middle"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SERVED)
def test_each_fault_of_a_server_is_told_in_few_words_and_bounded(kind: str) -> None:
    place = shared_servers().place(kind)
    calm, cache, proxy = place.opened(), place.opened(patience=0.8), place.proxy
    assert proxy is not None
    put(calm)
    calm.put_record(NAME, RECORD, [BLOB])
    for fault, (error, text) in READING.items():
        proxy.fault = Fault(fault, on=rf"GET .*({FILES})", after=70000)
        TALLY["network faults"] += 1
        began = time.monotonic()
        with pytest.raises(error) as caught:
            got(cache)
        assert time.monotonic() - began < 15, fault
        assert_plain(str(caught.value), text)
    for fault in ("down", "silent", "403", "500", "507"):
        proxy.fault = Fault(fault, on="PUT|POST")
        TALLY["network faults"] += 1
        with pytest.raises(RemoteFault) as caught:
            put(cache)
        assert_plain(str(caught.value), "it is full" if fault == "507" else "")
    for fault in ("slow", "silent", "403"):
        proxy.fault = Fault(fault)
        TALLY["network faults"] += 1
        with pytest.raises(RemoteFault) as caught:
            cache.record(NAME)
        assert_plain(str(caught.value))
    proxy.fault = Fault("404")
    assert calm.record(NAME) is None
    assert calm.size(SHA256) is None
    proxy.fault = None
    assert got(calm) == DATA


def assert_plain(text: str, *parts: str) -> None:
    """What is said of a fault: a few words, no secret."""
    says(text, *filter(None, parts))
    assert 5 < len(text) < 120, text
    assert "\n" not in text
    assert not re.search(rf"{servers.PASSWORD}|AKID|Authorization|://\w+:", text), text


@pytest.mark.parametrize("kind", SERVED)
def test_a_server_that_is_not_there(kind: str) -> None:
    place = shared_servers().place(kind)
    assert place.proxy is not None
    nobody = f"127.0.0.1:{servers.free_port()}"
    here = place.proxy.url.partition("://")[2]
    gone = Place(kind, place.address.replace(here, nobody),
                 {name: value.replace(here, nobody) for name, value in place.env.items()})  # fmt: skip
    cache = gone.opened()
    with pytest.raises(Cut) as caught:
        cache.record(NAME)
    assert_plain(str(caught.value), "refused")


def test_a_file_that_is_too_large_for_the_server(tmp_path: Path) -> None:
    with servers.nginx(tmp_path / "nginx", limit="100k") as url:
        (cache,) = backends(url)
        with pytest.raises(RemoteFault, match="too large"):
            put(cache)


def test_a_crawling_server_is_given_up(tmp_path: Path) -> None:
    with servers.nginx(tmp_path / "nginx", rate="8k") as url:
        (cache,) = backends(url)
        put(cache)
        began = time.monotonic()
        with pytest.raises(RemoteFault, match=r"too slow|no answer in time"):
            got(cache)
        assert time.monotonic() - began < 15


# ---------------------------------------------------------------- who asks


def test_a_web_server_is_told_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.nginx(tmp_path / "nginx", login=True) as url:
        place = url.partition("://")[2]
        user = f"{servers.USER}:{servers.PASSWORD}"
        (cache,) = backends(f"http://{user}@{place}")
        put(cache)
        assert got(cache) == DATA
        assert servers.PASSWORD not in cache.shown
        for wrong in (f"http://ci:wrong-1-secret@{place}", url):
            with pytest.raises(RemoteFault) as caught:
                put(backends(wrong)[0])
            assert_plain(str(caught.value), "it wants other credentials (HTTP 401)")
            assert "wrong-1" not in str(caught.value)
        (tmp_path / "netrc").write_text(
            f"machine 127.0.0.1 login {servers.USER} password {servers.PASSWORD}\n"
        )
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert got(backends(url)[0]) == DATA


def test_a_bearer_token_goes_to_the_server_and_not_where_it_redirects() -> None:
    place = shared_servers().place("http")
    proxy = place.proxy
    assert proxy is not None
    put(place.opened())
    proxy.token = "right-0-token"
    with proxied(proxy.upstream) as other, environment(STRATA_REMOTE_TOKEN="right-0-token\n"):
        cache = place.opened()
        assert got(cache) == DATA
        proxy.fault = Fault("redirect", on="GET", to=other.url.replace("127.0.0.1", "localhost"))
        assert got(cache) == DATA
        assert [one.headers.get("authorization") for one in other.seen] == [None]
    with (
        environment(STRATA_REMOTE_TOKEN="wrong-1-token"),
        pytest.raises(RemoteFault, match="it wants other credentials"),
    ):
        place.opened().size(SHA256)
    with environment(STRATA_REMOTE_TOKEN="wrong\n1-token"):
        with pytest.raises(BuildError, match="characters that no token has") as caught:
            backends(place.address)
        assert "1-token" not in str(caught.value)


def test_docker_s_login_is_the_registry_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    word = base64.b64encode(f"{servers.USER}:{servers.PASSWORD}".encode()).decode()
    wrong = base64.b64encode(b"ci:wrong-1-secret").decode()
    helper = tmp_path / "docker-credential-tested"
    helper.write_text(
        '#!/bin/sh\nread -r host\n[ "$host" = 127.0.0.1:$PORT ] || exit 1\n'
        f'echo \'{{"Username": "{servers.USER}", "Secret": "{servers.PASSWORD}"}}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setitem(ENV, "PATH", f"{tmp_path}:{ENV['PATH']}")
    with servers.docker_registry(tmp_path / "registry", login=True) as url:
        place = url.partition("://")[2]
        monkeypatch.setitem(ENV, "PORT", place.partition(":")[2])
        for config in (
            {"auths": {place: {"auth": word}}},
            {
                "auths": {
                    f"https://{place}/v1/": {"username": servers.USER, "password": servers.PASSWORD}
                }
            },
            {"credsStore": "tested"},
            {"auths": {place: {"auth": wrong}}, "credHelpers": {place: "tested"}},
        ):
            (tmp_path / "config.json").write_text(json.dumps(config))
            (cache,) = backends(f"oci://{place}/team/cache")
            with ThreadPoolExecutor(8) as pool:  # all of them learn at once who they are
                list(pool.map(cache.size, [SHA256] * 8))
            put(cache)
            assert got(cache) == DATA
        for config, text in (
            ({}, "it wants credentials: docker login"),
            ({"auths": {place: {"auth": wrong}}}, "it wants other credentials (HTTP 401)"),
            ({"auths": {place: {"auth": "%"}}}, "has an auth that is not base64"),
            ({"credsStore": "../x"}, "a credential helper that can be none"),
            ({"credsStore": "none-such"}, "no command docker-credential-none-such"),
        ):
            (tmp_path / "config.json").write_text(json.dumps(config))
            (cache,) = backends(f"oci://{place}/team/cache")
            with pytest.raises(RemoteFault) as caught:
                got(cache)
            says(str(caught.value), text)
            assert "secret" not in str(caught.value)


def test_a_registry_s_token_is_got_once_and_goes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shared_servers().place("oci")
    proxy = place.proxy
    assert proxy is not None
    put(place.opened())
    word = base64.b64encode(b"ci:right-0-secret").decode()
    proxy.token, proxy.password = "right-0-token", f"Basic {word}"
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {proxy.url.partition("://")[2]: {"auth": word}}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    proxy.seen.clear()
    cache = place.opened()
    assert got(cache) == DATA
    put(cache)
    assert cache.put_record(NAME, RECORD, [BLOB])
    (asked,) = proxy.asked("token")
    says(asked, "GET /token?service=cache&scope=repository%3Ateam%2F", "%3Apull%2Cpush")
    with proxied(proxy.upstream) as other:
        proxy.fault = Fault(
            "redirect", on="GET .*blobs", to=other.url.replace("127.0.0.1", "localhost")
        )
        assert got(cache) == DATA
        assert [one.headers.get("authorization") for one in other.seen] == [None]
        proxy.fault = Fault("elsewhere", on="POST", to=f"{other.url}/v2/team/up")
        with pytest.raises(RemoteFault):
            put(cache)
        assert other.seen[-1].method == "PUT"
        assert "authorization" not in other.seen[-1].headers
    for nowhere in ("http://h:x/", "http://[/", "file:///etc/passwd", ""):
        proxy.fault = Fault("elsewhere", on="POST", to=nowhere)
        with pytest.raises(RemoteFault) as caught:
            put(cache)
        assert_plain(str(caught.value))
    proxy.fault = None
    proxy.password = "Basic another"
    with pytest.raises(RemoteFault, match="its token server wants other credentials"):
        got(place.opened())


def test_a_registry_is_named_where_no_password_may_go() -> None:
    from tasks.remote.login import check_realm

    for realm in (
        "http://registry.example.org/token",
        "http://127.0.0.1:1/token",
        "ftp://x/",
        "",
        "https://",
        "https://a:b@c/",
    ):
        with pytest.raises(RemoteFault, match="no https:// address"):
            check_realm(realm, False)
    check_realm("https://registry.example.org/token", False)
    check_realm("http://127.0.0.1:1/token", True)


# ---------------------------------------------------------------- what is in a folder or registry


def test_what_is_private_in_a_folder_is_not_for_others() -> None:
    place = shared_servers().place("folder")
    cache = place.opened()
    assert place.folder is not None
    path = place.folder / names.file(SHA256)
    for private, mode in ((True, 0o640), (False, 0o644)):
        cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=private), io.BytesIO(DATA))
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_links_that_are_planted_in_a_folder_lead_nowhere(tmp_path: Path) -> None:
    place = shared_servers().place("folder")
    cache = place.opened()
    assert place.folder is not None
    put(cache)
    secret = tmp_path / "secret"
    secret.write_bytes(b"{}")
    plants: list[tuple[str, Callable[[], object]]] = [
        (names.record(NAME), lambda: cache.record(NAME)),
        (names.file(SHA256), lambda: cache.size(SHA256)),
        (names.file(SHA256), lambda: got(cache)),
    ]
    for name, look in plants:
        path = place.folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(secret)
        TALLY["hostile attempts"] += 1
        with contextlib.suppress(Missing):
            assert look() is None
    put(cache)  # in the link's place, and not through it
    assert secret.read_bytes() == b"{}"
    assert got(cache) == DATA
    away = tmp_path / "away"
    (place.folder / "cas").rename(away)
    (place.folder / "cas").symlink_to(away)
    before = sorted(away.iterdir())
    with pytest.raises((RemoteFault, Missing)):
        got(cache)
    with pytest.raises(RemoteFault):
        cache.put_file(Blob(sha256="0" * 64, size=1), io.BytesIO(b"1"))
    assert sorted(away.iterdir()) == before


def test_a_registry_shows_an_artifact() -> None:
    """What oras and skopeo see: OCI 1.1's artifact, the files its layers."""
    place = shared_servers().place("oci")
    cache = place.opened()
    put(cache)
    cache.put_record(NAME, RECORD, [BLOB])
    cache.keep(NAME, [BLOB])
    for tag, kind, media in (
        (NAME, "application/vnd.strata.record.v1+json", "application/vnd.strata.file.v1"),
        (f"debs-{NAME}", "application/vnd.strata.debs.v1", "application/vnd.debian.binary-package"),
    ):
        with cache.asked("GET", f"{cache.path}/manifests/{tag}", headers={  # type: ignore[attr-defined]
                "Accept": "application/vnd.oci.image.manifest.v1+json"}) as answer:  # fmt: skip
            manifest = json.loads(answer.read())
        assert manifest["artifactType"] == kind
        assert manifest["layers"] == [
            {"mediaType": media, "digest": f"sha256:{SHA256}", "size": len(DATA)}
        ]


@pytest.mark.parametrize("address", [
    "oci://127.0.0.1:1", "oci://127.0.0.1:1/UPPER", "oci://x:y/a", "oci:///a", "oci://h/a?b", "s3://",
    "s3://a b/c", "s3://key:secret/x@bucket/c", "oci://u:secret@h/A", "gs://", "az:///x", "http://", "http://h:x/", "file://x/y",
])  # fmt: skip
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BuildError) as caught:
        backends(address)
    assert "secret" not in str(caught.value)
    says(str(caught.value), "expected" if "file" not in address else "three slashes")


def test_buckets_need_a_package_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BuildError) as caught:
        backends("s3://bucket/prefix")
    says(str(caught.value), "cache=s3://bucket: buckets need the Python package obstore",
         f"{sys.executable} -m pip install 'obstore")  # fmt: skip


@pytest.mark.parametrize(
    "endpoint", ["notaurl", "http://user:right-0-secret@127.0.0.1:1", "http://127.0.0.1:x"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with environment(AWS_ENDPOINT_URL=endpoint), pytest.raises(BuildError) as caught:
        backends("s3://bucket/prefix")
    says(str(caught.value), "AWS_ENDPOINT_URL: expected https://HOST[:PORT]")
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- a folder that others use, too


def as_nobody(code: str, *words: object) -> str:
    """What Python says as a user who owns nothing."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.check_output(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code,
         *map(str, words)], text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


LOOK = """\
import sys
from pathlib import Path
from tasks.remote.backend import RemoteFault, Unusable
from tasks.remote.folder import Folder
cache = Folder(Path(sys.argv[1]), 2)
cache.writing = True
for work in (lambda: cache.record(sys.argv[2]), lambda: b"".join(cache.chunks(sys.argv[3], 0)),
             lambda: cache.size(sys.argv[3]), lambda: cache.record(sys.argv[4]),
             lambda: cache.put_record(sys.argv[2], b"mine", [], replace=True)):
    try:
        print(work())
    except (RemoteFault, Unusable) as fault:
        print(type(fault).__name__, fault)
"""


def test_what_one_may_not_read_costs_that_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    place = shared_servers().place("folder")
    cache, folder = place.opened(), place.folder
    assert folder is not None
    shared_servers().root.chmod(0o755)
    cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=True), io.BytesIO(DATA))
    cache.put_record(NAME, RECORD, [BLOB])
    other = "base-" + "6" * 32
    cache.put_record(other, b"open", [BLOB])
    (folder / names.record(NAME)).chmod(0o600)
    (folder / "ac").chmod(0o1777)  # whose files only their owner replaces
    said = as_nobody(LOOK, folder, NAME, SHA256, other).splitlines()
    unusable = "Unusable this user may not read it"
    assert said == [unusable, unusable, str(len(DATA)), "b'open'", "False"]
    assert cache.record(NAME) == RECORD
    (folder / "ac").chmod(0o700)
    said = as_nobody(LOOK, folder, NAME, SHA256, other).splitlines()
    assert said[0] == "RemoteFault Permission denied"


@pytest.mark.parametrize("way", ["unnamed", "named", "fat"])
def test_of_two_who_look_at_once_the_first_one_stays(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file cannot be without a name while it is written, and where none has two."""
    if way != "unnamed":
        monkeypatch.setattr(os, "O_TMPFILE", 0)  # a folder is opened: EISDIR, as NFS says it
    if way == "fat":
        monkeypatch.setattr(os, "link", functools.partial(_refused, errno.EPERM))
    caches = [Place("folder", f"file://{tmp_path}/share").opened() for _ in range(8)]
    for number in range(10):
        name = f"base-{number:032d}"
        texts = [f"{one}".encode() * 100 for one in range(len(caches))]

        def put_one(one: Backend, text: bytes, name: str = name) -> bool:
            return one.put_record(name, text, [])

        with ThreadPoolExecutor(len(caches)) as pool:
            first = list(pool.map(put_one, caches, texts))
        assert first.count(True) == 1
        assert caches[0].record(name) == texts[first.index(True)]
    assert not list(tmp_path.glob("share/*/.strata-*"))


def _refused(number: int, *_given: object, **_named: object) -> None:
    """As a system call of a filesystem that cannot do it."""
    raise OSError(number, os.strerror(number))


def test_what_killed_uploads_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Place("folder", f"file://{tmp_path}/share").opened()
    put(cache)
    folder = tmp_path / "share"
    old, new, held = (folder / "cas" / f".strata-{digit * 16}.tmp" for digit in "abc")
    foreign = folder / "cas/.strata-x.tmp"
    for path in (old, new, held, foreign):
        path.write_text("half")
        os.utime(path, (1, 1))
    os.utime(new)
    assert cache.foreign() == ["cas/.strata-x.tmp"]  # type: ignore[attr-defined]
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        again = Place("folder", f"file://{tmp_path}/share").opened()
        again.record(NAME)
        assert old.exists()
        again.put_record(NAME, RECORD, [])
        assert [one.exists() for one in (old, new, held, foreign)] == [False, True, True, True]
    cache.sweep()  # type: ignore[attr-defined]
    assert [one.exists() for one in (new, held, foreign)] == [True, False, True]


def test_a_name_that_a_sweep_took_before_its_lock_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", 0)
    lock = fcntl.flock
    taken: list[Path] = []

    def swept(descriptor: int, kind: int) -> None:
        if not taken:
            taken.extend((tmp_path / "cas").glob(".strata-*"))
            taken[0].unlink()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", swept)
    cache = Place("folder", f"file://{tmp_path}").opened()
    cache.put_file(Blob(sha256=SHA256, size=len(DATA), private=True), io.BytesIO(DATA))
    assert taken
    assert got(cache) == DATA
    # Written by its name alone, it would be another file, with neither lock nor mode.
    assert stat.S_IMODE((tmp_path / names.file(SHA256)).stat().st_mode) == 0o640


def test_what_goes_while_prune_looks_is_no_fault(tmp_path: Path) -> None:
    from tasks.commands.prune import Limits, chosen, taken

    cache = Place("folder", f"file://{tmp_path}/share").opened()
    for number in range(3):
        cache.put_record(f"base-{number:032d}", RECORD, [])
    groups = cache.groups()  # type: ignore[attr-defined]
    assert len(groups) == 3
    for gone in (groups[0], groups[1]):
        gone[0].unlink()
    limits = Limits(keep=0, seconds=None, dry=False)
    assert list(chosen(groups[:2], 100, (), limits)) == []
    assert list(chosen(groups, 100, (), limits, folder.since)) == [groups[2]]
    assert taken(groups[0][0]) == 0
    assert [folder.since(one[0]) is None for one in groups] == [True, True, False]
