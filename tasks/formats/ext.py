"""ext2, ext3 and ext4: made, filled by the kernel or by mke2fs, settled, shrunk.

What a kernel leaves of its clock and its dice is set by ext_bytes and ext_xattrs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ..errors import BuildError, CommandFailed
from . import ext_bytes, ext_xattrs
from .filesystem import Filesystem, Making, each, labelled
from .footprint import BLOCK, MIB, Footprint, whole_blocks

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


def environment(epoch: int, config: Path) -> dict[str, str]:
    """What gives e2fsprogs a fixed clock and, in the file `config`, a fixed configuration."""
    config.write_text(MKE2FS_CONF)
    return {
        "E2FSPROGS_FAKE_TIME": str(epoch),
        "E2FSCK_TIME": str(epoch),
        "SOURCE_DATE_EPOCH": str(epoch),
        "MKE2FS_CONFIG": str(config),
    }


def argv(making: Making, fill: str) -> list[str]:
    """mke2fs(8), with `-d` for a folder to fill it from."""
    features, extended, rest, _tune = ext_bytes.split_options(making.options, making.kind)
    extended = [
        f"hash_seed={making.uuid}",
        "root_owner=0:0",
        "nodiscard",
        "lazy_itable_init=0",
        *extended,
    ]
    words = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        making.kind,
        "-U",
        making.uuid,
        *labelled(making),
        "-E",
        ",".join(extended),
        "-O",
        ",".join(features),
    ]
    if not {"-i", "-N", "-T"} & {option[:2] for option in rest}:
        words += ["-N", str(ext_inodes(making.content))]
    return [*words, *rest, *(["-d", fill] if fill else []), str(making.raw)]


def sizes(making: Making, _kind: Filesystem) -> Iterator[int]:
    """Tight ones: what resize2fs -M gives back is little, and less the larger it began.

    Inodes are spread over all block groups.
    """
    guess = ext_size(making.content, journal=making.kind != "ext2")
    for _attempt in range(12):
        yield whole_blocks(guess)
        guess = guess * 1.05 + MIB


def settle(making: Making) -> None:
    """Take out what the kernel or mke2fs -d drew from its clock, then add what covers it."""
    code, text, error = making.capture("dumpe2fs", str(making.raw))
    if code:
        raise BuildError(f"dumpe2fs failed (exit status {code}): {error.strip()[-300:]}")
    groups = ext_bytes.layout(text)
    if making.direct and making.content.several_xattrs:
        try:
            ext_xattrs.order(making.raw, groups)
        except ext_xattrs.Unordered as error:
            raise BuildError(
                f"{making.where}.pack: direct cannot lay out the extended attributes of a file "
                f"the same each time: {error}",
                "use pack: loop, or leave out ea_inode",
            ) from error
    ext_bytes.settle(making.raw, groups, making.epoch)
    # It changes nothing that settle left, but writes the superblock's copies.
    making.run(
        "tune2fs",
        "-C",
        "0",
        "-T",
        tune2fs_date(making.epoch),
        str(making.raw),
        what="setting the date of the last check",
    )
    for more in ext_bytes.split_options(making.options, making.kind)[3]:
        making.run("tune2fs", *more, str(making.raw), what=f"adding {more[1]}")


def finish(making: Making, again: Callable[[], None]) -> None:
    """Check and shrink it.

    resize2fs sometimes finds no way to the size that it worked out itself, and leaves a filesystem
    that is broken: then all is made again, and shrunk to a little more.
    """
    for slack in SLACK if making.size is None else (None,):
        try:
            _finish(making, slack)
            return
        except ShrinkFailed as error:
            making.log.line(f"# {error}; once more with room to spare")
            again()


def _finish(making: Making, slack: float | None) -> None:
    """Check, shrink to the minimum and this share more (None: not at all), check again."""
    raw = str(making.raw)
    making.log.step("checking")
    # 1: corrected; a fresh filesystem may want its free counts written.
    making.run("e2fsck", "-fy", raw, ok=(0, 1), what="checking the filesystem")
    if slack is not None:
        making.log.step("shrinking")
        _shrink(making, slack)
    if making.free:
        os.truncate(making.raw, whole_blocks(ext_bytes_of(making.raw) + making.free))
        making.run("resize2fs", raw, what="adding free room")
    os.truncate(making.raw, ext_bytes_of(making.raw))
    making.run("e2fsck", "-fn", raw, what="the last check of the filesystem")


def _shrink(making: Making, slack: float) -> None:
    raw = str(making.raw)
    block = ext_bytes.read_super(making.raw).block_size
    while True:
        size = ext_bytes_of(making.raw) // block
        code, text, error = making.capture("resize2fs", "-P", raw)
        if code:
            raise BuildError(f"resize2fs -P failed (exit status {code}): {error.strip()}")
        least = int(text.split()[-1])
        # A second round, after a first one from far off, must be worth its time.
        target = least + int(least * slack) if slack else least
        if size - target <= size * SHRUNK:
            return
        try:
            # NoRoom is let through: anything larger would be another image than where there is.
            making.run("resize2fs", raw, str(target), what="shrinking the filesystem")
        except CommandFailed as failed:
            raise ShrinkFailed(f"resize2fs cannot reach {target} blocks") from failed


PERMITTED: Mapping[str, bool | tuple[str, ...]] = {
    **each("-b -C -e -G -g -I -i -M -m -N -O -o -r -T", True),
    **each("-j", False),
    "-J": ("fast_commit_size", "location", "size"),
    # Not offset, with which the superblock is elsewhere, nor android_sparse: another format.
    "-E": (
        "assume_storage_prezeroed", "desc-size", "desc_size", "discard", "encoding",
        "encoding_flags", "hash_seed", "lazy_itable_init", "lazy_journal_init",
        "mmp_update_interval", "no_copy_xattrs", "nodiscard", "num_backup_sb",
        "orphan_file_size", "packed_meta_blocks", "quotatype", "resize", "root_owner",
        "root_perms", "root_selinux", "stride", "stripe-width", "stripe_width", "test_fs",
    ),
}  # fmt: skip


def _row(name: str) -> Filesystem:
    return Filesystem(
        name=name,
        tool="mke2fs",
        tools=("mke2fs", "e2fsck", "resize2fs", "tune2fs", "dumpe2fs", "debugfs"),
        keyed=("mke2fs",),
        permitted=PERMITTED,
        instead={"-L": "label", "-t": "format", "-U": "uuid"},
        meaning=partial(ext_bytes.meaning, kind=name),
        label_length=16,
        direct=True,
        # The kernel's ext4 mounts an ext3 that has no journal yet; its ext3 would not.
        mounted_as="ext2" if name == "ext2" else "ext4",
        # nodelalloc: blocks are taken in the order of the files, whatever writeback does.
        mount_options="noatime" if name == "ext2" else "noatime,nodelalloc",
        # An ext2 has no journal whose replay could be left out.
        read_options="ro" if name == "ext2" else "ro,noload",
        argv=argv,
        sizes=sizes,
        settle=settle,
        finish=finish,
    )


EXT = ("ext2", "ext3", "ext4")
ROWS = tuple(_row(name) for name in EXT)
