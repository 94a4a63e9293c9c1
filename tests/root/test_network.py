"""The network: whatever a repository or proxy does is waited for, told, and over when it is over."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from support.debs import make_deb
from support.file_server import Fault, Server
from support.world import TINY, World, says


def versions(world: World) -> dict[str, str]:
    lock = json.loads((world.root / "specs/web.lock").read_text())
    return {record["package"]: record["version"] for record in lock["base"]}


def newer(world: World, name: str = "beta") -> Callable[[], None]:
    """Publish version 2 of a package, and take version 1 out of the pool: what an archive does."""

    def publish() -> None:
        deb = make_deb(world.debs, name, "2", files={f"/usr/{name}": "2\n"})
        world.repository.remove(name, "1")
        world.repository.add(deb)
        world.repository.publish()

    return publish


# ---------------------------------------------------------------- what passes is waited for

# apt itself asks once more when a connection is lost, and says nothing of it.
BUSY = {
    "503": Fault(status=503, times=1),
    "500": Fault(status=500, times=1),
    "429": Fault(status=429, headers={"Retry-After": "1"}, times=1),
    "dropped": Fault(drop=True, times=2),
    "cut off": Fault(cut=100, times=2),
    "cut off, chunked": Fault(cut=100, chunked=True, times=2),
    "silent": Fault(delay=600, times=2),
}


def again(fault: Fault) -> Fault:
    """A fault of its own for each test: `times` counts down in it."""
    return Fault(**vars(fault))


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.nightly if name in ("500", "429", "cut off") else ())
    for name in BUSY
])  # fmt: skip
def test_a_repository_that_fails_for_a_moment_is_asked_again(tiny: World, name: str) -> None:
    tiny.server.faults["InRelease"] = again(BUSY[name])
    text = tiny.doit("lock", "spec=web", STRATA_RETRIES="3").text
    assert re.search(r"repository main: .*; trying again in 1 s \(1 of 3\)", text), text
    assert versions(tiny) == {"baseline": "1", "beta": "1"}


@pytest.mark.root
@pytest.mark.parametrize("name", [
    pytest.param("503", marks=pytest.mark.nightly), "cut off",
    pytest.param("silent", marks=pytest.mark.nightly),
])  # fmt: skip
def test_a_deb_that_fails_for_a_moment_is_asked_for_again(tiny: World, name: str) -> None:
    tiny.server.faults["beta_1_all.deb"] = again(BUSY[name])
    build = tiny.doit("build", "spec=web", STRATA_RETRIES="3")
    assert tiny.results()["/"] == "built"
    asked = [path for _method, path, _status in tiny.server.requests if path.endswith(".deb")]
    # What had come was not fetched again.
    assert asked.count("/pool/stable/main/baseline_1_all.deb") == 1
    says(build.text, "base: fetching packages: ", "; trying again in 1 s (1 of 3)")
    assert tiny.leftovers() == []


@pytest.mark.root
def test_a_slow_repository_is_waited_for_while_it_sends(tiny: World) -> None:
    """Each answer takes longer than the timeout, and no pause in it does."""
    tiny.server.faults["InRelease"] = Fault(drip=0.15)
    tiny.server.faults["beta_1_all.deb"] = Fault(drip=0.15)
    began = time.monotonic()
    tiny.doit("build", "spec=web")
    assert time.monotonic() - began > 3
    assert tiny.results()["/"] == "built"


# ---------------------------------------------------------------- what does not pass is told


def test_a_repository_that_never_answers_is_given_up(tiny: World) -> None:
    """It accepts connections: without a timeout apt would wait for two minutes, or for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        tiny.refused("repos.main (", "it does not answer", "check its uri, suite",
                words=(f"mirror=http://127.0.0.1:{silent.getsockname()[1]}",))  # fmt: skip
        assert time.monotonic() - began < 8


def test_retries_are_bounded_and_told(tiny: World) -> None:
    tiny.server.faults[""] = Fault(status=503)
    began = time.monotonic()
    text = tiny.refused("lock: repository main: 503 Service Unavailable; trying again in 1 s (1 of 2)",
                   "; trying again in 2 s (2 of 2)", "it does not answer", STRATA_RETRIES="2")  # fmt: skip
    # The pauses are made, not only told: 1 and 2 s. Without them a build takes less than one.
    assert 3 <= time.monotonic() - began < 8
    assert text.count("trying again") == 2
    assert len([status for _m, _p, status in tiny.server.requests if status == 503]) <= 9


