"""What a spec may tell a mkfs: options that shape the filesystem, and none that names a file.

A mkfs runs as root, and some options make it read or write what they name: -d of mke2fs, -r of
mkfs.btrfs, -l of mkfs.xfs. So only what stands here is passed on. Left out, too, are options that
Strata gives itself or has a field for, and those that make no filesystem (-n, -V).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BuildError
from .filesystem import Filesystem, Permitted


def separate(options: Sequence[str], permitted: Permitted) -> list[str]:
    """The words of options that `check_options` let pass, each value a word of its own.

    As getopt_long(3) reads them, in the order in which they were given: `-m0` as `-m 0`.
    """
    found: list[str] = []
    words = iter(options)
    for word in words:
        long = word.startswith("--")
        name, _, value = word.partition("=") if long else (word[:2], "", word[2:])
        found.append(name)
        if permitted.get(name, False):
            found.append(value or next(words, ""))
    return found


def check_options(options: Sequence[str], kind: Filesystem, where: str) -> None:
    """BuildError, about the field `where`, unless a filesystem's mkfs may be given these words."""
    tool, permitted = kind.tool, kind.permitted

    def refuse(word: str, names: Sequence[str], of: str = "") -> BuildError:
        field = kind.instead.get(word)
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
            raise BuildError(
                f"{where}: '{name} journal_dev' is not one of the options that {tool} may be given",
                "it makes no filesystem",
            )
        if isinstance(takes, tuple):
            for suboption in (part.partition("=")[0] for part in value.split(",")):
                if suboption not in takes:
                    raise refuse(f"{name} {suboption}", takes, f"of {name}, ")
