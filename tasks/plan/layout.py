"""Where each partition of a disk lies, and how large a disk is that is as small as it can be.

All sizes and places are in bytes. Partitions begin at whole MiB, as all installers have it: flash
and disks of 4096-byte sectors are written to without reading first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import BuildError
from ..formats import bootsector, gpt, mbr
from ..spec.disks import CORE, MIB, Disk, Partition


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A partition's place: its first byte and its size."""

    name: str
    kind: str
    first: int
    size: int

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.first + self.size


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A disk of `size` bytes; `core` is where GRUB's core begins, None where there is none."""

    size: int
    slots: tuple[Slot, ...]
    core: int | None = None

    def slot(self, name: str) -> Slot:
        """The place of a partition; KeyError where there is none of this name."""
        for one in self.slots:
            if one.name == name:
                return one
        raise KeyError(name)


class TooSmall(BuildError):
    """What does not hold what it is for: `name` is the partition's, "" for the whole disk.

    It is CORE for what an MBR leaves before the first partition. `has` and `needs` are bytes. The
    message says nothing of the spec: see `BuildError.retold`.
    """

    def __init__(self, name: str, has: int, needs: int, hint: str, *, what: str) -> None:
        super().__init__(
            f"{_shown(has)} are too small: {what} {_shown(needs, more=True)}",
            hint,
        )
        self.name = name
        self.has = has
        self.needs = needs


_HELD = "what is put into it takes"


def lay(disk: Disk, needs: Mapping[str, int]) -> Layout:
    """The layout of a disk; `needs` are the bytes that is put into each partition, by its name.

    Of GRUB for BIOS it is boot.img and the core, as its stage makes them: see BiosJob. TooSmall for
    a partition or a disk that does not hold what it must, BuildError for what no MBR can tell.
    """
    _check_gap(disk, needs)
    sizes = {one.name: _own_size(disk, one, needs) for one in disk.partitions}
    if disk.size is None:
        given = _slack_of(disk.partitions)
        if given is not None:
            sizes[given.name] += _up(disk.slack, MIB)
        spare = _up(disk.slack, MIB) if given is None else 0
        slots = tuple(_placed(disk.partitions, sizes))
        size = _up(_end(slots) + spare + _tail(disk), MIB)
    else:
        size = disk.size
        _share_rest(disk, sizes)
        slots = tuple(_placed(disk.partitions, sizes))
        if _end(slots) + _tail(disk) > size:
            least = _up(_end(slots) + _tail(disk), MIB)
            hint = f"make the disk {_shown(least)} or larger, or a partition smaller"
            what = "its partitions and their table take"
            raise TooSmall("", size, least, hint, what=what)
    if disk.table == "mbr":
        _check_mbr(disk, slots, size)
    return Layout(size=size, slots=slots, core=_core(disk, slots, needs))


def _own_size(disk: Disk, partition: Partition, needs: Mapping[str, int]) -> int:
    """What a partition takes: what it was given, or else what it needs, at least 1 MiB."""
    need = needs.get(partition.name, 0)
    if partition.kind == "bios":
        need = max(0, need - bootsector.BOOT)
    least = max(_up(need, MIB), MIB)
    if partition.rest or partition.size is None:
        return least
    size = _up(partition.size, disk.sector)
    if size < need:
        hint = f"make it {_shown(least)} or larger, or leave its size out"
        raise TooSmall(partition.name, partition.size, need, hint, what=_HELD)
    return size


def _share_rest(disk: Disk, sizes: dict[str, int]) -> None:
    """Give what is left to the partition that takes the rest, in whole MiB."""
    rest = next((one for one in disk.partitions if one.rest), None)
    if rest is None or disk.size is None:
        return
    least = sizes[rest.name]
    others = _end(tuple(_placed(disk.partitions, {**sizes, rest.name: 0})))
    left = (disk.size - _tail(disk) - others) // MIB * MIB
    if left < least:
        needed = _up(others + least + _tail(disk), MIB)
        raise TooSmall(
            rest.name,
            max(0, left),
            least,
            f"make the disk {_shown(needed)} or larger, or another partition smaller",
            what=_HELD,
        )
    sizes[rest.name] = left


def _slack_of(partitions: Sequence[Partition]) -> Partition | None:
    """Which partition of a disk that is as small as it can be gets the slack."""
    growing = [one for one in partitions if one.grow and one.size is None]
    return next((one for one in partitions if one.rest), growing[-1] if growing else None)


def _placed(partitions: Sequence[Partition], sizes: Mapping[str, int]) -> Iterator[Slot]:
    at = MIB
    for one in partitions:
        yield Slot(name=one.name, kind=one.kind, first=at, size=sizes[one.name])
        at = _up(at + sizes[one.name], MIB)


def _end(slots: Sequence[Slot]) -> int:
    return max((one.end for one in slots), default=MIB)


def _tail(disk: Disk) -> int:
    """Bytes at a disk's end that no partition may have: there a GPT has its second copy."""
    return gpt.tail(disk.sector) if disk.table == "gpt" else 0


def _core(disk: Disk, slots: Sequence[Slot], needs: Mapping[str, int]) -> int | None:
    if disk.table == "mbr":
        return bootsector.SECTOR if CORE in needs else None
    return next((one.first for one in slots if one.kind == "bios" and one.name in needs), None)


def _check_gap(disk: Disk, needs: Mapping[str, int]) -> None:
    """TooSmall where GRUB's core does not fit between an MBR and the first partition."""
    gap, need = MIB - bootsector.SECTOR, needs.get(CORE, 0) - bootsector.BOOT
    if disk.table == "mbr" and need > gap:
        hint = "use a GPT: GRUB's core has a partition of its own there"
        what = "GRUB's core, which lies before the first partition, takes"
        raise TooSmall(CORE, gap, need, hint, what=what)


def _check_mbr(disk: Disk, slots: Sequence[Slot], size: int) -> None:
    if len(slots) > mbr.MOST:
        raise BuildError(
            f"an MBR has {mbr.MOST} partitions at the most, and these are {len(slots)}", "use a GPT"
        )
    if size > mbr.largest(disk.sector):
        raise BuildError(
            f"an MBR tells of {_shown(mbr.largest(disk.sector))} at the most, and this disk takes "
            f"{_shown(size)}",
            "use a GPT",
        )


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _shown(size: int, *, more: bool = False) -> str:
    """A size as messages have it, in tenths: with `more` rounded up, so that a need is no less."""
    unit, name = (MIB, "MiB") if size >= MIB else (1024, "KiB")
    tenths = -(-10 * size // unit) if more else 10 * size // unit
    whole, tenth = divmod(tenths, 10)
    return f"{whole}.{tenth} {name}" if tenth else f"{whole} {name}"
