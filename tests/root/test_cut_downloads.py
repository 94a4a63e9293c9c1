"""Downloads and uploads that are cut off: what goes on, what begins anew, and what is given up."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from support.answers import (
    BLOB,
    DATA,
    NAME,
    fault_of,
    parted,
    ranged,
    shared,
)
from support.scripted import Scripted, scripted
from tasks.plan.lockfile import Record
from tasks.remote.backend import Blob

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


@pytest.mark.parametrize("cut", [True, False])
def test_a_byte_for_each_request_is_no_progress(
    tmp_path: Path, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "2")
    with scripted(parted(DATA, 1, cut)) as server:
        one = shared(server, tmp_path, [])
        fault_of(lambda: one._download(one.remotes[0], BLOB, tmp_path / "file"))
        assert len(server.heads) == 3


def test_a_download_that_goes_on_may_be_cut_off_as_often_as_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "1")
    data = os.urandom(4 << 20)
    blob = Blob(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    with scripted(parted(data, 1 << 20, True)) as server:
        one = shared(server, tmp_path, [])
        one._download(one.remotes[0], blob, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == data
        assert [ranged(head) >> 20 for head in server.heads] == [0, 1, 2, 3]


def test_what_crawls_from_one_request_to_the_next_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer brings something at once, and is cut off before anybody could call it slow."""
    monkeypatch.setenv("STRATA_RETRIES", "1000")
    began = time.monotonic()

    def answer(here: Scripted, one: Any, head: bytes) -> None:
        here.ended.wait(0.3)
        parted(DATA, 1, True)(here, one, head)

    with scripted(answer) as server:
        one = shared(server, tmp_path, [])
        fault_of(
            lambda: one._download(one.remotes[0], BLOB, tmp_path / "file"), "too slow", within=9
        )
    assert time.monotonic() - began < 9


def test_one_dropped_connection_ends_no_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATA_RETRIES", "2")
    dropped: set[bytes] = set()
    sent: list[bytes] = []

    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        method = head.partition(b" ")[0]
        if method not in dropped:
            dropped.add(method)
            return
        if method == b"PUT":
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < len(DATA):
                body += one.recv(65536)
            sent.append(body)
        status = b"404 N" if method == b"HEAD" else b"201 C"
        one.sendall(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)

    told: list[str] = []
    with scripted(answer) as server:
        one = shared(server, tmp_path, told)
        (tmp_path / "deb").write_bytes(DATA)
        one.cache.take_deb(tmp_path / "deb", BLOB.sha256)
        record = Record(package="a", version="1", architecture="all", path="a.deb", size=BLOB.size,
                        sha256=BLOB.sha256, repository="main")  # fmt: skip
        assert one.give_debs("base-1", [record]) == 1
    assert sent == [DATA]
    assert len(server.heads) == 5  # of which two were dropped, and one asks anew
    assert told == []


def test_what_may_pass_is_asked_for_as_often_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(lambda _here, _one, _head: None) as server:
        one = shared(server, tmp_path, [])
        for retries in (0, 2):
            monkeypatch.setenv("STRATA_RETRIES", str(retries))
            server.heads.clear()
            fault_of(lambda: one._asking(lambda: one.remotes[0].backend.record(NAME)), "hung up")
            assert len(server.heads) == retries + 1
