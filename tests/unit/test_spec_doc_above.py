"""What each field of disks, exports and boot tests says it rebuilds, against the plan's keys."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.samples import REPO, record
from support.spec_doc import SCHEMA, fields
from support.spec_tried import changed, planned

RULES: dict[str, Any] = json.loads(SCHEMA.read_text())

FIELDS = {
    one.path: one
    for one in fields(RULES)
    if re.match(r"(disks|exports|tests)\b", one.path) and "fields" not in one.rules["x-rebuilds"]
}

FILES = {"web.img": {"format": "raw"}, "web.vhd": {"format": "vhd"}}

ESP = {"name": "esp", "size": "300M", "mount": "/boot/efi"}

ROOT = {"name": "root", "mount": "/", "size": "rest"}

EXPORTS = {"web-oci": {"format": "oci", "config": {"cmd": ["sh"]}}, "web.tar": {"format": "tar"},
           "nb": {"format": "netboot"}}  # fmt: skip

PLACES: tuple[dict[str, Any], ...] = (
    {"disks": {"server": {"size": "8G", "files": FILES, "partitions": [ROOT, ESP]}}},
    {"disks": {"server": {"size": "8G", "files": FILES, "partitions": [ESP, ROOT]}}},
    {"disks": {"server": {"size": "fit", "files": FILES, "partitions": [ESP, {**ROOT, "size": "2G"}]}}},
    {"disks": {"server": {"size": "8G", "files": FILES, "loader": "uki", "partitions": [
        {"name": "root", "mount": "/"}, ESP]}}},
    {"disks": {"server": {"size": "8G", "files": FILES, "firmware": ["bios"], "partitions": [ROOT]}}},
    {"disks": {"server": {"size": "8G", "files": FILES, "partitions": [
        {"name": "extra", "size": "10M"}, ESP, ROOT]}}},
    {"disks": {"server": {"size": "8G", "files": FILES, "partitions": [
        {"name": "srv", "mount": "/srv", "size": "1G"}, ESP, ROOT]}}},
    {"disks": {"server": {"size": "8G", "files": {"web.img": {"format": "raw", "container": "gzip"}},
                          "partitions": [ESP, ROOT]}}},
    {"disks": {name: {"size": "8G", "files": {f"{name}.img": {"format": "raw"}}, "partitions": [ESP, ROOT]}
               for name in ("server", "other")}},
    {"disks": {"server": {"size": "fit", "files": FILES, "partitions": [ESP, ROOT]}}},
    {"exports": {"web.tar": {"format": "tar", "container": "gzip"}}},
    {"exports": {"web-oci": {"format": "oci", "config": {"cmd": ["sh"]}}}},
    {"exports": {"nb": {"format": "netboot"}}},
)  # fmt: skip
"""Specs in which a field is tried, in this order, until one takes it."""

LEAST = {"repos": [REPO], "packages": ["one"], "hostname": "web"}

TESTED = {"tests": [{"script": "tests/least.sh"}]}

PACKAGES = (
    "apt", "systemd", "linux-image-amd64", "initramfs-tools", "dracut", "shim-signed",
    "grub-efi-amd64-signed", "grub-pc-bin", "systemd-boot", "systemd-ukify", "systemd-boot-efi",
    "systemd-cryptsetup", "systemd-repart", "live-boot", "systemd-boot-efi-amd64-signed",
)  # fmt: skip

ABOVE = {
    "settings": {"settings", "filesystem", "esp", "verity", "disk", "file", "export", "blob",
                 "test", "image"},
    "filesystem": {"filesystem", "verity", "esp", "disk", "file", "test", "image"},
    "verity": {"verity", "esp", "disk", "file", "test"},
    "esp": {"esp", "disk", "file", "test"},
    "bios": {"bios", "disk", "file", "test"},
    "disk": {"disk", "file", "test"},
    "file": {"file"},
    "export": {"export", "blob"},
    "test": {"test"},
}  # fmt: skip
"""By a word of `x-rebuilds` the kinds of stages that may be others with it."""


def keys(folder: Path, document: dict[str, Any]) -> dict[str, str] | str:
    """Each stage's key, by its task."""
    base = [replace(record(name), version="257.8-1") for name in PACKAGES]
    made = planned(folder, document, lambda _number: record("one"), base)
    if isinstance(made, str):
        return made
    _spec, plan = made
    return {stage.task.replace("boot_test:", "test:"): stage.key for stage in plan.stages}


def tried(folder: Path, path: str, value: Any) -> set[str]:
    """The kinds of stages that a field makes others of, in the first spec that takes it."""
    for place in PLACES:
        document: dict[str, Any] = {**LEAST, **copy.deepcopy(place)}
        if path.startswith("exports") and "exports" not in place:
            continue
        if path.startswith(("disks", "tests")) and "disks" not in place:
            continue
        if "disks" in place:
            document |= copy.deepcopy(TESTED)
        without, made = next(changed(document, path, value))
        for one, other in ((without, made), (document, made)):
            before, after = keys(folder, one), keys(folder, other)
            if isinstance(before, str) or isinstance(after, str):
                continue
            differ = {task for task in {**before, **after} if before.get(task) != after.get(task)}
            if differ:
                kinds = {task.partition(":")[0] for task in differ - {"layer:settings"}}
                return kinds | ({"settings"} if "layer:settings" in differ else set())
    return set()


@pytest.mark.parametrize("path", sorted(FIELDS))
def test_what_a_field_rebuilds(planning: Path, path: str) -> None:
    """No kind of stage that its words do not say, and one of each word at least in some example."""
    rules = FIELDS[path].rules
    words = set(rules["x-rebuilds"])
    allowed = set().union(*(ABOVE[word] for word in words))
    found: set[str] = set()
    for value in rules["examples"]:
        found |= tried(planning, path, value)
    assert found <= allowed, f"{path}: {found - allowed} too"
    assert found & words, f"{path}: of {words} none is another: {found}"
