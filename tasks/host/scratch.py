"""Scratch: a folder for each process, removed at its end or by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import BuildError
from . import cachedir, safe
from .files import remove
from .lockfiles import open_lock
from .locks import flocked, locked, try_lock
from .tools import ENV


def scratch_root() -> Path:
    """Where builds unpack trees and make images; it needs room for about twice the tree."""
    return Path(os.environ.get("STRATA_SCRATCH") or ".doit/scratch").absolute()


OWN_SCRATCH = re.compile(r"build-[0-9]+-[0-9a-f]{8}")
"""The folders of builds in scratch, by name."""


@contextlib.contextmanager
def scratch_folder(told: Callable[[str], None] = lambda _text: None) -> Iterator[Path]:
    """A folder for this process alone, in this user's own folder of scratch, removed at the end.

    What a killed build left there is recognised by its free lock, and removed here; `told` hears of
    what is not Strata's.
    """
    root = safe.private(scratch_root() / f"strata-{os.geteuid()}")
    # ext: a folder of another name begins in another block group. In the group of trees that were
    # removed a moment ago, an ext4 without journal looks at each of their inodes for each new one:
    # unpacking took ten times as long. Other filesystems know no such flag.
    with contextlib.suppress(FileNotFoundError):  # no e2fsprogs: `lock` does without
        subprocess.run(["chattr", "+T", root], env=ENV, stderr=subprocess.DEVNULL, check=False)
    # The name comes first: a signal at any moment from here on removes the folder.
    path = root / f"build-{os.getpid()}-{secrets.token_hex(4)}"
    held = None
    try:
        with locked(root / ".lock"):
            foreign = [
                one
                for one in root.iterdir()
                if one.name not in (".lock", cachedir.NAME) and not OWN_SCRATCH.fullmatch(one.name)
            ]
            if cachedir.claim(root, foreign):
                _sweep_scratch(root)
            for one in foreign:
                told(f"{one}: it is not Strata's; left alone")
            path.mkdir(mode=0o700)
            held = try_lock(path / ".lock", make=True)
        yield path
    finally:
        remove(path)
        if held is not None:
            os.close(held)


def _sweep_scratch(root: Path) -> None:
    """Remove what killed builds left in scratch; with its lock held, who lives has a lock, too."""
    for old in root.iterdir():
        if not OWN_SCRATCH.fullmatch(old.name):
            continue
        try:
            descriptor = open_lock(old / ".lock", make=False)
        except FileNotFoundError:
            remove(old)  # killed before it had one, or while it was removed
            continue
        except (OSError, BuildError):
            continue
        if flocked(descriptor, fcntl.LOCK_EX):
            remove(old)
        os.close(descriptor)
