"""A spec as frozen dataclasses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .disks import BootTest, Disk, Export
from .images import Image
from .words import without_users

LAST_EPOCH = 4102444800
"""2100-01-01: what a .deb or a record says of its date is not believed beyond it."""


SETTINGS = ("hostname", "timezone", "locale")
"""Of a spec: those that packages' scripts may look at while they are installed."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """How the base chroot is bootstrapped."""

    tool: str
    variant: str
    include: tuple[str, ...]
    debconf: tuple[str, ...] = ()
    debconf_from: Mapping[str, str] = field(default_factory=dict)
    """Of the answers that a file gave, the `file:line` of each."""


@dataclass(frozen=True, kw_only=True)
class Repo:
    """One apt repository; `uri` may still hold ${mirror}."""

    name: str
    uri: str
    suite: str
    section: str
    priority: int | None
    keyring: Path | None
    trusted: bool
    check_valid_until: bool
    check_rollback: bool
    pins: tuple[tuple[str, int], ...]
    meta: Any
    snapshot: str = ""
    """The moment as of which it is read, as 20261120T000000Z; "" for now."""

    @property
    def flat(self) -> bool:
        """True for a repository without components, whose suite is a path."""
        return self.suite.endswith("/")

    @property
    def components(self) -> list[str]:
        """`section` apart."""
        return self.section.split()


@dataclass(frozen=True, kw_only=True)
class File:
    """One entry of a layer's `files`; exactly one of source and content is set.

    `names`: the source is a template, of which each `${name}` is replaced by these.
    """

    target: str
    source: Path | None
    content: str | None
    owner: str
    mode: int | None
    names: Mapping[str, str] | None = None
    owned: bool = False
    """Whether the spec says the owner, or it is what it is by default."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A folder that is put onto `/`; `modes` by path or pattern of paths in the image."""

    source: Path
    owner: str
    owned: bool
    modes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of a layer's `groups`."""

    name: str
    gid: int | None
    system: bool


