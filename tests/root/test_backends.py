"""Shared caches of each kind hold files and records, on real servers, and give them back."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import servers
from support.faulty import FILES, Fault
from support.remotes import HELPER, SERVED, Place, environment, helper_env, shared_servers
from support.stored import BLOB, DATA, NAME, RECORD, SHA256, assert_plain, got, put
from support.tally import TALLY
from support.world import says
from tasks.errors import BuildError
from tasks.remote.backend import RECORD_LIMIT, Blob, Cut, Missing, RemoteFault, Unusable
from tasks.remote.configured import backends

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


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
