"""What a report says of one spec, as `commands/report` found it; None or empty is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..plan.difference import Difference
from ..rootfs.licences import NONE, Licences
from ..rootfs.stacked import Sizes
from ..store.history import Build


class Lacking(NamedTuple):
    """What a report cannot tell, why, and the command that helps."""

    what: str
    why: str
    command: str = ""


class Image(NamedTuple):
    """An image of the plan: its size in bytes is None where the cache has none."""

    mount: str
    file: str
    size: int | None


class Failure(NamedTuple):
    """The stage that ended the last build, its log, and that log's last lines."""

    stage: str
    log: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of the lock; sizes in bytes, of the .deb and of its files in the tree.

    `origin` is what the Release of its repository calls itself.
    """

    name: str
    version: str
    layer: str
    repository: str
    origin: str
    security: bool
    deb: int
    size: int | None
    licences: Licences = NONE


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One spec; `builds` are the remembered ones, the newest last.

    `shown` is the newest build of which there is something to see, `before` the one like it before
    that. `changed` is between the two builds that it names, `uncompared` says why some is not told.
    """

    name: str
    error: str = ""
    lacking: Sequence[Lacking] = ()
    images: Sequence[Image] = ()
    graph: str = ""
    builds: Sequence[Build] = ()
    shown: Build | None = None
    before: Build | None = None
    failure: Failure | None = None
    changed: Difference | None = None
    uncompared: Sequence[str] = ()
    layers: Sequence[str] = ()
    sizes: Sizes | None = None
    packages: Sequence[Package] = ()
    version: str = ""

    @property
    def last(self) -> Build | None:
        """The newest build."""
        return self.builds[-1] if self.builds else None
