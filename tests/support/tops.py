"""Specs with disks, exports and tests, for the plans of what stands on their trees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support import samples
from support.samples import REPO, record
from tasks.plan.lockfile import Lock
from tasks.plan.plan import make_plan
from tasks.plan.stage import Host, Plan, Stage
from tasks.spec.model import Spec

GRUB = ("shim-signed", "grub-efi-amd64-signed", "grub-pc-bin")


KERNEL = "linux-image-6.1.0-9-amd64"


PARTITIONS = [
    {"name": "esp", "size": "256M", "mount": "/boot/efi"},
    {"name": "root", "mount": "/", "size": "1G"},
    {"name": "data", "size": "32M"},
]


IMAGE = {"file": "root.img.gz", "format": "ext4"}


FILES: dict[str, Any] = {
    "a.qcow2": {"format": "qcow2"},
    "a.img.gz": {"format": "raw", "container": "gzip", "bmap": True},
}


def disk(loader: str, **fields: Any) -> dict[str, Any]:
    """A disk with this loader, of which only GRUB boots by BIOS, too."""
    found: dict[str, Any] = {
        "size": "4G",
        "loader": loader.partition("+")[0],
        "firmware": ["uefi", "bios"] if loader == "grub" else ["uefi"],
        "cmdline": "quiet",
        "partitions": [dict(one) for one in PARTITIONS],
        "files": dict(FILES),
    }
    return {**found, **({"verity": True} if loader.endswith("+verity") else {}), **fields}


@dataclass(frozen=True)
class Case:
    """All that a plan is made of; `fields` are the spec's, of which a change makes another spec."""

    folder: Path
    loader: str
    fields: Mapping[str, Any]
    lock: Lock
    host: Mapping[str, Any]

    @property
    def spec(self) -> Spec:
        return samples.load(self.folder, **self.fields)

    @property
    def plan(self) -> Plan:
        spec = self.spec
        return make_plan(spec, self.lock, self._host(spec))

    def _host(self, spec: Spec) -> Host:
        digests = {str(one.script): self.host.get("script", "1" * 64) for one in spec.tests}
        settings = {"hostname": spec.settings.hostname}
        made = samples.host(spec, tests=digests, settings=settings)
        return replace(made, tools={**made.tools, **self.host.get("tools", {})})


def case_of(folder: Path, loader: str, **fields: Any) -> Case:
    """A spec with a disk, a test and an OCI image, whose loader and kernel come in layers apart."""
    has = {
        "grub": [record(one) for one in GRUB],
        "systemd-boot": [record("systemd-boot"), record("systemd-boot-efi")],
        "uki": [record("systemd-boot-efi"), record("systemd-ukify"), record("dracut"),
                record("systemd-cryptsetup")],
    }[loader.partition("+")[0]]  # fmt: skip
    (folder / "t.sh").write_text("#!/bin/sh\n")
    lock = samples.lock(
        [record("base"), record("systemd", "257.1-1")],
        {
            "loader": has,
            "kernel": [record(KERNEL), record("initramfs-tools")],
            "app": [record("nginx")],
        },
    )
    known = {
        "repos": [REPO],
        "layers": [{"name": name, "packages": [name]} for name in ("loader", "kernel", "app")],
        "hostname": "host",
        "images": {"/": {**IMAGE, "pack": "direct"}},
        "disks": {"server": disk(loader)},
        "exports": {"web-oci": {"format": "oci"}},
        "tests": [{"script": "t.sh"}],
        **fields,
    }
    return Case(folder, loader, known, lock, {})


def by_task(plan: Plan) -> dict[str, Stage]:
    return {one.task: one for one in plan.stages}


def names(stages: Iterable[Stage]) -> list[str]:
    return [one.task for one in stages]
