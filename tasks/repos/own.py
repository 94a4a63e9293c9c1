"""The project's own .debs, as apt sees them: one more repository, above all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..debian import apt
from ..errors import BuildError
from ..plan.debs import OwnDeb
from ..plan.lockfile import OWN, Lock, Record


def pins(debs: Iterable[OwnDeb], number: int, arch: str, priority: int) -> str:
    """apt_preferences by which apt takes these, of the site of this number, and no others.

    Before all other pins: of those for one version the first counts.
    """
    site = apt.site(number).partition("//")[2]
    return "".join(
        f"Package: {one.record.package}:{one.record.native(arch)}\n"
        f'Pin: origin "{site}"\nPin-Priority: {priority}\n\n'
        for one in debs
    )


def write_index(lists: Path, debs: Iterable[OwnDeb], number: int) -> str:
    """Put their index among apt's lists; the source for it, which must come before all others.

    Of one version that two have, with a size that is the same by chance, apt takes the first.
    """
    site = apt.site(number)
    index = "\n\n".join(f"{one.stanza}\nFilename: {one.record.sha256}.deb" for one in debs)
    (lists / f"{apt.list_name(site)}_._Packages").write_text(index + "\n", encoding="utf-8")
    return apt.source(site, "./", [], trusted=True)


def taken_as_given(
    debs: Sequence[OwnDeb], added: Sequence[Record], below: Lock, where: str
) -> None:
    """BuildError unless these very files are what comes with a layer, or are there `below` it."""
    was = {below.slot(one): one for one in below.installed()}
    now = {**was, **{below.slot(one): one for one in added}}
    for record in (one.record for one in debs):
        old, new = was.get(below.slot(record)), now.get(below.slot(record))
        name = f"{record.package} {record.version}"
        if old and old.version == record.version and old.sha256 != record.sha256:
            whose = old.path if old.repository == OWN else f"repository {old.repository}"
            raise BuildError(
                f"{where}: {record.path} is {name}, which a layer below has from {whose} with "
                "other bytes: dpkg takes it for the same",
                "give it another version",
            )
        if new is None or new.sha256 != record.sha256:
            taken = f"{new.package} {new.version}" if new is not None else "nothing"
            raise BuildError(
                f"{where}: {record.path} is {name}, and apt would take {taken} in its place",
                f"remove what asks for another version of {record.package}",
            )
