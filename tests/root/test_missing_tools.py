"""Who is not root, and hosts that lack a tool: each is named, with the package that has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.refusals import refused
from support.world import Build, World, says


def _prefixed(*prefix: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: as the last words of another command."""

    def run(world: World, words: Sequence[str]) -> Build:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "doit", *words], cwd=world.root, text=True, check=False,
            capture_output=True, env=world.environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Build(done.returncode, done.stdout, done.stderr)

    return run


def _without(path: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: in a mount namespace where this command is hidden."""
    return _prefixed(
        "unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null "$0"; exec "$@"', path
    )


@pytest.mark.root
def test_not_root(fresh: World, site_lock: str) -> None:
    # A user namespace without a map: this process is nobody, and may still read and write here.
    fresh.write("web.lock", site_lock)
    says(refused(fresh, "build", "spec=web", run=_prefixed("unshare", "--user")),
         "lock: failed", "ERROR: building / needs root", "sudo")  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("path", "name", "package"),
    [
        ("/usr/bin/apt-get", "apt-get", "apt"),
        ("/usr/bin/mmdebstrap", "mmdebstrap", "mmdebstrap"),
        ("/usr/sbin/mke2fs", "mke2fs", "e2fsprogs"),
        pytest.param("/usr/lib/apt/apt-helper", "apt-helper", "apt", marks=pytest.mark.nightly),
        pytest.param(
            "/usr/bin/apt-ftparchive", "apt-ftparchive", "apt-utils", marks=pytest.mark.nightly
        ),
        pytest.param("/usr/bin/unshare", "unshare", "util-linux", marks=pytest.mark.nightly),
        pytest.param("/usr/sbin/resize2fs", "resize2fs", "e2fsprogs", marks=pytest.mark.nightly),
    ],
)
def test_missing_tool(request: pytest.FixtureRequest, path: str, name: str, package: str) -> None:
    late = name in ("unshare", "resize2fs")
    world: World = request.getfixturevalue("built" if late else "fresh")
    world.edit("packages: [beta]", "packages: [beta, delta]")
    world.doit("lock", "spec=web")
    says(refused(world, "build", "spec=web", run=_without(path)),
         f"ERROR: the host has no command {name}", f"apt-get install {package}")  # fmt: skip


@pytest.mark.root
def test_missing_gpgv(fresh: World) -> None:
    if Path("/usr/bin/sqv").exists():  # apt 3 asks that one, which it depends on
        assert _without("/usr/bin/gpgv")(fresh, ["lock", "spec=web"]).code == 0
        return
    says(refused(fresh, "build", "spec=web", run=_without("/usr/bin/gpgv")),
         "repos.main (", "this host has nothing to check its signature with",
         "apt-get install gpgv")  # fmt: skip
