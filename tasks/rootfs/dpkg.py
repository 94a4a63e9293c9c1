"""dpkg's and apt's state in a tree: what is installed, and what was asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..debian import deb822
from ..errors import BuildError
from ..plan.lockfile import Record
from ..spec.model import LAST_EPOCH
from .paths import find_in, mode_of, plain_folder

STATUS_LIMIT = 64 << 20
"""Bytes of a dpkg status that are read: Debian's whole archive installed would take no more."""


def write_marks(tree: Path, auto: Sequence[str]) -> None:
    """Mark packages, by name:arch, as installed for what needs them: apt's extended_states.

    A bootstrap tool installs by dpkg alone, and to apt all without a mark was asked for.
    """
    if not auto:
        return
    folder = plain_folder(tree, "var/lib/apt")
    path = folder / "extended_states" if folder else tree
    if not folder or (os.path.lexists(path) and not stat.S_ISREG(mode_of(path))):
        raise BuildError(
            "base: /var/lib/apt is not as apt makes it: packages cannot be marked",
            "a package of the base replaced it",
        )
    marked = set(auto)
    if path.exists():  # a package's script has called apt-mark
        text = path.read_text(encoding="utf-8", errors="replace")
        marked |= {":".join(slot) for slot in deb822.marked_auto(text)}
    path.write_text(deb822.extended_states(sorted(marked)), encoding="utf-8")
    path.chmod(0o644)


def deb_epoch(debs: Sequence[Path]) -> int:
    """The newest build date, in seconds, that .debs carry: the ar header's date, deb(5).

    It is a part of the file, so the same .debs give the same date, and no Release's churn is in it.
    """
    newest = 0
    for path in debs:
        with path.open("rb") as file:
            head = file.read(68)
        if head[:8] != b"!<arch>\n":
            raise BuildError(f"{path}: not a .deb")
        date = head[24:36].strip()
        newest = max(newest, int(date) if date.isdigit() else 0)
    return min(newest, LAST_EPOCH)


def dpkg_status(folder: Path, lower: Sequence[str]) -> str:
    """dpkg's status text in a stack of trees; "" unless it is a plain file.

    A package's script may have put a link to a file of the host there, or a FIFO.
    """
    path = find_in(folder, lower, "var/lib/dpkg/status")
    if path is None or not stat.S_ISREG(mode_of(path)):
        return ""
    if path.stat().st_size > STATUS_LIMIT:
        raise BuildError(
            "var/lib/dpkg/status in the tree is no dpkg status: it has "
            f"{path.stat().st_size} bytes",
            "a package's script wrote it",
        )
    return path.read_text(encoding="utf-8", errors="replace")


def check_installed(
    status: str, expected: Sequence[Record], arch: str, what: str, script: str = ""
) -> None:
    """BuildError unless a dpkg status text has exactly these packages, all of them configured.

    apt has installed what is locked, so that a `script` that ran after it is what changed that.
    """
    if expected and not status:
        raise BuildError(
            f"{what}: the tree has no /var/lib/dpkg/status any more that is a plain file",
            f"let the script {script} leave it alone"
            if script
            else "some package's script replaced it",
        )
    found: set[tuple[str, str, str]] = set()
    broken: list[str] = []
    for stanza in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in stanza.splitlines()
            if not line.startswith(" ") and ": " in line
        )
        if not fields:
            continue
        state = fields.get("Status", "unknown").rpartition(" ")[2]
        name = fields.get("Package", "?")
        if state == "installed":
            found.add((name, fields.get("Version", ""), fields.get("Architecture", "")))
        elif state not in ("not-installed", "config-files"):
            broken.append(f"{name} is {state}")
    wanted = {(record.package, record.version, record.architecture) for record in expected}
    wrong = broken
    wrong += [f"{name} {version} is missing" for name, version, _ in sorted(wanted - found)]
    wrong += [f"{name} {version} is not in the lock" for name, version, _ in sorted(found - wanted)]
    if wrong and script:
        gone = sorted(
            {name for name, _version, _arch in wanted - found}
            - {name for name, _version, _arch in found}
        )
        came = sorted({name for name, _version, _arch in found - wanted})
        said = [f"{name}-" for name in gone[:5]] + came[:5]
        raise BuildError(
            f"{what}: the script {script} changed which packages are installed, and the lock does "
            f"not know it: {'; '.join(wrong[:5])}",
            f"leave that to packages in place of the script: list {', '.join(said)} there"
            if said
            else "let the script leave packages as it found them",
        )
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BuildError(
            f"{what}: what is installed is not what is locked: {'; '.join(wrong[:5])}{more}",
            "lock again with lock=latest; if it stays, this is a bug",
        )
