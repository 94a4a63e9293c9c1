"""The fields of a spec that are written into the finished tree: as their key and as files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ..debian import apt
from ..spec.model import Spec, masked
from .entries import Entry
from .lockfile import Lock
from .passwords import shadow_field
from .repositories import expand, signed_by, signed_identity


def settings_identity(spec: Spec, lock: Lock, mirrors: Mapping[str, str]) -> dict[str, Any]:
    """What the key of the layer `settings` sees; of a password only a digest of its crypt(5)."""
    settings = spec.settings
    shadow = shadow_field(spec, lock)
    fields = {repo.name: repo.fields for repo in lock.repos}
    pins = [(repo.name, repo.priority, fields[repo.name]) for repo in spec.repos]
    return {
        "hostname": settings.hostname,
        "timezone": settings.timezone,
        "locale": settings.locale,
        "password": hashlib.sha256(shadow.encode()).hexdigest() if shadow else "",
        # The one place where an address is content: it is written into the image.
        "apt_sources": [
            [
                repo.name,
                masked(expand(repo.uri, mirrors, spec)),
                repo.suite,
                repo.section,
                repo.priority,
                repo.trusted,
                signed_identity(repo, spec, lock),
            ]
            for repo in spec.repos
        ]
        if settings.apt_sources
        else [],
        "pins": apt.preferences(
            pins, where=spec.path, sites=False, pins={repo.name: repo.pins for repo in spec.repos}
        )
        if settings.apt_sources
        else "",
    }


def setting_files(values: Mapping[str, str]) -> list[Entry]:
    """The files that `hostname`, `timezone` and `locale` make, by those of them that are set."""
    found: list[Entry] = []
    if hostname := values.get("hostname", ""):
        short = hostname.partition(".")[0]
        names = f"{hostname} {short}" if short != hostname else short
        found.append(made_file("/etc/hostname", hostname + "\n"))
        hosts = (
            f"127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n"
            "ff02::2\tip6-allrouters\n"
        )
        found.append(made_file("/etc/hosts", hosts))
    if timezone := values.get("timezone", ""):
        found.append(made_file("/etc/timezone", timezone + "\n"))
        target = f"/usr/share/zoneinfo/{timezone}".encode()
        found.append(
            Entry(
                target="/etc/localtime",
                kind="link",
                source=None,
                content=target,
                mode=0o777,
                owner="0:0",
            )
        )
    if locale := values.get("locale", ""):
        found.append(made_file("/etc/default/locale", f"LANG={locale}\n"))
    return found


def made_file(target: str, text: str | bytes) -> Entry:
    """A file of root's that a field of the spec makes."""
    content = text.encode() if isinstance(text, str) else text
    return Entry(target=target, kind="file", source=None, content=content, mode=0o644, owner="0:0")


def apt_files(spec: Spec, lock: Lock, uris: Mapping[str, str]) -> list[Entry]:
    """/etc/apt of an image that keeps its repositories, without any user or password."""
    found: list[Entry] = []
    locked = {repo.name: repo for repo in lock.repos}
    sources = []
    for repo in spec.repos:
        path, content = signed_by(repo, spec, lock)
        if content:
            found.append(made_file(path, content))
        signed = f"Signed-By: {path}\n" if path else ""
        uri = apt.without_user(uris[repo.name])
        sources.append(
            apt.source(uri, repo.suite, repo.components, trusted=repo.trusted, extra=signed)
        )
    found.append(made_file("/etc/apt/sources.list.d/strata.sources", "\n".join(sources)))
    pins = apt.preferences(
        [(repo.name, repo.priority, locked[repo.name].fields) for repo in spec.repos],
        where=spec.path,
        sites=False,
        pins={repo.name: repo.pins for repo in spec.repos},
    )
    if pins:
        found.append(made_file("/etc/apt/preferences.d/strata", pins))
    return found