def test_what_is_no_passing_failure_is_not_tried_again(tiny: World) -> None:
    tiny.server.faults[""] = Fault(status=404)
    assert "trying again" not in tiny.refused(
        "the mirror that STRATA_MIRROR names has no suite", STRATA_RETRIES="3"
    )


@pytest.mark.parametrize("value", ["many", "-1", "99999"])
def test_bad_setting(tiny: World, value: str) -> None:
    tiny.refused(f"STRATA_RETRIES={value}: expected a number", STRATA_RETRIES=value)


def test_name_that_does_not_resolve(tiny: World) -> None:
    tiny.refused("repos.main (http://nowhere.invalid stable): it does not answer",
            "check its uri, suite and the network", words=("mirror=http://nowhere.invalid",))  # fmt: skip


def test_redirects_are_followed_and_loops_are_not(tiny: World) -> None:
    with Server(tiny.repository.root) as other:
        for path in ("InRelease", "Packages.xz", "Packages.gz", "Packages"):
            found = "/dists/stable/" + ("" if path == "InRelease" else "main/binary-amd64/") + path
            other.faults[path] = Fault(status=302, headers={"Location": tiny.server.url + found})
        tiny.doit("lock", "spec=web", f"mirror={other.url}")
        assert versions(tiny) == {"baseline": "1", "beta": "1"}
    loop = {"Location": f"{tiny.server.url}/loop"}
    tiny.server.faults[""] = Fault(status=302, headers=loop)
    tiny.refused("repos.main (", "it redirects in a circle", "Redirection loop")
    tiny.server.faults.clear()
    tiny.doit("lock", "spec=web")


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (Fault(status=407, headers={"Proxy-Authenticate": 'Basic realm="x"'}),
         ["the proxy refuses or fails", "407", "check proxies in the spec"]),
        (Fault(status=502), ["it does not answer", "502"]),
        (Fault(drop=True), ["it does not answer"]),
    ],
    ids=["credentials", "bad gateway", "drops"],
)  # fmt: skip
@pytest.mark.parametrize("user", ["", "me:hunter2@"])
def test_proxy_that_fails(tiny: World, fault: Fault, parts: list[str], user: str) -> None:
    tiny.doit("lock", "spec=web")
    with Server(tiny.repository.root) as proxy:
        proxy.faults[""] = again(fault)
        place = proxy.url.replace("//", f"//{user}")
        tiny.write("web.yaml", TINY + f'proxies: {{http: "{place}"}}\n')
        text = tiny.refused("repos.main (", *parts, words=("mirror=http://archive.invalid",))
        assert "hunter2" not in text
        proxy.faults.clear()
        tiny.doit("lock", "spec=web", "mirror=http://archive.invalid")


