"""What there is to know of a filesystem: one row, which its own file makes.

spec ── label, uuid, options ─┐
plan ── tools, keyed          ├─ Filesystem ─ argv → fill → settle → finish
stages/image ── Making ───────┘
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BuildError
from ..host import etc, space
from ..host.log import Log
from ..host.process import capture, run
from ..host.sandbox import Step
from .footprint import MIB, Footprint, whole_blocks

Permitted = Mapping[str, bool | tuple[str, ...]]
"""A mkfs's options: False for one without a value, True for any value, or suboptions' names.

Long names stand here in full: getopt_long(3) would take `--root` for `--rootdir`.
"""

SCRIPTS = Path(__file__).with_name("scripts")


def each(names: str, takes: bool) -> dict[str, bool | tuple[str, ...]]:
    """Options of which all do or do not take a value."""
    return dict.fromkeys(names.split(), takes)


@dataclass(frozen=True, kw_only=True)
class Making:
    """A filesystem on its way; `raw` is the file that becomes it, sizes are in bytes."""

    raw: Path
    kind: str
    label: str
    uuid: str
    options: tuple[str, ...]
    direct: bool
    """Whether mke2fs fills it; otherwise it is mounted, or mtools do."""
    size: int | None
    """What the spec says, as `free`."""
    free: int | None
    content: Footprint
    epoch: int
    spec: str
    mount: str
    log: Log
    private: Path
    """The /etc that its tools see."""
    nowhere: Path
    """An empty folder to run mkfs and tune2fs in: no word of the spec names a file there."""
    env: Mapping[str, str]

    @property
    def where(self) -> str:
        """The image as a message names it."""
        return f"{self.spec}: images.{self.mount}"

    def run(self, *argv: str, what: str, ok: Sequence[int] = (0,)) -> None:
        """Run a tool on it; CommandFailed for a status that is not in `ok`."""
        run(
            etc.argv(self.private, argv),
            log=self.log,
            env=self.env,
            cwd=self.nowhere,
            what=what,
            ok=ok,
            typed=shlex.join(argv),
        )

    def capture(self, *argv: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a tool."""
        return capture(etc.argv(self.private, argv), env=self.env, cwd=self.nowhere)

    def unfit(self, path: str, reason: str) -> BuildError:
        """The error of what the filesystem cannot hold, at a path below the mount point."""
        shown = f"{self.mount.rstrip('/')}/{path}".translate({9: "?", 10: "?"})
        return BuildError(
            f"{self.where}.format: {self.kind} cannot hold {shown}: {reason}",
            "rename or remove it, or use another format for this mount point",
        )

    @property
    def scratch_has_room(self) -> bool:
        """Whether it is the filesystem that is too small, and not the disk."""
        return space.free_bytes(self.raw.parent) > 16 * MIB


def nothing(_making: Making) -> None:
    """What a filesystem without a step of this kind does."""


def no_steps(_making: Making, _size: int) -> list[Step]:
    """The same for what is done in a mounted filesystem, of so many bytes, once it is filled."""
    return []


@dataclass(frozen=True, kw_only=True)
class Filesystem:
    """One row: all that differs from one filesystem to the next."""

    name: str
    tool: str
    """The program that makes it."""
    tools: tuple[str, ...]
    """All commands of the host that an image of it needs, this one included."""
    keyed: tuple[str, ...]
    """Those whose versions decide its bytes."""
    permitted: Permitted
    instead: Mapping[str, str]
    """The image's field that stands for an option or suboption."""
    meaning: Callable[[Sequence[str]], list[str]] = list
    """Words of options, in one form for all for which the bytes are the same."""
    label_length: int
    """Bytes of a label."""
    label_form: str = ""
    """What mkfs takes of a label, as a regular expression; "" for any text."""
    label_hint: str = ""
    short_uuid: bool = False
    """Its identifier has four bytes."""
    direct: bool = False
    """mke2fs -d can fill it."""
    smallest: int = 0
    """Bytes of the smallest that mkfs makes."""
    overhead: int = 0
    """Bytes for its own structures."""
    keeps_holes: bool = True
    mounted_as: str = ""
    """The kernel's name of what mounts it, "" where nothing does: its `fill` writes all."""
    mount_options: str = "noatime"
    read_options: str = "ro"
    """With which it is mounted to read it."""
    varies: str = ""
    """Why it has other bytes each time, "" if it has the same."""
    argv: Callable[[Making, str], list[str]]
    """The command that makes it; from a folder, if one is given, for a direct one."""
    sizes: Callable[[Making, Filesystem], Iterator[int]]
    """Sizes to try, in bytes: a guess and larger ones."""
    check: Callable[[Making], None] = nothing
    """BuildError that names what it cannot hold of a tree."""
    fill: Callable[[Making], Step] | None = None
    """The command that fills it from its working directory, where it is not mounted."""
    filled: Callable[[Making], None] = nothing
    """After it was filled: BuildError where something was lost."""
    shrink: Callable[[Making, int], list[Step]] = no_steps
    """Steps in the mounted one, at `filled`, of so many bytes."""
    settle: Callable[[Making], None] = nothing
    """Takes out what the kernel or mkfs drew from its clock and dice."""
    finish: Callable[[Making, Callable[[], None]], None] = field(
        default=lambda _making, _again: None
    )
    """Checks it and makes it as small as the spec wants; the second makes and fills it again."""


def guesses(making: Making, kind: Filesystem) -> Iterator[int]:
    """Sizes of one that has a fixed overhead."""
    size = making.content.size if kind.keeps_holes else making.content.apparent
    guess = size * 1.05 + kind.overhead + (making.free or 0)
    for _attempt in range(6):
        yield max(whole_blocks(guess), kind.smallest)
        guess = guess * 1.2 + 16 * MIB


def labelled(making: Making, option: str = "-L") -> list[str]:
    """The words that give it its label, if it has one."""
    return [option, making.label] if making.label else []
