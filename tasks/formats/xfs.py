"""XFS: made and filled by the kernel; no shrinking."""

from __future__ import annotations

from .filesystem import Filesystem, Making, each, guesses, labelled
from .footprint import MIB


def argv(making: Making, _fill: str) -> list[str]:
    """mkfs.xfs(8)."""
    return [
        "mkfs.xfs",
        "-q",
        "-f",
        "-m",
        f"uuid={making.uuid}",
        *labelled(making),
        *making.options,
        str(making.raw),
    ]


ROW = Filesystem(
    name="xfs", tool="mkfs.xfs", tools=("mkfs.xfs",), keyed=("mkfs.xfs",),
    permitted={
        **each("-K", False),
        "-b": ("size",),
        "-d": (
            "agcount", "agsize", "concurrency", "cowextsize", "daxinherit", "extszinherit",
            "noalign", "projinherit", "sectsize", "su", "sunit", "sw", "swidth",
        ),
        "-i": (
            "align", "attr", "exchange", "maxpct", "nrext64", "perblock", "projid32bit", "size",
            "sparse",
        ),
        "-l": (
            "agnum", "concurrency", "internal", "lazy-count", "sectsize", "size", "su", "sunit",
            "version",
        ),
        "-m": (
            "autofsck", "bigtime", "crc", "finobt", "inobtcount", "metadir", "reflink", "rmapbt",
        ),
        "-n": ("ftype", "parent", "size", "version"),
        "-s": ("sectsize", "size"),
    },
    instead={"-L": "label", "-d size": "size", "-m uuid": "uuid"},
    label_length=12, smallest=300 * MIB, overhead=80 * MIB, mounted_as="xfs",
    read_options="ro,nouuid,norecovery",
    varies="the kernel draws inode generations by chance, and log positions are in every block",
    argv=argv, sizes=guesses,
)  # fmt: skip
