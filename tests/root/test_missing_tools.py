"""Who is not root, and hosts that lack a tool: each is named, with the package that has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.lacking import prefixed, without
from support.refusals import refused
from support.signing import SigningKey
from support.world import PROJECT, Build, World, says


@pytest.mark.root
def test_not_root(fresh: World, site_lock: str) -> None:
    # A user namespace without a map: this process is nobody, and may still read and write here.
    fresh.write("web.lock", site_lock)
    says(refused(fresh, "build", "spec=web", run=prefixed("unshare", "--user")),
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
    says(refused(world, "build", "spec=web", run=without(path)),
         f"ERROR: the host has no command {name}", f"apt-get install {package}")  # fmt: skip


@pytest.mark.root
def test_missing_gpgv(fresh: World) -> None:
    if Path("/usr/bin/sqv").exists():  # apt 3 asks that one, which it depends on
        assert without("/usr/bin/gpgv")(fresh, ["lock", "spec=web"]).code == 0
        return
    says(refused(fresh, "build", "spec=web", run=without("/usr/bin/gpgv")),
         "repos.main (", "this host has nothing to check its signature with",
         "apt-get install gpgv")  # fmt: skip


APT_KEY = [path for path in ("/usr/bin/apt-key", "/usr/bin/apt-config") if Path(path).exists()]
"""What apt, up to apt 2, asks by itself."""

NOEXEC = 'mount --bind "$0" "$0"; mount -o remount,bind,noexec "$0"; exec "$@"'


@pytest.mark.root
@pytest.mark.parametrize("run", [
    without(*APT_KEY), prefixed("unshare", "--mount", "sh", "-ec", NOEXEC, str(PROJECT / "tasks/repos/scripts")),
], ids=["no apt-key", "no script of ours may run"])  # fmt: skip
def test_signatures_are_checked_by_either(world: World, run: Callable[..., Build]) -> None:
    """By a script in apt-key's place, and by apt-key where that cannot be run."""
    locked = run(world, ["lock", "spec=web"])
    assert locked.code == 0, locked.text
    key = SigningKey("Somebody Else")
    world.repository.key = key
    world.add(world.deb("delta", "2"))
    key.close()
    says(
        refused(world, "lock", "spec=web", run=run),
        "repos.main (",
        "signed with a key that is not in its keyring",
    )
