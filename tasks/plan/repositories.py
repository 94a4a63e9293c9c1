"""Mirrors, addresses and keyrings: what a spec and the host say of repositories."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..debian import apt, deb822, distributions, signature, sources
from ..errors import BuildError
from ..spec.model import Repo, Spec, masked
from ..spec.moments import of_seconds
from ..spec.rules import address_fault, places
from .lockfile import Lock

# ---------------------------------------------------------------- mirrors

_DEBIAN = ("debian-archive-keyring", "debian-archive-keyring.gpg")

ARCHIVES = {"Debian": _DEBIAN, "Debian Backports": _DEBIAN,
            "Ubuntu": ("ubuntu-keyring", "ubuntu-archive-keyring.gpg")}  # fmt: skip
"""By a Release's Origin, the package with its archive's keyring and that one's name."""


MIRRORS = ("mirror", "security_mirror", "snapshot_mirror")
"""Names in `${}` whose addresses are the building host's; of the last it knows none by itself."""


ADDRESS = r"(https?://(?=[^/])([^\s\[\]\"'<>\\/]*@)?(\[[0-9A-Fa-f:.]+\](?=[:/]|$))?|file:/)[^\s\[\]\"'<>\\]*"
"""An address as a spec's `uri` has it; brackets only around a host of IPv6 (RFC 3986)."""


def find_mirrors(given: Mapping[str, str | None], spec: Spec | None = None) -> dict[str, str]:
    """What ${mirror} and its kin stand for: command line, environment, host's sources.

    `given` holds the command line's. Of the host's, those count that have the spec's architecture
    and are of its distribution, as far as it names one. A name that nothing defines is left out.
    """
    found: dict[str, str] = {}
    host_found: tuple[str, str] | None = None
    for number, name in enumerate(MIRRORS):
        value = given.get(name) or os.environ.get(f"STRATA_{name.upper()}")
        if not value and name != "snapshot_mirror":
            host_found = host_found or sources.host_mirrors(
                _host_sources(),
                arch=spec.arch if spec else "",
                wanted=(distribution(spec, "mirror"), distribution(spec, "security_mirror")),
                host=distributions.of_host(_host_text("/etc/os-release")),
                origin=_host_origin,
                read=_host_text,
            )
            value = host_found[number]
        if value:
            fault, hint = address_fault(value)
            if fault or not re.fullmatch(ADDRESS, value):
                raise BuildError(
                    f"{name}={masked(value)}: expected an http:, https: or file: address"
                    + (f"; {fault}" if fault else ""),
                    hint,
                )
            found[name] = value.rstrip("/")
    return found


def distribution(spec: Spec | None, name: str) -> str:
    """Whose archive ${name} is to be, by the repositories that it stands in; "" where none tells.

    A codename tells first, then the name of an archive's keyring, then a suite like `stable`.
    """
    repos = [repo for repo in spec.repos if f"${{{name}}}" in repo.uri] if spec else []
    told = [
        *(distributions.of_suite(repo.suite) for repo in repos),
        *(distributions.of_keyring(repo.keyring.name) for repo in repos if repo.keyring),
        *(distributions.of_class(repo.suite) for repo in repos if not repo.keyring),
    ]
    return next(filter(None, told), "")


def lacking(spec: Spec, mirrors: Mapping[str, str]) -> list[BuildError]:
    """What is to be said of each name in `${}` that the spec has and nothing here defines."""
    return [
        _unknown(name, spec)
        for name in MIRRORS
        if name not in mirrors and any(f"${{{name}}}" in repo.uri for repo in spec.repos)
    ]


def _unknown(name: str, spec: Spec) -> BuildError:
    whose = distribution(spec, name)
    of_whose = f" of {whose}" if whose else ""
    return BuildError(
        f"{spec.path}: ${{{name}}}: "
        + (
            "nothing says where a snapshot service is"
            if name == "snapshot_mirror"
            else f"this host's apt sources name no {name.replace('_', ' ')}{of_whose}"
        ),
        f"add {name}=ADDRESS, or set STRATA_{name.upper()}",
    )


