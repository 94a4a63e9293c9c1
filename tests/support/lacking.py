"""Runs of doit on a host that lacks something, in a mount namespace where that is hidden."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from support.world import Build, World

HIDE = """\
for path in $0; do
    if [ -d "$path" ]; then mount -t tmpfs none "$path"; else mount --bind /dev/null "$path"; fi
done
exec "$@"
"""


def prefixed(*prefix: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: as the last words of another command."""

    def run(world: World, words: Sequence[str]) -> Build:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "doit", *words], cwd=world.root, text=True, check=False,
            capture_output=True, env=world.environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Build(done.returncode, done.stdout, done.stderr)

    return run


def without(*paths: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: where these commands, files and folders are hidden."""
    return prefixed("unshare", "--mount", "sh", "-ec", HIDE, " ".join(paths))
