"""What the schema cannot say of exports."""

from __future__ import annotations

from ..errors import BuildError
from .boot_rules import check_cmdline
from .disks import Export, OciConfig
from .model import Spec

CONTAINERS = {
    "oci": ("gzip", "zstd"),
    "tar": ("gzip", "zstd", "xz", "raw"),
    "cpio": ("gzip", "zstd", "xz", "raw"),
    "squashfs": ("raw",),
    "erofs": ("raw",),
    "netboot": ("raw",),
}
"""By format; raw is none."""

LARGEST_PORT = (1 << 16) - 1


def check_exports(spec: Spec) -> None:
    """BuildError for the first export whose fields do not go together."""
    for export in spec.exports:
        _check_export(export, f"{spec.path}: exports.{export.name}")


def _check_export(export: Export, where: str) -> None:
    good = CONTAINERS[export.format]
    if export.container not in good:
        raise BuildError(
            f"{where}.container: {export.container}: "
            + ("oci has gzip or zstd: its blobs are compressed" if export.format == "oci"
               else f"{export.format} compresses by itself"),
            f"write one of {', '.join(good)}" if good[1:] else "remove the field",
        )  # fmt: skip
    if export.level != "default" and export.container == "raw":
        alone = len(good) == 1
        raise BuildError(
            f"{where}.level: nothing is compressed",
            "remove the field" if alone else "add a container, or remove level",
        )
    if export.config != OciConfig() and export.format != "oci":
        raise BuildError(
            f"{where}.config: it is of images for containers, and this is {export.format}",
            "remove it, or write format: oci",
        )
    if export.cmdline and export.format != "netboot":
        raise BuildError(
            f"{where}.cmdline: no kernel is started from {export.format}",
            "remove it, or write format: netboot",
        )
    check_cmdline(export.cmdline, f"{where}.cmdline")
    ports = export.config.ports
    for port in ports:
        if int(port.partition("/")[0]) > LARGEST_PORT:
            raise BuildError(
                f"{where}.config.ports: {port} is more than {LARGEST_PORT}",
                "the largest port of TCP and UDP",
            )
        if ports.count(port) > 1:
            raise BuildError(
                f"{where}.config.ports: {port} stands twice", "a number alone is of TCP"
            )
