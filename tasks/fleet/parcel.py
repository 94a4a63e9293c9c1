"""What crosses the wire: a job with where its parents are, and the facts of what came of it.

A job may hold passwords, so a parcel shows nothing of what is in it to whoever prints it: Dask
writes the arguments of a task that fails into its logs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe
from ..plan.job import Job
from ..plan.job_json import dump, load
from ..plan.top_jobs import FileJob

MODULE = "strata.fleet.work"
"""Where a worker finds what makes a stage: the name under which Strata is installed."""

BUILT, THERE, FAILED, UNFIT = "built", "there", "failed", "unfit"
"""What came of a task: made; another had made it; its own error, which is final; or this worker
cannot make it, and another one may."""

RESOURCE = "strata"
"""What a worker must have one of for each stage that it makes at a time: --resources strata=1."""


class Parcel:
    """A task as text, as it is sent."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<a stage's job>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text,)


HELD_LIMIT = 64 << 20
"""Bytes of the project's files that a disk's job carries: the scheduler has all jobs in memory."""


def carrying(job: Job, root: Path) -> Job:
    """The same for a machine without the project: a disk's files of it go along, from below `root`.

    BuildError for one that cannot be read, or where they are too large for that.
    """
    if not isinstance(job, FileJob) or not job.disk.sources:
        return job
    disk, held, left = job.disk, dict[str, bytes](), HELD_LIMIT
    for name, path in sorted(disk.sources.items()):
        where = f"{job.spec}: disks.{disk.disk.name}.partitions.{name}.source"
        try:
            with open(safe.inside(path, root), "rb") as file:
                held[name] = file.read(left + 1)
        except OSError as error:
            raise BuildError(f"{where}: {path} cannot be read: {error.strerror}") from error
        left -= len(held[name])
        if left < 0:
            raise BuildError(
                f"{where}: {path}: workers elsewhere are sent {HELD_LIMIT >> 20} MiB of a disk's "
                "files at the most",
                "build the disk here, with the same cache=: all else that it is made of is there",
            )
    return replace(job, disk=replace(disk, held=held))


@dataclass(frozen=True, kw_only=True)
class Errand:
    """All that a worker is told."""

    version: str
    job: Job
    caches: str
    """Addresses of the shared caches, "" for none."""
    mode: str
    trust: str
    uris: Mapping[str, str]
    past: Mapping[str, tuple[str, ...]]
    mirrors: Mapping[str, str]
    """What ${mirror} and its kin stand for where the fleet was started: in `uris`, too."""
    proxies: Mapping[str, str]
    direct: tuple[str, ...]
    secrets: tuple[str, ...]
    """What no line that comes back may have."""
    like: str
    """Its name on hosts with other tools, and the `tools` of this one: see plan/likeness.py."""
    tools: Mapping[str, str]
    checkout: str = ""
    """The folder of the checkout whose cache the worker uses: of this machine's own workers."""
    cache: str = ""
    log: str = ""
    """The log file, below that checkout."""

    def packed(self) -> str:
        """As text; OSError where a file that the job names cannot be read."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps({name: dump(value) for name, value in fields.items()})


def unpacked(text: str) -> Errand:
    """The errand that `packed` wrote. ValueError, KeyError or TypeError for another text."""
    fields = {name: load(value) for name, value in json.loads(text).items()}
    return Errand(**fields)


@dataclass(kw_only=True)
class Outcome:
    """What a worker tells of a stage; texts have no secrets any more."""

    result: str
    seconds: float = 0.0
    bytes: int = 0
    worker: str = ""
    """Its name."""
    address: str = ""
    message: str = ""
    hint: str = ""
    tail: list[str] = field(default_factory=list)
    """The last lines of the log, where it failed."""
    said: list[str] = field(default_factory=list)
    """Warnings."""

    def plain(self) -> dict[str, Any]:
        """As values that need no code of Strata's where they are read."""
        return asdict(self)
