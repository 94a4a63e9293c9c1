"""Shared caches are told who asks: passwords and tokens go where they are for, and nowhere else."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import servers
from support.faulty import Fault, proxied
from support.remotes import environment, shared_servers
from support.stored import BLOB, DATA, NAME, RECORD, SHA256, assert_plain, got, put
from support.world import says
from tasks.errors import BuildError
from tasks.host.tools import ENV
from tasks.remote.backend import RemoteFault
from tasks.remote.configured import backends

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("patience")]


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
