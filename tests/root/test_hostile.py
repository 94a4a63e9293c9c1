"""Hostile packages in real builds: whatever their scripts try, the host stays as it was."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.hosts import ATTEMPTS, Host, unchanged
from support.tally import TALLY
from support.world import PROJECT, World

pytestmark = pytest.mark.root

PLACES = ("/tmp", "/var/tmp", "/etc", "/usr", "/root", "/home", "/opt", "/srv", "/mnt", "/boot")
"""Where a host keeps what is its own: programs, settings, users' files, and what is for the moment."""


def newer(than: Path, older: Sequence[Path]) -> list[str]:
    """What was made or changed in PLACES after a file, but for what tests have there themselves.

    By ctime, which no program can set back. A file that is gone again shows by its folder's, but for
    /tmp and /var/tmp, which are for such; of these two, what other users had there before (`older`)
    is theirs to change.
    """
    left_out = [*(re.escape(str(path)) for path in (PROJECT, *older)),
                "/tmp/(pytest-of-|strata-shared-|gpg-)[^/]*"]  # fmt: skip
    said = subprocess.run(
        ["find", *PLACES, "-xdev", "-regextype", "posix-extended", "-regex", "|".join(left_out),
         "-prune", "-o", "-cnewer", than, "-print"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    # Another program's file may go while find looks at it.
    assert all("No such file" in line for line in said.stderr.splitlines()), said.stderr
    return [path for path in said.stdout.splitlines() if path not in ("/tmp", "/var/tmp")]


def contained(world: World, host: Host, stage: str) -> None:
    """Build a stage: nothing of the host changes, and no file outside Strata's own folders.

    Somebody else may work on this host, too, so what is found is looked for again after another
    build of the stage: a package that can leave something there does it each time, if under a name
    that ends in other letters.
    """
    stamp, layers = world.root.parent / "stamp", world.root / "cache/layers"
    entries = set(layers.iterdir())
    each: set[str] | None = None
    for _ in range(4):
        older = [path for top in ("/tmp", "/var/tmp") for path in Path(top).iterdir()
                 if path.is_dir() and not path.is_symlink()]  # fmt: skip
        stamp.touch()
        time.sleep(0.02)  # the clock of files ticks every 10 ms at the least
        with unchanged(host):
            host.doit(world, stage, "spec=web")
        with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="strata-probe-") as probe:
            left = newer(stamp, older)
            assert probe.name in left, "nothing is found at all"
            left.remove(probe.name)
        shapes = {re.sub(r"[A-Za-z0-9_-]{6,}$", "*", path) for path in left}
        each = shapes if each is None else each & shapes
        if not each:
            return
        for path in set(layers.iterdir()) - entries:
            path.unlink()
    pytest.fail(f"left or changed outside: {each}")


def out_of(world: World, pattern: str, member: str) -> str:
    """The text of one member of the newest tarball in the cache that matches."""
    path = max(
        (world.root / "cache/layers").glob(pattern), key=lambda path: path.stat().st_mtime_ns
    )
    return subprocess.run(["tar", "--extract", "--to-stdout", "--file", path, member],
                          check=True, capture_output=True, text=True).stdout  # fmt: skip


def judge(text: str) -> None:
    """Every attempt was made, and every one failed."""
    results = dict(line.split("\t", 1) for line in text.splitlines())
    assert {name: got for name, got in results.items() if not got.startswith("no: ")} == {}
    mistakes = {name: got for name, got in results.items()
                if re.search(r"line \d+|nothing happens|killed by", got)}  # fmt: skip
    assert mistakes == {}
    assert set(results) >= {*ATTEMPTS, "end"}
    assert len(results) >= 160
    TALLY["hostile attempts"] += len(results) - 1  # `end` is none


def test_hostile_postinst_of_a_layer(built: World, host: Host) -> None:
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": host.attack()}))
    contained(built, host, "layer:app")
    judge(out_of(built, "layer-*.tar.zst", "./var/lib/attack"))


@pytest.mark.parametrize(
    "tool", ["mmdebstrap", pytest.param("debootstrap", marks=pytest.mark.nightly)]
)
def test_hostile_postinst_of_the_base(built: World, host: Host, tool: str) -> None:
    """There the host's own tools run: what leaves their chroot finds a root with nothing in it."""
    built.add(built.deb("villain", "1", priority="required", essential=True,
                        extra={"Pre-Depends": "perl-base"},
                        scripts={"postinst": host.attack()}))  # fmt: skip
    if tool == "debootstrap":
        built.edit("{tool: mmdebstrap, variant: apt}", "{tool: debootstrap, variant: minbase}")
    contained(built, host, "base")
    judge(out_of(built, "base-*.tar.zst", "./var/lib/attack"))


def test_kill_everything_and_a_terminal(built: World, host: Host) -> None:
    """A script that prints its environment and commands for a terminal, then kills all it can."""
    script = r"""
        env | sed 's/^/E: /'
        printf 'E: \033]0;owned\007\033[2J\n'
        cat /dev/.strata/in/* 2> /dev/null | head -n 50
        kill -INT 1; kill -9 1
        kill -9 -1
        exit 9
    """
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": script}))
    built.doit("lock", "spec=web")
    with unchanged(host):
        build = host.doit(built, "layer:app", "spec=web", "lock=frozen", check=False)
    assert build.code == 1
    assert build.err.count("ERROR: ") == 1
    assert "layer app failed (exit status 137)" in build.text
    assert "Traceback" not in build.text
    assert "E: ?]0;owned??[2J" in build.text
    log = (built.root / "out/web/log/layer-app.log").read_text()
    assert "E: PATH=" in log
    for text in (build.text, log):
        assert host.mark not in text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
