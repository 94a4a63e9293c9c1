"""How files of disks are called: an ending for the format, and one for what it is packed in."""

from __future__ import annotations

FORMATS = {
    "raw": ".img",
    "qcow2": ".qcow2",
    "vhd": ".vhd",
    "vmdk": ".vmdk",
    "bmap": ".bmap",
}

CONTAINERS = {"raw": "", "gzip": ".gz", "zstd": ".zst", "xz": ".xz"}


def suffix(format: str, container: str) -> str:
    """The ending of a disk's file; KeyError for a format or container that there is not."""
    return FORMATS[format] + CONTAINERS[container]
