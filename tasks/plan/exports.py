"""The stages of exports: the whole tree in another form; of OCI a blob for each tree stage.

base ─→ blob base ──────┐
layer app ─→ blob app ──┴→ export web-oci        tree ─→ export web.sqfs, netboot, …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..errors import BuildError
from ..spec.disks import Export
from ..spec.model import Spec
from .containers import ENDING, container_tools, keyed_level
from .lockfile import Lock
from .recipes import stage_of
from .stage import Host, Stage

TOOLS = {
    "tar": ("tar",), "cpio": ("cpio",), "squashfs": ("mksquashfs",), "erofs": ("mkfs.erofs",),
    "netboot": ("mksquashfs",), "oci": (),
}  # fmt: skip
"""The host's tools whose versions decide the bytes of each form, beside those of the container."""

SUFFIX = {"tar": ".tar", "cpio": ".cpio", "squashfs": ".squashfs", "erofs": ".erofs",
          "netboot": ".tar", "oci": ".tar"}  # fmt: skip
"""Of the cache's file; of a folder it is a bundle."""

NETBOOT = ("live-boot",)
"""Packages of which one lets an initramfs take its root over HTTP."""


def tools(export: Export) -> set[str]:
    """The tools whose versions are in the keys of an export, and of its blobs."""
    return {*TOOLS[export.format], *container_tools(export.container, export.level)}


def check(spec: Spec, lock: Lock) -> None:
    """BuildError for a netboot whose initramfs would not find its root."""
    there = {record.package for record in lock.installed()}
    for export in spec.exports:
        if export.format == "netboot" and not there.intersection(NETBOOT):
            raise BuildError(
                f"{spec.path}: exports.{export.name}: netboot needs {' or '.join(NETBOOT)} in the "
                "tree, whose initramfs takes its root from a server",
                f"add to packages: {NETBOOT[0]}",
            )


def export_stages(spec: Spec, lock: Lock, tree: Sequence[Stage], host: Host) -> list[Stage]:
    """All of them, in the spec's order, blobs before what names them; each blob once."""
    check(spec, lock)
    found: dict[str, Stage] = {}
    for export in spec.exports:
        blobs: list[Stage] = []
        if export.format == "oci":
            blobs = [_blob(export, tree[: number + 1], host) for number in range(len(tree))]
            found |= {one.task: one for one in blobs}
        made = _export(spec, lock, export, tree, blobs, host)
        found[made.task] = made
    return list(found.values())


def _blob(export: Export, tree: Sequence[Stage], host: Host) -> Stage:
    """A tree stage as a layer of OCI: of that stage alone, so that whoever has it shares it."""
    level = keyed_level(export.container, export.level)
    name = ".".join([tree[-1].name, export.container, *([level] if level != "default" else [])])
    inputs = {
        "container": export.container,
        "level": level,
        "tools": _versions(container_tools(export.container, export.level), host),
    }
    suffix = f".tar{ENDING[export.container]}"
    return stage_of("blob", name, suffix, inputs, parent=tree[-1], on=tree)


def _export(
    spec: Spec,
    lock: Lock,
    export: Export,
    tree: Sequence[Stage],
    blobs: Sequence[Stage],
    host: Host,
) -> Stage:
    inputs: dict[str, Any] = {"format": export.format, "arch": spec.arch}
    if blobs:
        inputs |= {
            "blobs": [one.key for one in blobs],
            # Its history has them; a layer's key does not.
            "names": [one.name for one in blobs],
            "container": export.container,
            "config": asdict(export.config),
            "epoch": host.epoch,
            "title": spec.name,
        }
        return stage_of("export", export.name, SUFFIX["oci"], inputs, on=[*blobs])
    inputs |= {
        "container": export.container,
        "level": keyed_level(export.container, export.level),
        "tools": _versions(tools(export), host),
    }
    if export.format == "netboot":
        inputs |= {"cmdline": export.cmdline, "live": live(lock)}
    suffix = SUFFIX[export.format] + ENDING[export.container]
    return stage_of("export", export.name, suffix, inputs, parent=tree[-1], on=tree)


def live(lock: Lock) -> str:
    """The package by which an initramfs of this tree finds its root, "" for none."""
    there = {record.package for record in lock.installed()}
    return next((one for one in NETBOOT if one in there), "")


def _versions(names: set[str], host: Host) -> dict[str, str]:
    return {name: host.tools[name] for name in sorted(names)}
