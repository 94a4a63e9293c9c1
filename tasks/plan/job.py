"""Jobs: what one stage is made of, as plain data, so that any machine can be given one.

Whoever builds one needs the parent's tarballs and the .debs beside it; job_json writes it for
another machine. A job may hold passwords: what holds one is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..spec.images import Image
from ..spec.model import Group, Services
from .accounts import Account
from .entries import Entry, Script
from .lockfile import Record
from .stage import Stage


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage to make; `spec` is the spec's file, as messages name it."""

    stage: Stage
    spec: str
    arch: str
    foreign: tuple[str, ...] = ()
    below: tuple[Stage, ...] = ()
    """The stages whose trees it stands on, from the bottom up."""
    made_of: tuple[Stage, ...] = ()
    """The stages above the tree whose files it is made of."""

    @property
    def arches(self) -> list[str]:
        """The architectures whose programs run in it, the image's own first."""
        return [self.arch, *self.foreign]


@dataclass(frozen=True, kw_only=True)
class Later:
    """What a stage further up will need, to be fetched beside the work of this one."""

    stage: Stage
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class BaseJob(Job):
    """A base: the locked packages, bootstrapped; `configured` unless they are only unpacked."""

    records: tuple[Record, ...]
    configured: bool
    answers: tuple[str, ...] = ()
    """debconf's."""
    later: tuple[Later, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LayerJob(Job):
    """Packages, files and a script on what is below; what of these it has is in its key, too."""

    records: tuple[Record, ...] = ()
    installed: tuple[Record, ...] = ()
    """All that is installed when it is done."""
    configured: bool = True
    has_apt: bool = True
    """Whether there is an apt below to install with."""
    answers: tuple[str, ...] = ()
    """debconf's, with the passwords of the layers below if packages may ask for them."""
    answers_below: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    given_below: Mapping[str, str] = field(default_factory=dict)
    """What `files` of the layers below gave: by target the layer's name."""
    groups: tuple[Group, ...] = ()
    users: tuple[Account, ...] = ()
    services: Services = field(default_factory=Services)
    scripts: tuple[Script, ...] = ()
    remove: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    """debconf's answers that no package will ask for any more."""


@dataclass(frozen=True, kw_only=True)
class SettingsJob(Job):
    """The fields of a spec that are written into the finished tree."""

    installed: tuple[Record, ...] = ()
    configured: bool = True
    timezone: str = ""
    locale: str = ""
    locales: tuple[str, ...] = ()
    """Those beside it."""
    entries: tuple[Entry, ...] = ()
    yields: tuple[str, ...] = ()
    """Targets of entries that the spec did not ask for: what a layer made there stays."""
    remove: tuple[str, ...] = ()
    docs: bool = True
    os_release: tuple[str, ...] = ()
    """IMAGE_ID and IMAGE_VERSION, or nothing."""
    shadow: str = ""
    """Root's field in shadow(5), or "" to leave it."""
    password_field: str = ""
    """The field of the spec that gave it."""


@dataclass(frozen=True, kw_only=True)
class ImageJob(Job):
    """A filesystem image of one mount point; of its `filesystem`, where a disk has that, too."""

    image: Image
    filesystem: Stage | None = None
