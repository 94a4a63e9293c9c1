"""What a spec may tell a mkfs: options that shape the filesystem, and none that names a file.

A mkfs runs as root, and some options make it read or write what they name: -d of mke2fs, -r of
mkfs.btrfs, -l of mkfs.xfs. So only what stands here is passed on. Left out, too, are options that
Strata gives itself or has a field for, and those that make no filesystem (-n, -V).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import BuildError

TOOL = {
    "ext2": "mke2fs", "ext3": "mke2fs", "ext4": "mke2fs",
    "xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs", "vfat": "mkfs.vfat",
}  # fmt: skip
"""The program that makes each format."""


def _each(names: str, takes: bool) -> dict[str, bool | tuple[str, ...]]:
    return dict.fromkeys(names.split(), takes)


PERMITTED: Mapping[str, Mapping[str, bool | tuple[str, ...]]] = {
    "mke2fs": {
        **_each("-b -C -e -G -g -I -i -M -m -N -O -o -r -T", True),
        **_each("-j", False),
        "-J": ("fast_commit_size", "location", "size"),
        # Not offset, with which the superblock is elsewhere, nor android_sparse: another format.
        "-E": (
            "assume_storage_prezeroed", "desc-size", "desc_size", "discard", "encoding",
            "encoding_flags", "hash_seed", "lazy_itable_init", "lazy_journal_init",
            "mmp_update_interval", "no_copy_xattrs", "nodiscard", "num_backup_sb",
            "orphan_file_size", "packed_meta_blocks", "quotatype", "resize", "root_owner",
            "root_perms", "root_selinux", "stride", "stripe-width", "stripe_width", "test_fs",
        ),
    },
    "mkfs.xfs": {
        **_each("-K", False),
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
    "mkfs.btrfs": {
        **_each("-d --data -m --metadata -n --nodesize -O --features -R --runtime-features "
                "-s --sectorsize --checksum --csum --device-uuid", True),
        **_each("-K --nodiscard -M --mixed", False),
    },
    "mkfs.vfat": {
        **_each("-b -D -F -f -g -h -M -R -r -S -s --codepage --variant", True),
        **_each("-A -a --mbr", False),
    },
}  # fmt: skip
"""Each program's options: False for one without a value, True for any value, or suboptions' names.

Long names stand here in full: getopt_long(3) would take `--root` for `--rootdir`.
"""


INSTEAD = {
    "mke2fs": {"-L": "label", "-t": "format", "-U": "uuid"},
    "mkfs.xfs": {"-L": "label", "-d size": "size", "-m uuid": "uuid"},
    "mkfs.btrfs": {"-L": "label", "--label": "label", "-U": "uuid", "--uuid": "uuid",
                   "-b": "size", "--byte-count": "size"},
    "mkfs.vfat": {"-n": "label", "-i": "uuid"},
}  # fmt: skip
"""The image's field that stands for an option or suboption."""


def separate(options: Sequence[str], kind: str) -> list[str]:
    """The words of options that `check_options` let pass, each value a word of its own.

    As getopt_long(3) reads them, in the order in which they were given: `-m0` as `-m 0`.
    """
    permitted = PERMITTED[TOOL[kind]]
    found: list[str] = []
    words = iter(options)
    for word in words:
        long = word.startswith("--")
        name, _, value = word.partition("=") if long else (word[:2], "", word[2:])
        found.append(name)
        if permitted.get(name, False):
            found.append(value or next(words, ""))
    return found


def check_options(options: Sequence[str], kind: str, where: str) -> None:
    """BuildError, about the field `where`, unless a filesystem's mkfs may be given these words."""
    tool = TOOL[kind]
    permitted = PERMITTED[tool]

    def refuse(word: str, names: Sequence[str], of: str = "") -> BuildError:
        field = INSTEAD[tool].get(word)
        return BuildError(
            f"{where}: {word!r} is not one of the options that {tool} may be given",
            f"set the image's `{field}` instead"
            if field
            else f"{of}{', '.join(names)} may be given: nothing that names a file or a device",
        )

    words = iter(options)
    for word in words:
        if word.startswith("--"):
            name, attached, value = word.partition("=")
        else:
            name, attached, value = word[:2], word[2:], word[2:]
        takes = permitted.get(name)
        if takes is None or (not takes and attached):
            # Without its value, but for a bare word and for what clings to an option that has none.
            told = name if takes is None and word.startswith("-") else word
            raise refuse(told, list(permitted))
        if not takes:
            continue
        if not attached:
            value = next(words, "")
            # Else it might count as an option here and as a value there, or the reverse.
            value = "" if value.startswith("-") else value
        if not value:
            raise BuildError(
                f"{where}: {name!r} takes a value",
                "as the next word, or in the same one if it begins with `-`",
            )
        if "journal_dev" in value.split(","):
            raise BuildError(f"{where}: '{name} journal_dev' is not one of the options that {tool} "
                             "may be given", "it makes no filesystem")  # fmt: skip
        if isinstance(takes, tuple):
            for suboption in (part.partition("=")[0] for part in value.split(",")):
                if suboption not in takes:
                    raise refuse(f"{name} {suboption}", takes, f"of {name}, ")