def test_proxy_that_is_dead(tiny: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    tiny.write("web.yaml", TINY + f'proxies: {{http: "http://127.0.0.1:{port}"}}\n')
    tiny.refused("repos.main (", "Connection refused")


# ---------------------------------------------------------------- a repository that changes


@pytest.mark.parametrize("by_hash", [False, True])
def test_repository_published_between_inrelease_and_packages(tiny: World, by_hash: bool) -> None:
    """The next InRelease fits; with by-hash, the indexes of the one before are there as well."""
    tiny.repository.by_hash = by_hash
    tiny.repository.publish()
    publish = newer(tiny)
    done = threading.Lock()

    def once() -> None:
        if done.acquire(blocking=False):
            publish()

    # Not InRelease itself: apt has it, and asks for the index of that one.
    for suffix in ("Packages.xz", "Packages.gz", "Packages"):
        tiny.server.faults[suffix] = Fault(before=once)
    tiny.server.faults["main/binary-amd64"] = Fault(before=once)
    if by_hash:
        names = (tiny.repository.dist / "main/binary-amd64/by-hash/SHA256").iterdir()
        for path in names:
            tiny.server.faults[path.name] = Fault(before=once)
    text = tiny.doit("lock", "spec=web", STRATA_RETRIES="2").text
    if by_hash:
        assert "trying again" not in text
        assert versions(tiny) == {"baseline": "1", "beta": "1"}
    else:
        says(text, "repository main: ", "trying again in 1 s")
        assert versions(tiny) == {"baseline": "1", "beta": "2"}
    tiny.doit("lock", "spec=web")
    assert versions(tiny) == {"baseline": "1", "beta": "2"}


def test_by_hash_index_that_is_gone_is_asked_for_by_the_next_inrelease(tiny: World) -> None:
    tiny.repository.by_hash = True
    tiny.repository.publish()
    folder = tiny.repository.dist / "main/binary-amd64"

    def swept() -> None:
        tiny.server.faults.clear()
        for path in (folder / "by-hash/SHA256").iterdir():
            path.unlink()
        newer(tiny)()
        # A mirror that keeps no older index: what is not by hash does not fit, either.

    for path in (folder / "by-hash/SHA256").iterdir():
        tiny.server.faults[path.name] = Fault(before=swept)
    tiny.doit("lock", "spec=web", STRATA_RETRIES="2")
    assert versions(tiny) == {"baseline": "1", "beta": "2"}


def test_repository_that_stays_inconsistent(tiny: World) -> None:
    tiny.doit("lock", "spec=web")
    newer(tiny)()
    for name in ("Packages", "Packages.gz", "Packages.xz"):
        tiny.server.faults[name] = Fault(body=b"Package: older\n")
    text = tiny.refused("its indexes do not fit its Release: it is changing just now",
                   "try again in some minutes", STRATA_RETRIES="1")  # fmt: skip
    assert text.count("trying again") == 1
    tiny.server.faults.clear()
    tiny.doit("lock", "spec=web")
    assert versions(tiny) == {"baseline": "1", "beta": "2"}


@pytest.mark.root
@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (Fault(cut=300), ["cannot fetch beta 1 from repository main"]),
        (Fault(body=b"x" * 700), ["cannot fetch beta 1 from repository main", "not what is locked"]),
        pytest.param(Fault(body=b"x"), ["cannot fetch beta 1 from repository main", "not what is locked"],
                     marks=pytest.mark.nightly),
        (Fault(delay=600), ["cannot fetch beta 1 from repository main", "Connection failed"]),
        pytest.param(Fault(drop=True), ["cannot fetch beta 1 from repository main"],
                     marks=pytest.mark.nightly),
    ],
    ids=["cut off", "other bytes", "other size", "silent", "dropped"],
)  # fmt: skip
def test_deb_that_cannot_be_had_until_it_can(tiny: World, fault: Fault, parts: list[str]) -> None:
    tiny.doit("lock", "spec=web")
    deb = tiny.repository.pool / "beta_1_all.deb"
    if fault.body == b"x" * 700:
        fault = Fault(body=deb.read_bytes()[:-1] + b"x")
    tiny.server.faults[deb.name] = again(fault)
    tiny.refused(*parts, "lock=latest", words=("lock=keep",))
    assert len(list(tiny.root.glob("cache/debs/*.deb"))) == 1
    tiny.server.faults.clear()
    tiny.doit("build", "spec=web", "lock=keep")
    assert tiny.results()["/"] == "built"


@pytest.mark.root
def test_locked_version_is_gone_from_the_pool(tiny: World) -> None:
    tiny.doit("lock", "spec=web")
    newer(tiny)()
    tiny.refused("cannot fetch beta 1 from repository main (", "404",
            "if the repository has changed since it was locked, build with lock=latest",
            words=("lock=frozen",))  # fmt: skip
    assert versions(tiny)["beta"] == "1"
    tiny.doit("build", "spec=web")
    assert versions(tiny)["beta"] == "2"
    assert tiny.results()["/"] == "built"


def test_a_caller_that_waits_for_no_child_hides_no_failure(tiny: World) -> None:
    """Where SIGCHLD is ignored, the kernel keeps no exit status: all seems to have gone well."""
    code = ("import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")  # fmt: skip
    tiny.server.faults["InRelease"] = Fault(status=503)
    tiny.server.faults["Release"] = Fault(status=503)
    done = subprocess.run([sys.executable, "-c", code, "-m", "doit", "lock", "spec=web"],
                          cwd=tiny.root, env=tiny.environment(), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    says(done.stderr, "repos.main", "it does not answer")
