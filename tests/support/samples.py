"""Small specs, locks and hosts: what the tests of pure functions begin with."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from tasks.formats.filesystem import Making
from tasks.formats.footprint import Footprint
from tasks.host.log import Log
from tasks.plan.containers import GZIP_TOOL
from tasks.plan.lockfile import Lock, LockedLayer, LockedRepo, Record
from tasks.plan.plan import tools_for
from tasks.plan.stage import Host
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

SCHEMA = Path(__file__).resolve().parents[2] / "specs" / "spec.schema.json"


REPO = {"name": "main", "uri": "${mirror}", "suite": "stable", "section": "main"}


IMAGE = {"file": "a.img.gz", "format": "ext4"}


PLAIN = """\
repos:
  - &deb {name: main, uri: "${mirror}", suite: stable, section: main}
images:
  /: {file: a.img, format: ext4}
"""
"""The least spec, as a text."""


class _Named(io.BytesIO):
    """What libyaml takes the name for its marks from."""

    name = ""


@functools.cache
def _quick() -> Any:
    """SafeLoader whose events are libyaml's, and whose nodes PyYAML's: Strata's loader counts them."""
    if not yaml.__with_libyaml__:
        return yaml.SafeLoader

    class Quick(yaml.composer.Composer, yaml.CSafeLoader):
        def __init__(self, stream: bytes) -> None:
            yaml.CSafeLoader.__init__(self, _Named(stream))
            yaml.composer.Composer.__init__(self)

    return Quick


@contextmanager
def json_is_read_quickly(path: Path) -> Iterator[None]:
    """Let libyaml, where there is one, read what is JSON of ours and no test of reading YAML.

    PyYAML's own scanner, which is Strata's, takes most of the time of such a test.
    """
    with (
        mock.patch.object(yaml, "SafeLoader", _quick()),
        mock.patch.object(_Named, "name", str(path)),
    ):
        yield


def load(folder: Path, text: str = "", **fields: Any) -> Spec:
    """The spec `web` of a YAML text, or of these fields beside the least that a spec must have."""
    folder.mkdir(exist_ok=True)
    path = folder / "web.yaml"
    if text:
        path.write_text(text, encoding="utf-8")
        return load_spec(path, schema=SCHEMA)
    path.write_text(json.dumps({"repos": [REPO], "images": {"/": IMAGE}, **fields}))
    with json_is_read_quickly(path):
        return load_spec(path, schema=SCHEMA)


def record(package: str, version: str = "1", architecture: str = "amd64", **fields: Any) -> Record:
    """A locked .deb, whose digest is of its name, version and architecture unless given."""
    name = f"{package}_{version}_{architecture}"
    known = {"sha256": hashlib.sha256(name.encode()).hexdigest(), "size": 1,
             "path": f"pool/{name}.deb", "repository": "main", **fields}  # fmt: skip
    return Record(package=package, version=version, architecture=architecture, **known)


def lock(
    base: Sequence[Record], layers: Mapping[str, Sequence[Record]] | None = None, **fields: Any
) -> Lock:
    """A lock of a base and of layers that remove nothing."""
    known = {
        "inputs": "0" * 32,
        "arch": "amd64",
        "repos": (LockedRepo(name="main", release="a" * 64, date="", fields={"Origin": "Test"}),),
        "layers": tuple(
            LockedLayer(name=name, records=tuple(records), removes=())
            for name, records in (layers or {}).items()
        ),
        **fields,
    }
    return Lock(base=tuple(base), **known)


def host(spec: Spec, **fields: Any) -> Host:
    """A host that has each tool in version 1 and no files for the spec's layers."""
    known = {
        "tools": dict.fromkeys([*tools_for(spec), *GZIP_TOOL.values()], "1"),
        "files": {layer.name: [] for layer in spec.layers},
        "scripts": {},
        "debconf": {
            "base": list(spec.base.debconf),
            **{layer.name: list(layer.debconf) for layer in spec.layers},
        },
        "settings": {},
        "epoch": None,
        **fields,
    }
    return Host(**known)


def making(folder: Path, kind: str, **fields: Any) -> Making:
    """A filesystem of this kind that is about to be made of nothing."""
    content = Footprint(
        size=0, apparent=0, inodes=1, several_xattrs=False, sparse=False, entries={}
    )
    return Making(**{
        "raw": folder / "raw", "kind": kind, "label": "", "uuid": "id", "options": (),
        "direct": False, "size": None, "free": None, "content": content, "epoch": 1,
        "spec": "specs/x.yaml", "mount": "/", "log": Log(None), "private": folder,
        "nowhere": folder, "env": {}, **fields,
    })  # fmt: skip
