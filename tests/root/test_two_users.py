"""Two users of a host with one cache, and a checkout of somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.traces import make_small
from support.world import Build, World

pytestmark = pytest.mark.root


@pytest.fixture
def small(world: World) -> World:
    return make_small(world)


TEAM = 1234
"""A group of those who share a cache; nobody need have it in /etc/group."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user reaches, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="strata-shared-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def as_user(world: World, *words: str, env: Mapping[str, str] | None = None) -> Build:
    """doit by user 1000, who reads what root does (python may be in /root) but writes nothing."""
    done = subprocess.run(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups",
         "--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search",
         "--bounding-set", "-all,+dac_read_search",
         sys.executable, "-m", "doit", *words],
        cwd=world.root, text=True, check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env=world.environment(**(env or {})),
    )  # fmt: skip
    build = Build(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in build.text, build.text
    return build


def test_two_users_with_one_cache(small: World, shared: Path) -> None:
    small.env["STRATA_CACHE"] = str(shared / "cache")
    small.write("scripts/app.sh", "#!/bin/sh\nset -e\nmkdir -p /boot /root\numask 077\n"
                "echo k > /root/secret\n", 0o755)  # fmt: skip
    (shared / "cache").mkdir()
    os.chown(shared / "cache", 0, TEAM)
    (shared / "cache").chmod(0o2755)
    old = os.umask(0o077)
    try:
        small.build()
    finally:
        os.umask(old)
    for path in (shared / "cache").rglob("*"):
        if "index" not in path.parts:
            mode = path.stat().st_mode & 0o777
            lock = path.name == ".lock" or path.parent.name == "locks"
            # Of the layer that has a secret, and of images that are made of it.
            private = path.suffix in (".zst", ".gz") and not path.name.startswith("base-")
            assert mode == (0o755 if path.is_dir() else 0o666 if lock else 0o640 if private
                            else 0o644), path  # fmt: skip
    # Who is of the cache's group reads it, and nobody else.
    tarball = next((shared / "cache/layers").glob("layer-*.tar.zst"))
    assert tarball.stat().st_gid == TEAM
    for groups, read in (([f"--groups={TEAM}"], True), (["--clear-groups"], False)):
        argv = ["setpriv", "--reuid", "1000", "--regid", "1000", *groups, "cat", str(tarball)]
        done = subprocess.run(argv, check=False, capture_output=True)
        assert (done.returncode == 0, done.stdout == tarball.read_bytes()) == (read, read)
    mine = small.clone(shared / "mine")
    for path in (mine.root, *mine.root.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    mine.env = {"STRATA_CACHE": str(shared / "cache"), "STRATA_SCRATCH": str(shared / "mine/tmp")}
    for words in (["keys", "spec=web"], ["why", "spec=web"], ["list", "spec=web"],
                  ["build", "spec=web"], ["build", "spec=web", "lock=frozen"], ["verify"]):  # fmt: skip
        build = as_user(mine, *words)
        assert build.code == 0, build.text
    assert set(mine.results().values()) == {"hit"}
    assert mine.outputs() == small.outputs()
    # What the user may not do is one clear message.
    mine.edit("format: ext2", "format: ext3")
    build = as_user(mine, "build", "spec=web")
    assert build.code == 1
    assert "building /boot needs root" in build.err
    build = as_user(mine, "prune")
    assert build.code == 1
    assert "Permission denied" in build.err
    assert "STRATA_CACHE" in build.err
    # And root goes on with what the user's runs touched.
    assert set(small.build().values()) == {"hit"}
    right_cache = json.loads(small.doit("keys", "spec=web", "format=json").out)["stages"]
    assert all(Path(small.root, name).exists() for one in right_cache for name in one["files"])


def test_a_checkout_of_another_user_can_be_read(small: World, shared: Path) -> None:
    theirs = small.clone(shared / "theirs")
    theirs.env = {"STRATA_SCRATCH": str(shared / "tmp")}
    shutil.copytree(small.root / "specs", theirs.root / "specs", dirs_exist_ok=True)
    assert as_user(theirs, "list", "--all").code == 0
    build = as_user(theirs, "build", "spec=web")
    assert build.code == 1
    assert "Permission denied" in build.err
    assert build.err.count("\n") <= 2
    theirs.doit("build", "spec=web")
    for words in (["keys", "spec=web"], ["why", "spec=web"], ["list", "spec=web"]):
        build = as_user(theirs, *words)
        assert build.code == 0, build.text
