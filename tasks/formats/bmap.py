"""A block map: which blocks of a raw disk a device must get, and their digests.

Source: bmaptool(1), and the comment at the head of its files, version 2.0 of the format.

`bmaptool copy` leaves all other blocks of the device as they are, whatever is there. So a block
of zeros that belongs to somebody is in the map as well: a file's zeros, a bitmap, a table of
inodes. Left out is what lies between the parts of a disk and behind its filesystems.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from ..host.process import check_signal

BLOCK = 4096

_PIECE = 1 << 20

_HEAD = """\
<?xml version="1.0" ?>
<!-- Which blocks of a disk are to be written to a device, for bmaptool(1). -->
<bmap version="2.0">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {block} </BlockSize>
    <BlocksCount> {blocks} </BlocksCount>
    <MappedBlocksCount> {mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {checksum} </BmapFileChecksum>
    <BlockMap>
"""

_TAIL = """\
    </BlockMap>
</bmap>
"""


def text_of(descriptor: int, size: int, spans: Iterable[tuple[int, int]]) -> str:
    """The map of an open raw disk of `size` bytes; `spans` are the bytes that must be written."""
    ranges = list(_blocks(spans))
    rows = "".join(_row(descriptor, size, first, last) for first, last in ranges)
    unsigned = _HEAD.format(
        size=size,
        block=BLOCK,
        blocks=-(-size // BLOCK),
        mapped=sum(last - first + 1 for first, last in ranges),
        checksum="0" * 64,  # the file's own digest is of the file with this in its place
    )
    whole = unsigned + rows + _TAIL
    return whole.replace("0" * 64, hashlib.sha256(whole.encode()).hexdigest(), 1)


def _blocks(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """First and last block of each range, in order, those that touch as one."""
    last: tuple[int, int] | None = None
    for begin, end in sorted(spans):
        if begin >= end:
            continue
        found = (begin // BLOCK, (end - 1) // BLOCK)
        if last is not None and found[0] <= last[1] + 1:
            last = (last[0], max(last[1], found[1]))
            continue
        if last is not None:
            yield last
        last = found
    if last is not None:
        yield last


def _row(descriptor: int, size: int, first: int, last: int) -> str:
    digest = hashlib.sha256()
    at, end = first * BLOCK, min((last + 1) * BLOCK, size)
    while at < end:
        check_signal()
        piece = os.pread(descriptor, min(_PIECE, end - at), at)
        if not piece:
            raise OSError(f"the disk ends at {at}, before {end}")
        digest.update(piece)
        at += len(piece)
    named = str(first) if first == last else f"{first}-{last}"
    return f'        <Range chksum="{digest.hexdigest()}"> {named} </Range>\n'
