"""Making ext2, ext3 and ext4: configuration and sizes."""

from __future__ import annotations

import time
from pathlib import Path

from . import ext_bytes
from .footprint import BLOCK, MIB, Footprint

# mke2fs's defaults differ from host to host: this is Debian 12's choice, for every host.
MKE2FS_CONF = """\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext3 = {
        features = has_journal
    }
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
    floppy = {
        inode_ratio = 16384
    }
    small = {
        inode_ratio = 16384
    }
    big = {
        inode_ratio = 16384
    }
    huge = {
        inode_ratio = 16384
    }
"""


SLACK = (0.0, 0.01, 0.05, None)
"""Shares of the least size to leave free when resize2fs fails; None: leave it as it was made."""


SHRUNK = 0.005
"""A share of a filesystem that is not worth another resize2fs."""


class ShrinkFailed(Exception):
    """resize2fs gave up half-way."""


def ext_inodes(content: Footprint) -> int:
    """Inodes of an ext filesystem: the tree's and some more, since growing adds its share."""
    return int(content.inodes * 1.15) + 512


def ext_size(content: Footprint, *, journal: bool) -> float:
    """Bytes of an ext filesystem that just holds a tree, to begin with."""
    size = content.size * 1.01 + ext_inodes(content) * 256 + 2 * MIB
    size += size / 128  # bitmaps, group descriptors and those reserved for growing
    if journal:
        # The journal's size goes by the filesystem's: ext2fs_default_journal_size.
        blocks = size / BLOCK
        steps = ((32768, 1024), (262144, 4096), (524288, 8192), (4194304, 16384))
        size += next((wanted for limit, wanted in steps if blocks < limit), 32768) * BLOCK
    return max(size, 8 * MIB if journal else MIB)


def ext_bytes_of(raw: Path) -> int:
    """Bytes of an ext filesystem, by its superblock."""
    return ext_bytes.read_super(raw).size


def tune2fs_date(epoch: int) -> str:
    """A time as tune2fs(8) wants it."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(epoch))
