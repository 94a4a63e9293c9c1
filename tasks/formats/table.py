"""What is known of each filesystem, by its name."""

from __future__ import annotations

from .footprint import MIB

# Smallest filesystem that its mkfs makes, in bytes, and room for its own structures.
SMALLEST = {"xfs": 300 * MIB, "btrfs": 114 * MIB, "vfat": 1 * MIB}


OVERHEAD = {"xfs": 80 * MIB, "btrfs": 100 * MIB, "vfat": 1 * MIB}


FULL = (
    "No space left on device",
    "Could not allocate",
    "Disk full",
    "too small",
    "too big for",
    "larger than",
)
"""How the tools say that a filesystem is too small for its content, or for itself."""


MOUNT_OPTIONS = {
    # nodelalloc: blocks are taken in the order of the files, whatever the kernel's writeback does.
    "ext2": "noatime", "ext3": "noatime,nodelalloc", "ext4": "noatime,nodelalloc",
    "xfs": "noatime", "btrfs": "noatime",
}  # fmt: skip


EXT_TOOLS = ("mke2fs", "e2fsck", "resize2fs", "tune2fs", "dumpe2fs", "debugfs")


IMAGE_TOOLS = {"xfs": ("mkfs.xfs",), "btrfs": ("mkfs.btrfs", "btrfs"),
               "vfat": ("mkfs.vfat", "mcopy", "iconv")}  # fmt: skip


EXT = ("ext2", "ext3", "ext4")


LABEL_LENGTH = {"ext2": 16, "ext3": 16, "ext4": 16, "xfs": 12, "btrfs": 255, "vfat": 11}
"""Bytes of a label: mke2fs would cut the rest off, the others refuse it."""