def _host_sources() -> Iterator[str]:
    folder = Path("/etc/apt")
    paths = [
        folder / "sources.list",
        *sorted((folder / "sources.list.d").glob("*.list")),
        *sorted((folder / "sources.list.d").glob("*.sources")),
    ]
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue


def _host_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _host_origin(uri: str, suite: str) -> str:
    """The Origin of a source in the lists of the host's own apt, "" where it has none."""
    uri = re.sub(r"^mirror\+", "", uri)
    for name in ("InRelease", "Release"):
        path = f"/var/lib/apt/lists/{apt.list_name(uri.rstrip('/'))}_dists_"
        text = _host_text(path + apt.list_name(suite) + f"_{name}")
        if text:
            return deb822.release_fields(text).get("Origin", "")
    return ""


def expand(uri: str, mirrors: Mapping[str, str], spec: Spec) -> str:
    """An address with ${mirror} and its kin replaced; BuildError for one unknown."""
    for name in MIRRORS:
        mark = f"${{{name}}}"
        if mark in uri:
            if name not in mirrors:
                raise _unknown(name, spec)
            uri = uri.replace(mark, mirrors[name])
    if "$(ARCH)" in uri and spec.foreign:
        raise BuildError(
            f"{spec.path}: {masked(uri)}: $(ARCH) is another address for each architecture",
            "write one repository for each, with the architecture in place of $(ARCH)",
        )
    return uri.replace("$(ARCH)", spec.arch)  # as apt itself does (sources.list(5))


def read_from(repo: Repo, mirrors: Mapping[str, str], spec: Spec) -> str:
    """The address that a repository is read from: its own, or a snapshot's."""
    own = expand(repo.uri, mirrors, spec)
    if not repo.snapshot:
        return own
    if "snapshot_mirror" not in mirrors:
        raise BuildError(
            f"{spec.path}: repos.{repo.name}.snapshot: nothing says where a snapshot service is",
            "add snapshot_mirror=ADDRESS, or set STRATA_SNAPSHOT_MIRROR: an address below which "
            f"{_archive(own) or 'ARCHIVE'}/{repo.snapshot}/ is the archive as it was then",
        )
    if not _archive(own):
        raise BuildError(
            f"{spec.path}: repos.{repo.name}.snapshot: {masked(own)} has no path, whose last part "
            "names the archive",
            "write the snapshot's own address in uri: ${snapshot_mirror}/ARCHIVE/"
            f"{repo.snapshot}, and check_valid_until: false",
        )
    return f"{mirrors['snapshot_mirror']}/{_archive(own)}/{repo.snapshot}"


COPIED_AFTER = 12 * 3600
"""Seconds after its Date by which a service has copied a Release, and an archive keeps its .debs.

A service answers with its last copy before a moment: at the Date itself, that is the one before.
"""


