"""Specs with a disk, in a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.samples import REPO, SCHEMA, json_is_read_quickly
from tasks.spec.compose import Given
from tasks.spec.disks import Disk
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

FILES = {"web.qcow2": {"format": "qcow2"}}


ESP: dict[str, Any] = {"name": "esp", "mount": "/boot/efi"}


ROOT: dict[str, Any] = {"name": "root", "mount": "/", "size": "rest", "grow": True}


PLAIN: dict[str, Any] = {"name": "root", "mount": "/", "size": "rest"}


def load(folder: Path, *, given: Given | None = None, **fields: Any) -> Spec:
    """The spec specs/web.yaml of these fields, in a project with a script and a firmware."""
    specs = folder / "specs"
    specs.mkdir(exist_ok=True)
    (folder / "up.sh").write_text("true\n")
    (folder / "empty.sh").write_text("")
    (folder / "firmware.bin").write_bytes(b"x" * 3000)
    path = specs / "web.yaml"
    path.write_text(json.dumps({"repos": [REPO], **fields}))
    with json_is_read_quickly(path):
        return load_spec(path, schema=SCHEMA, given=given)


def disk(**fields: Any) -> dict[str, Any]:
    """A disk of 4 GiB with these fields."""
    return {"size": "4G", "files": FILES, **fields}


def one(folder: Path, *, images: Any = None, arch: str = "amd64", **fields: Any) -> Disk:
    """The disk of a spec that has no more."""
    more = {"images": images} if images else {}
    return load(folder, arch=arch, disks={"web": disk(**fields)}, **more).disks[0]


def a_disk(**fields: Any) -> dict[str, Any]:
    return {"disks": {"web": disk(**fields)}}


def export(**fields: Any) -> dict[str, Any]:
    return {"exports": {"x": fields}}
