"""Small filesystems, made and shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tasks.formats import ext_bytes

UUID = "12345678-1234-4234-8234-123456789abc"


def make(raw: Path, tree: Path, *options: str, clock: int = 1_000_000_000) -> list[tuple[int, int]]:
    """An ext4 without checksums of a tree, made at `clock`; where its inodes are."""
    raw.unlink(missing_ok=True)
    raw.touch()
    os.truncate(raw, 8 << 20)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-E", f"hash_seed={UUID}", "-O",
         "^metadata_csum,^has_journal", "-d", tree, *options, raw],
        check=True, env={**os.environ, "E2FSPROGS_FAKE_TIME": str(clock)},
    )  # fmt: skip
    return ext_bytes.layout(shown(raw, "dumpe2fs"))


def shown(raw: Path, *command: str) -> str:
    """What a tool says of a filesystem."""
    return subprocess.run([*command, raw], check=True, capture_output=True, text=True,
                          env={"TZ": "UTC", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).stdout  # fmt: skip
