"""What `files` puts into a tree: a tar, unpacked by the tree's own tar inside it."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ..host.sandbox import Step, step
from ..plan.entries import Entry
from ..spec.words import counted
from .inside import INSIDE, shell

# ---------------------------------------------------------------- files


def owner_steps(entries: Sequence[Entry], where: str) -> list[Step]:
    """Checks, made inside after the packages, that every owner named is an account there."""
    steps = []
    for owner, (user, group) in sorted({(entry.owner, entry.account) for entry in entries}):
        for value, table in ((user, "passwd"), (group, "group")):
            if value.isdecimal():
                continue
            message = (
                f"error: {where}: owner {owner!r}: the image has no {value!r} in "
                f"/etc/{table}; add it in a package or an earlier layer, or use a number"
            )
            steps.append(
                step(
                    "/bin/sh",
                    "-c",
                    f"getent {table} {shlex.quote(value)} > /dev/null || "
                    f"{{ echo {shlex.quote(message)}; exit 1; }}",
                )
            )
    return steps


class _Digested:
    """A file that is read once, with the SHA-256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.sha256.update(data)
        return data


def files_tar(target: Path, entries: Sequence[Entry], epoch: int) -> list[list[Any]]:
    """A tar of what `files` puts into the tree; it is unpacked by the tree's own tar inside it.

    Owners are names there: packages of the same layer may have made the accounts. Returns the
    identity of each entry as it was written: its source may be another by now than in the key.
    """
    identities: list[list[Any]] = []
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.target.lstrip("/"))
            info.mtime = epoch
            info.mode = entry.mode
            user, group = entry.account
            if user.isdecimal():
                info.uid = int(user)
            else:
                info.uname = user
            if group.isdecimal():
                info.gid = int(group)
            else:
                info.gname = group
            content: Any = io.BytesIO(entry.content)
            if entry.kind == "folder":
                info.type = tarfile.DIRTYPE
            elif entry.kind == "link":
                info.type = tarfile.SYMTYPE
                info.linkname = os.fsdecode(entry.content)
            elif entry.source is not None:
                content = entry.source.open("rb")
                info.size = os.fstat(content.fileno()).st_size
            else:
                info.size = len(entry.content)
            with content:
                given = _Digested(content)
                archive.addfile(info, given if info.isreg() else None)  # type: ignore[arg-type]
            identity = (
                entry.identified(given.sha256.hexdigest()) if info.isreg() else entry.identity()
            )
            identities.append(identity)
    return identities


def reached_steps(entries: Sequence[Entry], where: str) -> list[Step]:
    """Checks, made inside, that no link leads what was copied to where no image keeps it."""
    folders = sorted({os.path.dirname(entry.target) for entry in entries})
    message = (
        f"{where}|what is there is in no image: it is empty until the system boots; "
        "let the image make it at boot (tmpfiles.d(5)), or name another place"
    )
    return [
        shell("links-out", message, *folders[start : start + 500])
        for start in range(0, len(folders), 500)
    ]


def files_step(entries: Sequence[Entry]) -> Step:
    """Unpack them inside the tree, where no symlink leads out of it.

    A symlink in the place of a target is replaced, one on the way to it is followed, and folders
    that are there keep their owner and mode.
    """
    return unpack_step("files.tar", f"copying {counted(len(entries), 'file')}")


def unpack_step(name: str, title: str) -> Step:
    """Unpack a tar that the sandbox is given over the tree."""
    return step(
        "tar",
        "--extract",
        "--file",
        f"{INSIDE}/{name}",
        "--directory",
        "/",
        "--same-owner",
        "--same-permissions",
        "--keep-directory-symlink",
        "--no-overwrite-dir",
        title=title,
        shown="",
    )