def as_locked(spec: Spec, lock: Lock, mirrors: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Where a snapshot service has each repository as it was when it was locked, by its name.

    At the Release's Date, then COPIED_AFTER it. Without such a service nothing, nor of a repository
    whose Release has no Date.
    """
    found: dict[str, tuple[str, ...]] = {}
    dates = {repo.name: deb822.seconds(repo.date) for repo in lock.repos}
    for repo in spec.repos:
        date = dates.get(repo.name)
        if "snapshot_mirror" not in mirrors or "${snapshot_mirror}" in repo.uri or date is None:
            continue
        archive = _archive(expand(repo.uri, mirrors, spec))
        with contextlib.suppress(ValueError, OverflowError, OSError):
            if archive:
                found[repo.name] = tuple(
                    f"{mirrors['snapshot_mirror']}/{archive}/{of_seconds(moment)}"
                    for moment in (date, date + COPIED_AFTER)
                )
    return found


def _archive(uri: str) -> str:
    """What an archive is called: the last part of its address's path, "" without one."""
    return urlsplit(uri).path.rstrip("/").rpartition("/")[2]


def keyring_files(repo: Repo, spec: Spec) -> list[Path]:
    """The keyrings whose keys may sign a repository: the spec's one, or the host's archive ones.

    BuildError when the spec's is missing or no keyring at all is to be found.
    """
    if repo.keyring is not None:
        if not repo.keyring.is_file():
            raise BuildError(
                f"{spec.path}: repos.{repo.name}.keyring: {repo.keyring} is missing",
                places(repo.keyring, spec.path),
            )
        return [repo.keyring]
    shared = Path("/usr/share/keyrings")
    found = [shared / keyring for _package, keyring in ARCHIVES.values()]
    found += sorted(Path("/etc/apt/trusted.gpg.d").glob("*.*"))
    # Of the host's own, apt itself passes over what it cannot read.
    found = [
        path
        for path in dict.fromkeys(found)
        if path.suffix in (".gpg", ".asc")
        and path.is_file()
        and signature.keyring(path.read_bytes())[0]
    ]
    if not found and not repo.trusted:
        raise BuildError(
            f"{spec.path}: repos.{repo.name}: this host has no archive keyring",
            "apt-get install debian-archive-keyring, or name a keyring",
        )
    return found


def signed_by(repo: Repo, spec: Spec, lock: Lock) -> tuple[str, bytes]:
    """(path, content) of the keyring that an image's source of a repository names.

    The content is empty where the image has the file already, as a package of the archive's that
    also brings its next keys. ("", b"") for a repository that is trusted anyway.
    """
    if repo.keyring is not None and not repo.trusted:
        path = keyring_files(repo, spec)[0]
        keys, content = keys_of(path, repo, spec), path.read_bytes()
        # apt's own reader of armor takes a line of blanks for none, and finds no key then.
        blanks = re.search(rb"[ \t\r\f\v]$", content, re.MULTILINE)
        plain = content.startswith(b"-----BEGIN") and not blanks
        suffix = "asc" if plain else "gpg"
        return f"/etc/apt/keyrings/{repo.name}.{suffix}", content if plain else keys
    if repo.trusted:
        return "", b""
    fields = next(one.fields for one in lock.repos if one.name == repo.name)
    package, keyring = ARCHIVES.get(fields.get("Origin", ""), ("", ""))
    if not package:
        raise BuildError(
            f"{spec.path}: apt_sources: repos.{repo.name} needs a keyring: no keyring of the image "
            f"is known to verify what comes from {fields.get('Origin') or 'it'}",
            f"name the one that verifies it here in repos.{repo.name}.keyring",
        )
    shared = Path("/usr/share/keyrings") / keyring
    if any(record.package == package for record in lock.installed()):
        return str(shared), b""
    if not shared.is_file():
        raise BuildError(
            f"{spec.path}: apt_sources: repos.{repo.name}: neither the image nor this host has "
            f"{shared}",
            f"add {package} to packages, or name one in repos.{repo.name}.keyring",
        )
    return f"/etc/apt/keyrings/{repo.name}.gpg", keys_of(shared, repo, spec)


def signed_identity(repo: Repo, spec: Spec, lock: Lock) -> str | None:
    """What a key sees of it: the digest of what goes into the image, or the path that is there."""
    path, content = signed_by(repo, spec, lock)
    return hashlib.sha256(content).hexdigest() if content else path or None


def keys_of(path: Path, repo: Repo, spec: Spec) -> bytes:
    """The keys of a keyring as apt of any release reads them; BuildError for what holds none."""
    try:
        content, fault, hint = signature.keyring(path.read_bytes())
    except OSError as error:
        content, fault, hint = b"", f"cannot be read: {error.strerror}", ""
    if fault:
        raise BuildError(f"{spec.path}: repos.{repo.name}.keyring: {path} {fault}", hint)
    return content
