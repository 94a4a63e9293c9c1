"""Locks between processes and users, on files and folders: flock(2)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import BuildError
from .lockfiles import open_lock, still_there
from .process import POLL, check_signal

# ---------------------------------------------------------------- locks and scratch


def flocked(descriptor: int, kind: int) -> bool:
    """Whether flock(2) gives this lock at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    shared: bool = False,
    waiting: Callable[[str], None] = lambda _text: None,
) -> Iterator[None]:
    """Hold a lock on a file or folder, across processes and users; if we die it is free."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    told = False
    while True:
        descriptor = open_lock(path)
        try:
            # Asked again and again: no signal would end a thread that waits in flock(2).
            while not flocked(descriptor, kind):
                check_signal()
                if not told:
                    waiting("waiting for another build")
                told = True
                time.sleep(POLL)
            # Another process may have removed the file between our open and our lock.
            if still_there(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def try_lock(path: Path, *, make: bool = False) -> int | None:
    """A descriptor that holds an exclusive lock on path, or None: held, or nothing to lock.

    Nothing is made for those who look whether something may be removed, but with `make`.
    """
    try:
        descriptor = open_lock(path, make=make)
    except (OSError, BuildError):
        return None
    if flocked(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None
