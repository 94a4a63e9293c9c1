"""Commands that must succeed, and files that are written whole or not at all."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(argv: Sequence[str | Path], *, stdin: bytes = b"", env: Mapping[str, str] = {}) -> bytes:
    """Return what a command prints; raise RuntimeError with all of its words when it fails."""
    environ = {**os.environ, "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run(argv, input=stdin, capture_output=True, env=environ, check=False)
    if done.returncode:
        words = (done.stdout + done.stderr).decode(errors="replace")
        raise RuntimeError(f"{shlex.join(map(str, argv))}: exit code {done.returncode}\n{words}")
    return done.stdout


def write_whole(path: Path, data: bytes, mtime: int | None = None) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    if mtime is not None:
        os.utime(temporary, (mtime, mtime))
    temporary.replace(path)
