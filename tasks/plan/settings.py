"""The fields of a spec that are written into the finished tree: as their key and as files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ..debian import apt
from ..spec.model import Spec, masked
from . import hostkeys
from .entries import Entry, made_file, made_link
from .lockfile import Lock
from .passwords import shadow_field
from .repositories import expand, signed_by, signed_identity


def settings_identity(
    spec: Spec, lock: Lock, mirrors: Mapping[str, str], version: str = ""
) -> dict[str, Any]:
    """What the key of the layer `settings` sees; of a password only a digest of its crypt(5).

    Empty where nothing is set: there is no such layer then, unless fstab makes it (see plan.fstab).
    """
    added = _added(spec, lock, version)
    return {**_fields(spec, lock, mirrors), **added} if spec.settings or added else {}


def _added(spec: Spec, lock: Lock, version: str) -> dict[str, Any]:
    """What later versions of Strata know: in the key only where it is set, or all were others."""
    settings = spec.settings
    found: dict[str, Any] = {}
    if locales := further_locales(spec):
        found["locales"] = locales
    if hostkeys.first_boot(spec, lock):
        found["ssh_host_keys"] = {
            "files": [entry.identity() for entry in hostkeys.entries()],
            # What nobody asked for yields to the user's own: see stages.inside.
            "asked": bool(settings.ssh_host_keys),
        }
    if settings.version:
        found["os_release"] = os_release(spec, version)
    if settings.remove:
        found["remove"] = sorted(settings.remove)
    if not settings.docs:
        found["docs"] = NO_DOCS
    return found


NO_DOCS = """\
# Of the spec's `docs: false`: dpkg(1) installs none of these.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/man/*
"""
"""A file of /etc/dpkg/dpkg.cfg.d; what is there already, stages/scripts/remove-docs.sh removes."""


BUILT_IN = ("C", "POSIX", "C.UTF-8", "C.utf8")
"""Locales that libc has: none of these is generated."""


def further_locales(spec: Spec) -> list[str]:
    """Those of `locales` that are to be generated, each once, but for `locale`."""
    there = {*BUILT_IN, spec.settings.locale}
    return sorted({*spec.settings.locales} - there)


def os_release(spec: Spec, version: str) -> list[str]:
    """IMAGE_ID and IMAGE_VERSION; os-release(5) has small letters, digits and . _ - in an ID."""
    name = re.sub(r"[^a-z0-9._-]+", "-", spec.name.lower()).strip("-")
    return [name or "image", version]


def _fields(spec: Spec, lock: Lock, mirrors: Mapping[str, str]) -> dict[str, Any]:
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
        found.append(made_link("/etc/localtime", f"/usr/share/zoneinfo/{timezone}"))
    if locale := values.get("locale", ""):
        found.append(made_file("/etc/default/locale", f"LANG={locale}\n"))
    return found


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
