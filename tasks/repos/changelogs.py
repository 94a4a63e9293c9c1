"""What the archives' changelogs say of packages that a new lock has in another version.

A Release that was verified names the address; what is there is signed by nobody, so it is text for
people alone: bounded, printable, and of the very source and version, or it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from ..builder import Builder
from ..debian.changelog import Changelog, Source, address, new_entries, source_of
from ..errors import BuildError
from ..host.patience import timeout
from ..plan.changes import Change
from ..plan.lockfile import Lock, short_name
from ..spec.model import Spec
from ..spec.words import counted
from .snapshot import kept_snapshots

MOST = 100
"""Changelogs that are asked for."""

AT_ONCE = 4


def changelogs(
    spec: Spec, builder: Builder, lock: Lock, changes: Sequence[Change]
) -> list[Changelog]:
    """Those of what changed its version, as far as the repositories have them; once a source."""
    snapshots = kept_snapshots(spec, builder, lock) or []
    templates = {one.repo.name: one.fields.get("Changelogs", "") for one in snapshots}
    wanted = _wanted(lock, changes, templates)
    builder.log.step(f"asking for {counted(len(wanted), 'changelog')}")
    dead: set[str] = set()

    def ask(url: str) -> Changelog | None:
        source, packages, before = wanted[url]
        entries = new_entries(_text(url, builder, dead), source, before)
        if not entries:
            return None
        return Changelog(source=source.name, packages=tuple(packages), entries=entries)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [one for one in pool.map(ask, wanted) if one is not None]


def _wanted(
    lock: Lock, changes: Sequence[Change], templates: Mapping[str, str]
) -> dict[str, tuple[Source, list[str], str]]:
    """By the address: the source package, which packages of it changed, the version before."""
    records = {
        short_name(one.package, one.architecture, lock.arch): one for one in lock.installed()
    }
    found: dict[str, tuple[Source, list[str], str]] = {}
    for change in changes:
        record = records.get(change.name)
        if change.kind != "changed" or record is None or change.before is None:
            continue
        source = source_of(record.path, record.version)
        url = address(templates.get(record.repository, ""), source) if source else ""
        if source and url and (url in found or len(found) < MOST):
            found.setdefault(url, (source, [], change.before.version))[1].append(change.name)
    return found


def _text(url: str, builder: Builder, dead: set[str]) -> str:
    """What is at an address, cut off where it is too long; "" where nothing is to be had.

    `dead` are servers that gave no answer, which are not waited for again.
    """
    from ..remote.backend import Cut, RemoteFault
    from ..remote.http import Http
    from ..remote.web import arriving, bounded

    parts = urlsplit(url)
    if parts.netloc in dead:
        return ""
    try:
        web = Http(f"{parts.scheme}://{parts.netloc}", timeout(), first=False)
        try:
            with web.asked("GET", url.removeprefix(web.url)) as response:
                web.check(response, 200)
                return bounded(arriving(response), web.patience).decode("utf-8", "replace")
        finally:
            web.close()
    except (BuildError, RemoteFault) as error:
        if isinstance(error, Cut):
            dead.add(parts.netloc)
        builder.log.line(f"# {url}: {error}")
        return ""
