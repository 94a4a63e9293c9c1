"""Who is told what: passwords and tokens go to the server that they are for."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from support.answers import (
    ENDED,
    NAME,
    fault_of,
)
from support.scripted import Scripted, scripted
from support.world import says
from tasks.errors import BuildError
from tasks.remote.backend import RemoteFault
from tasks.remote.configured import SCHEMES, backends
from tasks.remote.login import login

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


def headers(head: bytes, name: bytes) -> list[bytes]:
    """What a request has of a header."""
    return re.findall(rb"(?im)^%s: *(.*?)\r$" % name, head)


def test_a_proxy_is_told_its_password_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_here: Scripted, one: Any, head: bytes) -> None:
        if head.startswith(b"CONNECT"):
            one.sendall(b"HTTP/1.1 407 \x1b[31mright-0-secret\r\n\r\n")
        else:
            one.sendall(ENDED + b"Content-Length: 2\r\n\r\n{}")

    word = b"Basic " + base64.b64encode(b"u:right-0-secret @")
    with scripted(answer) as proxy, scripted(answer) as server:
        given = f"http://u:right-0-secret%20%40@{proxy.place}"
        monkeypatch.setenv("http_proxy", given)
        monkeypatch.setenv("https_proxy", given)
        assert backends("http://cache.invalid:8000/x")[0].record(NAME) == b"{}"
        assert headers(proxy.heads[0], b"proxy-authorization") == [word]
        assert proxy.heads[0].startswith(b"GET http://cache.invalid:8000/x/ac/")
        (cache,) = backends("https://cache.invalid/x")
        fault_of(lambda: cache.record(NAME), "proxy")
        assert headers(proxy.heads[1], b"proxy-authorization") == [word]
        for none in ("127.0.0.1", "*", f"other,{server.place}", "127.0.0.1,localhost"):
            monkeypatch.setenv("no_proxy", none)
            assert backends(f"{server.url}/x")[0].record(NAME) == b"{}"
        assert len(proxy.heads) == 2
        assert [headers(head, b"proxy-authorization") for head in server.heads] == [[]] * 4
        monkeypatch.delenv("no_proxy")
        for bad in (
            "socks5://u:right-0-secret@h",
            "http://u:right-0-secret@h:x",
            "http://[u:secret",
        ):
            monkeypatch.setenv("http_proxy", bad)
            with pytest.raises(BuildError) as caught:
                backends(f"{server.url}/x")
            says(str(caught.value), "http_proxy: expected http://HOST[:PORT]")
            assert "secret" not in str(caught.value)
        monkeypatch.setenv("http_proxy", proxy.place)  # as curl takes it
        assert backends("http://cache.invalid/x")[0].record(NAME) == b"{}"
    with scripted(lambda _here, one, _head: one.sendall(b"HTTP/1.1 407 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")) as proxy:  # fmt: skip
        monkeypatch.setenv("http_proxy", proxy.url)
        (cache,) = backends("http://cache.invalid/x")
        fault_of(lambda: cache.record(NAME), "the proxy wants other credentials (HTTP 407)")


def test_a_token_is_for_the_first_web_server_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_here: Scripted, one: Any, _head: bytes) -> None:
        one.sendall(ENDED + b"Content-Length: 2\r\n\r\n{}")

    bearer = b"Bearer right-0-secret"
    monkeypatch.setenv("STRATA_REMOTE_TOKEN", "right-0-secret")
    (tmp_path / "netrc").write_text("default login u password p\n")
    with scripted(answer) as first, scripted(answer) as second:

        def asked(address: str) -> list[list[bytes]]:
            """What each server was told."""
            first.heads.clear()
            second.heads.clear()
            for cache in backends(address):
                cache.record(NAME)
            return [
                headers(one.heads[-1], b"authorization") for one in (first, second) if one.heads
            ]

        folder = f"file://{tmp_path}"
        assert asked(f"{folder} {first.url}/x {second.url}/x") == [[bearer], []]
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        default = b"Basic " + base64.b64encode(b"u:p")
        assert asked(f"{first.url}/x {second.url}/x") == [[bearer], [default]]
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login m password q\n")
        named = b"Basic " + base64.b64encode(b"m:q")
        assert asked(f"{first.url}/x {second.url}/x") == [[named], [named]]
        monkeypatch.setenv("NETRC", "/nonexistent")
        with pytest.raises(BuildError) as caught:
            backends("http://cache.example.org/x")
        says(str(caught.value), "STRATA_REMOTE_TOKEN would go there as plain text")
        assert backends("https://cache.example.org/x")
        assert backends("http://u:p@cache.example.org/x")
        # What nobody can read is told, where it would have counted.
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for content in (b"machine h login u passwort right-0-secret\n", b"\xff\xfe\x00"):
            (tmp_path / "netrc").write_bytes(content)
            monkeypatch.setenv("STRATA_REMOTE_TOKEN", "right-0-secret")
            assert asked(f"{first.url}/x") == [[bearer]]
            monkeypatch.delenv("STRATA_REMOTE_TOKEN")
            assert backends(f"http://u:p@{first.place}/x")
            with pytest.raises(BuildError) as caught:
                backends(f"{first.url}/x")
            says(str(caught.value), "netrc: it is no netrc(5)")
            assert "secret" not in str(caught.value)
        monkeypatch.setenv("NETRC", str(tmp_path))
        with pytest.raises(BuildError, match="Is a directory"):
            backends(f"{first.url}/x")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RemoteFault, match=r"config\.json: "):
        login("registry.example.org")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_address_whose_host_is_none_is_told(scheme: str) -> None:
    with pytest.raises(BuildError) as caught:
        backends(f"{scheme}://u:right-0-secret@[bad")
    says(str(caught.value), f"cache={scheme}://***@[bad: expected")
