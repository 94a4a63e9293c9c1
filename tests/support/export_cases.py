"""A spec with exports, its lock and a host: what plans of exports are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from support import samples
from support.samples import record
from tasks.plan.lockfile import Lock
from tasks.plan.stage import Host
from tasks.spec.model import Spec

Case = tuple[Spec, Lock, Host]


OCI = {"web-oci": {"format": "oci"}}


ALL: dict[str, Any] = {
    **OCI, "web.tar.zst": {"format": "tar", "container": "zstd"},
    "web.squashfs": {"format": "squashfs"},
}  # fmt: skip


def case(folder: Path, exports: dict[str, Any] = ALL, name: str = "web", **fields: Any) -> Case:
    spec = samples.load(folder, **{
        "packages": ["one"], "layers": [{"name": "app", "packages": ["three"]}],
        "fstab": False, "images": {"/": samples.IMAGE}, "exports": exports, **fields})  # fmt: skip
    spec = replace(spec, name=name, images=())
    lock = samples.lock([record("apt")], {"packages": [record("one")], "app": [record("three")]})
    return spec, lock, samples.host(spec)
