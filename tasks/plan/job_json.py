"""A job as JSON and back, for a machine that has nothing of this checkout.

`dump` writes all that a job holds of files with it. It may hold passwords.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..spec.disks import BootTest, Disk, DiskFile, Export, OciConfig, Partition
from ..spec.images import Image
from ..spec.model import Group, Services, User
from .accounts import Account
from .entries import Entry, Script
from .job import BaseJob, ImageJob, Later, LayerJob, SettingsJob
from .lockfile import Record
from .scripts import Program
from .stage import Stage
from .top_jobs import (
    BiosJob,
    BlobJob,
    DiskJob,
    EspJob,
    ExportJob,
    FileJob,
    FilesystemJob,
    TestJob,
    VerityJob,
)

_KINDS: dict[str, Any] = {
    one.__name__: one
    for one in (
        BaseJob,
        LayerJob,
        SettingsJob,
        ImageJob,
        Later,
        Stage,
        Record,
        Entry,
        Script,
        Program,
        Image,
        Group,
        User,
        Services,
        Account,
        FilesystemJob,
        EspJob,
        BiosJob,
        VerityJob,
        DiskJob,
        FileJob,
        BlobJob,
        ExportJob,
        TestJob,
        Disk,
        Partition,
        DiskFile,
        Export,
        OciConfig,
        BootTest,
    )
}


def dump(value: Any) -> Any:
    """A job, or a part of one, as JSON values; what files hold is in it, not their paths."""
    if isinstance(value, (Entry, Script)) and value.source is not None:
        value = dataclasses.replace(value, source=None, content=value.source.read_bytes())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: dump(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"kind": "map", "items": [[name, dump(one)] for name, one in value.items()]}
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [dump(one) for one in value]}
    if isinstance(value, list):
        return [dump(one) for one in value]
    if isinstance(value, bytes):
        return {"kind": "bytes", "base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Path):
        return {"kind": "path", "path": str(value)}
    return value


def load(value: Any) -> Any:
    """The job of what `dump` made; KeyError or TypeError for anything else."""
    if isinstance(value, list):
        return [load(one) for one in value]
    if not isinstance(value, dict):
        return value
    match value["kind"]:
        case "map":
            return {name: load(one) for name, one in value["items"]}
        case "tuple":
            return tuple(load(one) for one in value["items"])
        case "bytes":
            return base64.b64decode(value["base64"])
        case "path":
            return Path(value["path"])
        case kind:
            return _KINDS[kind](**{name: load(one) for name, one in value["fields"].items()})
