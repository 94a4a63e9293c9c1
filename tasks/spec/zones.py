"""Time zones as this host's tzdata knows them: whether there is one of a name, and near ones."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

FOLDER = Path("/usr/share/zoneinfo")

MAGIC = b"TZif"
"""How a compiled zone begins: RFC 8536."""


KIN = ("posix", "right")
"""Folders with each zone once more: near names are looked for outside of them."""


def unknown(name: str, folder: Path = FOLDER) -> tuple[str, list[str]] | None:
    """None if there is such a zone; else the version of the host's tzdata, and near names.

    Also None where the host has no tzdata: then only the image can tell.
    """
    if _is_zone(folder / name):
        return None
    version, listed = _listed(folder)
    kin, _, rest = name.partition("/")
    plain = rest if kin in KIN else name
    if plain in listed or _is_zone(folder / plain):
        # Old names and those folders are a package of their own since Debian 13; the list of
        # names has the old ones, and the image may be of an older release.
        return None
    names = sorted(listed | set(_compiled(folder)))
    if not names:
        return None
    return version, near(name, names)


def near(name: str, names: list[str]) -> list[str]:
    """Up to three names that may be meant: mistyped, in other letters, or of another region."""
    folded: dict[str, list[str]] = {}
    for one in names:
        folded.setdefault(one.casefold(), []).append(one)
        folded.setdefault(one.casefold().rpartition("/")[2], []).append(one)
    wanted = name.casefold().replace(" ", "_")
    close = difflib.get_close_matches(wanted, folded, 6, 0.75)
    if not close:  # another region, or none: the city alone
        close = difflib.get_close_matches(wanted.rpartition("/")[2], folded, 3, 0.75)
    found = list(folded.get(wanted.rpartition("/")[2], ()))
    found += [one for key in close for one in folded[key]]
    found += [one for one in names if one.startswith(f"{name}/")]
    return list(dict.fromkeys(found))[:3]


def _is_zone(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _listed(folder: Path) -> tuple[str, set[str]]:
    """Version and names of tzdata.zi, zic(8)'s input: zones, and links from old names."""
    try:
        lines = (folder / "tzdata.zi").read_text("ascii", "replace").splitlines()
    except OSError:
        return "", set()
    version = lines[0].rpartition(" ")[2] if lines and "version" in lines[0] else ""
    words = [line.split() for line in lines if line.startswith(("Z ", "L "))]
    return version, {line[1 if line[0] == "Z" else 2] for line in words if len(line) > 2}


def _compiled(folder: Path) -> list[str]:
    """Names of the zones that are there: for a host without tzdata.zi."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in KIN]
        here = Path(path)
        found += [str((here / name).relative_to(folder)) for name in files if _is_zone(here / name)]
    return found
