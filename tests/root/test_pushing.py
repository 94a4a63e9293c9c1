"""push-oci against a registry: what is sent, what is not sent again, and what is said when it fails."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support import servers
from support.faulty import Fault, Proxy, proxied
from support.file_server import Server
from support.repository import Repository
from support.world import SPEC, World, says, stocked

EXPORTS = "exports:\n  oci: {format: oci, config: {cmd: [/bin/sh]}}\n"


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    site: tuple[Repository, Server],
    fast_scratch: dict[str, str],
) -> World:
    folder = tmp_path_factory.mktemp("pushing")
    spec = SPEC.partition("images:")[0] + EXPORTS
    env = {**fast_scratch, "REGISTRY_AUTH_FILE": f"{folder}/nobody.json"}
    made = stocked(folder / "checkout", *site, folder, env, spec=spec)
    made.build()
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    root = tmp_path_factory.mktemp("registry")
    with servers.docker_registry(root) as url, proxied(url) as proxy:
        yield proxy


@pytest.fixture
def registry(served: Proxy) -> Proxy:
    """One for all, which nobody has asked anything yet."""
    served.clear()
    return served


def place(proxy: Proxy, name: str) -> str:
    return f"{proxy.url.partition('://')[2]}/{name}"


def direct(proxy: Proxy, name: str) -> str:
    """The same without the proxy, which passes one header of a name on: who pulls has several."""
    return f"{proxy.upstream.partition('://')[2]}/{name}"


def uploads(proxy: Proxy) -> int:
    """How many blobs came, the config among them."""
    return len(proxy.asked(r"^PUT .*/blobs/uploads/"))


def digest(world: World) -> str:
    index = json.loads((world.root / "out/web/oci/index.json").read_text())
    found: str = index["manifests"][0]["digest"]
    return found


def pulled(source: str, to: Path) -> Path:
    argv = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{source}", f"oci:{to}:web"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return to


def test_what_is_pushed_is_what_is_pulled(world: World, registry: Proxy, tmp_path: Path) -> None:
    registry.clear()
    done = world.doit("push-oci", "spec=web", f"to={place(registry, 'team/web:1.0')}")
    says(done.out, "oci: pushed to", f"/team/web@{digest(world)}")
    assert uploads(registry) == 4  # three layers and a config
    there = pulled(direct(registry, "team/web:1.0"), tmp_path / "there")
    blobs = {one.name for one in (there / "blobs/sha256").iterdir()}
    assert blobs == {one.name for one in (world.root / "out/web/oci/blobs/sha256").iterdir()}
    for one in blobs:
        here = world.root / "out/web/oci/blobs/sha256" / one
        assert (there / "blobs/sha256" / one).read_bytes() == here.read_bytes()
    assert world.leftovers() == []


def test_a_second_push_sends_what_changed(world: World, registry: Proxy) -> None:
    to = place(registry, "team/again")
    world.doit("push-oci", "spec=web", f"to={to}:1")
    registry.clear()
    world.doit("push-oci", "spec=web", f"to={to}:1")
    assert uploads(registry) == 0
    before = digest(world)
    world.write("files/motd", "another\n")
    world.build()
    assert digest(world) != before
    registry.clear()
    world.doit("push-oci", "spec=web", f"to={to}:2")
    assert uploads(registry) == 2  # one layer and the config
    assert len(registry.asked("^PUT .*/manifests/2$")) == 1


def test_several_exports_of_which_one_is_named(world: World, registry: Proxy) -> None:
    text = (world.root / "specs/web.yaml").read_text()
    world.write("web.yaml", text + "  second: {format: oci, config: {user: nobody}}\n")
    try:
        to = place(registry, "team/second:1")
        failed(world, to, "there are several OCI exports", "export= one of oci, second")
        says(world.doit("push-oci", "spec=web", f"to={to}", "export=second", check=False).err,
             "out/web/second: nothing is published there yet", "strata build spec=web")  # fmt: skip
        world.build()
        world.doit("push-oci", "spec=web", f"to={to}", "export=second")
        assert registry.asked("^PUT /v2/team/second/manifests/1$")
    finally:
        world.write("web.yaml", text)
        world.build()


def failed(world: World, to: str, *parts: str, **env: str) -> None:
    done = world.doit("push-oci", "spec=web", f"to={to}", check=False, **env)
    assert done.code == 1, done.text
    assert "Traceback" not in done.text
    assert done.err.count("ERROR: ") == 1, done.text
    says(done.err, *parts)
    assert servers.PASSWORD not in done.text


def test_a_registry_that_wants_a_login(world: World, tmp_path: Path) -> None:
    with servers.docker_registry(tmp_path / "registry", login=True) as url:
        host = url.partition("://")[2]
        to = f"{host}/team/web:1.0"
        failed(world, to, f"{to}: it wants a login", f"skopeo login {host}")
        for password, good in (("wrong", False), (servers.PASSWORD, True)):
            auth = base64.b64encode(f"{servers.USER}:{password}".encode()).decode()
            kept = tmp_path / "auth.json"
            kept.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
            if good:
                done = world.doit("push-oci", "spec=web", f"to={to}", REGISTRY_AUTH_FILE=str(kept))
                assert digest(world) in done.out
            else:
                failed(world, to, "it wants a login", REGISTRY_AUTH_FILE=str(kept))


def test_who_is_not_there(world: World) -> None:
    port = servers.free_port()
    failed(
        world, f"127.0.0.1:{port}/team/web:1", f"127.0.0.1:{port}/team/web:1: nobody listens there"
    )
    failed(
        world, "registry.invalid/team/web:1", "registry.invalid/team/web:1: no such host is known"
    )


def test_one_that_hangs_up_or_refuses(world: World, registry: Proxy) -> None:
    for kind, part in (("403", "may not write team/refused"), ("500", "skopeo cannot push: ")):
        registry.clear()
        registry.fault = Fault(kind, on="POST .*/blobs/uploads/", times=99)
        failed(world, place(registry, f"team/refused:{kind}"), part)
    registry.clear()
    failed(world, "web:1", "to=web:1: no place in a registry", "HOST[:PORT]/NAME")


def test_plain_http_is_for_this_machine_alone(world: World, registry: Proxy) -> None:
    """Any other place is asked for TLS, also where it is this machine by another name."""
    other = ThreadingHTTPServer(("127.0.0.2", 0), BaseHTTPRequestHandler)
    with servers.serving(other, threading.Event()):
        failed(world, f"127.0.0.2:{other.server_port}/team/web:1", "it speaks HTTP, not HTTPS")
    other.server_close()
    port = registry.url.rpartition(":")[2]
    world.doit("push-oci", "spec=web", f"to=localhost:{port}/team/here:1")
    assert registry.asked("^PUT /v2/team/here/manifests/1$")


def test_published_files_that_were_changed_are_not_pushed(world: World, tmp_path: Path) -> None:
    folder = world.root / "out/web/oci/blobs/sha256"
    path = max(folder.iterdir(), key=lambda one: one.stat().st_size)
    kept = path.read_bytes()
    content = bytearray(kept)
    content[len(kept) // 2] ^= 1
    path.write_bytes(content)
    try:
        # A registry that has nothing yet: another would not be sent this blob at all.
        with servers.docker_registry(tmp_path / "registry") as url:
            failed(world, f"{url.partition('://')[2]}/team/changed:1",
                   "not what they were built as", "strata build spec=web publishes them again")  # fmt: skip
    finally:
        path.write_bytes(kept)


@pytest.mark.nightly
def test_podman_pulls_it(world: World, served: Proxy) -> None:
    with tempfile.TemporaryDirectory(prefix="p-") as folder:  # podman wants a short path
        pulled_by_podman(world, served, Path(folder))


def pulled_by_podman(world: World, served: Proxy, folder: Path) -> None:
    to = direct(served, "team/podman:1")
    world.doit("push-oci", "spec=web", f"to={to}")

    def podman(*words: str, check: bool = True) -> str:
        argv = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run",
                "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", *words]  # fmt: skip
        env = {**os.environ, "HOME": str(folder)}
        done = subprocess.run(argv, check=False, env=env, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        podman("pull", "--quiet", "--tls-verify=false", to)
        (image,) = json.loads(podman("image", "inspect", to))
        assert image["Config"]["Cmd"] == ["/bin/sh"]
        assert len(image["RootFS"]["Layers"]) == 3
        point = Path(podman("image", "mount", to).strip())
        motd = (point / "etc/motd").read_text()
        assert motd == (world.root / "specs/files/motd").read_text()
    finally:
        podman("image", "unmount", "--all", check=False)