@dataclass(frozen=True, kw_only=True)
class User:
    """A user of a layer's `users`; an empty text is what the spec leaves to useradd(8).

    `ssh_keys` are files or, with a space in them, the lines themselves. `sudo` is "", "password"
    or "nopasswd".
    """

    name: str
    uid: int | None
    groups: tuple[str, ...]
    comment: str
    shell: str
    home: str
    password: str
    hashed_password: str
    ssh_keys: tuple[Path | str, ...]
    sudo: str
    system: bool

    @property
    def place(self) -> str:
        """Its home, "" where only the tree knows it or it has none."""
        if self.home or self.name == "root":
            return self.home or "/root"
        return "" if self.system else f"/home/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Services:
    """Units by what becomes of them."""

    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()

    @property
    def given(self) -> dict[str, tuple[str, ...]]:
        """Those that there are, by systemctl's verb, in the order in which it is asked."""
        every = {"disable": self.disable, "enable": self.enable, "mask": self.mask}
        return {verb: units for verb, units in every.items() if units}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A script, with the variables that it alone is given."""

    path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = False


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Packages, accounts, files, services, then scripts, on the layer before."""

    name: str
    packages: tuple[str, ...] = ()
    debs: tuple[str, ...] = ()
    """Paths and patterns of the project's own .debs: see tasks.plan.debs."""
    debconf: tuple[str, ...] = ()
    debconf_from: Mapping[str, str] = field(default_factory=dict)
    """Of the answers that a file gave, the `file:line` of each."""
    groups: tuple[Group, ...] = ()
    users: tuple[User, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    files: tuple[File, ...] = ()
    services: Services = field(default_factory=Services)
    scripts: tuple[Run, ...] = ()
    remove: tuple[str, ...] = ()
    reads: tuple[str, ...] | None = None
    """What the spec itself says of which settings it looks at; None: what is found."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is written into the finished tree; empty when the spec sets none of it."""

    hostname: str
    timezone: str
    locale: str
    root_password: str
    hashed_root_password: str
    apt_sources: bool
    locales: tuple[str, ...] = ()
    """Those beside `locale`."""
    fstab: bool | None = None
    """None: by what else the spec has, see plan.fstab."""
    ssh_host_keys: str = ""
    """first-boot, none, or "": by what is locked, see plan.hostkeys."""
    version: str = ""
    """A text, git or date, see plan.image_version."""
    remove: tuple[str, ...] = ()
    docs: bool = True

    def __bool__(self) -> bool:
        return bool(self.given)

    @property
    def shown(self) -> dict[str, str]:
        """Those that packages' scripts may look at while they are installed."""
        return {name: value for name, value in self.given.items() if name in SETTINGS}

    @property
    def given(self) -> dict[str, str]:
        """The fields that the spec sets, with their texts."""
        values = {
            "hostname": self.hostname,
            "timezone": self.timezone,
            "locale": self.locale,
            "root_password": self.root_password,
            "hashed_root_password": self.hashed_root_password,
            "apt_sources": "true" if self.apt_sources else "",
            "locales": " ".join(self.locales),
            "fstab": "true" if self.fstab else "",
            "ssh_host_keys": self.ssh_host_keys.replace("none", ""),
            "version": self.version,
            "remove": " ".join(self.remove),
            "docs": "" if self.docs else "false",
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A whole spec; `path` is its file."""

    name: str
    path: Path
    arch: str
    base: Base
    repos: tuple[Repo, ...]
    layers: tuple[Layer, ...]
    recommends: bool
    allow_network: bool
    settings: Settings
    proxies: Mapping[str, str]
    direct: tuple[str, ...]
    images: tuple[Image, ...]
    disks: tuple[Disk, ...] = ()
    exports: tuple[Export, ...] = ()
    tests: tuple[BootTest, ...] = ()
    sbom: str = ""
    """packages or files: what the bills of materials beside the images name; "" for none."""
    provenance: bool = False

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """Architectures other than the image's own that its packages are asked for in."""
        wanted = (name for layer in self.layers for name in layer.packages)
        found = {_architecture(name) for name in (*wanted, *self.base.include)}
        return tuple(sorted(found - {"", "all", "any", "native", self.arch}))

    @property
    def answers(self) -> Iterator[str]:
        """debconf's, of the base and of all layers."""
        yield from self.base.debconf
        for layer in self.layers:
            yield from layer.debconf

    @cached_property
    def unreproducible(self) -> tuple[str, ...]:
        """The layers of which a script sees the network: what it fetches is in no key."""
        return tuple(
            layer.name for layer in self.layers if any(run.network for run in layer.scripts)
        )

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Strings that no log, record or metadata may show, the longest first."""
        hashes = {self.settings.hashed_root_password}
        found = {self.settings.root_password}
        for address in (*self.proxies.values(), *(repo.uri for repo in self.repos)):
            found |= address_secrets(address)
        for user in (user for layer in self.layers for user in layer.users):
            found.add(user.password)
            hashes.add(user.hashed_password)
        # `*` and `!` are none, and stand in many a line.
        found |= {text for text in hashes if len(text) > 3}
        for line in self.answers:
            _package, _question, kind, *value = debconf_fields(line)
            # A shorter one is no secret, and its letters are in every word.
            if kind == "password" and value and len(value[0]) > 3:
                found.add(value[0])
        return tuple(sorted((text for text in found if text), key=len, reverse=True))


def project_of(path: Path, name: str) -> Path:
    """The project of a spec's file: the folder that specs/ is in, where `team/web` is deeper."""
    return Path(os.path.normpath(path.parents[name.count("/")] / ".."))


def _architecture(package: str) -> str:
    return re.split(r"[=/]", package)[0].rstrip("+-").partition(":")[2]


def address_secrets(uri: str) -> set[str]:
    """The user and password of an address, as written: what must not be shown."""
    found: set[str] = set()
    netloc = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", uri).partition("/")[0]
    if "@" in netloc:
        userinfo = netloc.rpartition("@")[0]
        found |= {userinfo, userinfo.partition(":")[2]}
    return found - {""}


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """text without these secrets and without the user and password of any address."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return without_users(text)


def debconf_fields(line: str) -> list[str]:
    """Package, question, type and, if there is one, the value, as debconf-set-selections reads."""
    found = re.match(r"\s*(\S+)\s+(\S+)\s+(\S+)(?:\s(.*))?", line)
    return [text for text in found.groups() if text is not None] if found else []
