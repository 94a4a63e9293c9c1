"""What the schema cannot say of disks: each alone, all of one spec, and beside its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from .boot_rules import check_boot
from .disk_filesystems import check_filesystems, place
from .disks import MIB, Disk, DiskFile, Partition
from .model import Spec
from .partitions import ESP_MOUNTS
from .project_files import file_size
from .rules import LARGEST
from .sizes import shown

GPT_NAME = 36
"""UTF-16 units of a name in a GPT's entry (UEFI specification, 5.3.3)."""

PARTITIONS = {"gpt": 128, "mbr": 4}
"""Entries of a table: of an MBR, those that are no others' container."""

VHD_LIMIT = 2040 << 30
"""Bytes of the largest VHD (Virtual Hard Disk Image Format Specification)."""

KERNELS = ("/dev", "/proc", "/run", "/sys")
"""Where a running system mounts what no disk has."""


def check_disks(spec: Spec) -> None:
    """BuildError for the first thing that does not hold together."""
    for disk in spec.disks:
        where = f"{spec.path}: disks.{disk.name}"
        _check_names(disk, where)
        check_boot(spec.arch, disk, where)
        _check_mounts(disk, where)
        _check_table(disk, where)
        _check_growing(disk, where)
        _check_sizes(spec, disk, where)
        check_filesystems(spec, disk, where)
        for file in disk.files:
            _check_file(disk, file, f"{where}.files.{file.name}")
        _check_beside_images(spec, disk, where)
    holding = [disk for disk in spec.disks if disk.filesystems]
    for one, other in pairwise(holding):
        _check_agreement(spec, one, other)
    # A disk between two of these may have none.
    esps = [(disk, found) for disk in holding if (found := disk.of_kind("esp")) is not None]
    for disk, esp in esps[1:]:
        _check_same(spec, esps[0][0], disk, "partitions: mount point of the EFI system partition",
                    esps[0][1].mount, esp.mount)  # fmt: skip


# ---------------------------------------------------------------- one disk


def _check_names(disk: Disk, where: str) -> None:
    seen: dict[str, str] = {}
    for one in disk.partitions:
        if len(one.name.encode("utf-16-le")) // 2 > GPT_NAME:
            own = one.name.removesuffix("-verity")
            added = one.kind == "verity"
            raise BuildError(
                f"{where}.partitions.{own}.name: {one.name!r} is longer than the {GPT_NAME} "
                "letters that a GPT takes" + ": `-verity` is added to it" * added,
                "give it a shorter one",
            )
        other = seen.get(one.name.casefold())
        if other is not None:
            alike = f", as {other!r}" if other != one.name else ""
            raise BuildError(
                f"{where}.partitions: {one.name!r} stands twice{alike}",
                "names must differ, not in case alone; `bios` (for GRUB on a GPT) and "
                "NAME-verity are added by Strata",
            )
        seen[one.name.casefold()] = one.name


def _check_mounts(disk: Disk, where: str) -> None:
    seen: dict[str, str] = {}
    for one in disk.partitions:
        if not one.mount:
            continue
        here = f"{place(where, one)}.mount"
        if one.mount in seen:
            raise BuildError(
                f"{here}: {one.mount!r} is where {seen[one.mount]} is mounted",
                "give one of them another mount point",
            )
        if taken := next((top for top in KERNELS if _below(one.mount, top)), ""):
            raise BuildError(
                f"{here}: {one.mount!r}: a running system mounts its own {taken} over it",
                "give it another mount point, or leave mount out",
            )
        if above := next((top for top in ESP_MOUNTS if one.kind != "esp"
                          and _below(one.mount, top)), ""):  # fmt: skip
            raise BuildError(
                f"{here}: {one.mount!r}: below {above} is the EFI system partition, which Strata "
                "fills",
                "give it another mount point",
            )
        seen[one.mount] = one.name
    if "/" not in seen and (disk.filesystems or disk.loader != "none"):
        raise BuildError(
            f"{where}.partitions: nothing is mounted at `/`",
            "add one, as in: {name: root, mount: /, size: rest}"
            + ("" if disk.filesystems else ", or write loader: none"),
        )


def _below(mount: str, top: str) -> bool:
    return mount == top or mount.startswith(f"{top}/")


def _check_table(disk: Disk, where: str) -> None:
    most = PARTITIONS[disk.table]
    if len(disk.partitions) > most:
        raise BuildError(
            f"{where}.partitions: {len(disk.partitions)} are more than the {most} that the table "
            f"{disk.table} has",
            "write table: gpt, which has 128" if disk.table == "mbr" else "leave some out",
        )
    if disk.table == "mbr" and disk.size is not None and disk.size > disk.sector << 32:
        raise BuildError(
            f"{where}.size: an mbr has {shown(disk.sector << 32)} at the most",
            "write table: gpt, or a smaller size",
        )


def _check_growing(disk: Disk, where: str) -> None:
    growing = [one for one in disk.partitions if one.grow]
    if not growing:
        return
    here = f"{place(where, growing[-1])}.grow"
    if growing[1:]:
        raise BuildError(
            f"{here}: {growing[0].name} grows as well",
            "let one of them grow: the last takes all that a larger disk has",
        )
    image = growing[0].image
    if image is not None and image.format == "vfat":
        raise BuildError(
            f"{here}: a vfat cannot grow while it is mounted",
            "let another partition grow, or give it another format",
        )
    if disk.table == "mbr":
        raise BuildError(
            f"{here}: systemd-repart(8), which lets it grow at boot, knows no mbr",
            "write table: gpt, or leave grow out and add cloud-init and cloud-guest-utils, which "
            "do it for an mbr",
        )
    if disk.verity and growing[0].mount == "/":
        raise BuildError(
            f"{here}: with verity, `/` is read-only and stays as it is",
            "remove grow, or let another partition be the last one and grow",
        )
    if growing[0] is not disk.partitions[-1]:
        raise BuildError(
            f"{here}: {disk.partitions[-1].name} lies behind it",
            "put it last: only what is at the end can become larger",
        )


def _check_sizes(spec: Spec, disk: Disk, where: str) -> None:
    rest = [one for one in disk.partitions if one.rest]
    if rest[1:]:
        raise BuildError(
            f"{place(where, rest[1])}.size: {rest[0].name} takes the rest already",
            "give one of them a size",
        )
    for one in disk.partitions:
        _check_holds(spec, one, place(where, one))
    _check_slack(disk, where)
    given = sum(one.size or 0 for one in disk.partitions)
    if given > LARGEST:
        raise BuildError(
            f"{where}.partitions: they have {shown(given)} together, and a disk has "
            f"{shown(LARGEST)} at the most",
            "make one smaller",
        )
    if disk.size is None:
        return
    if disk.size % MIB:
        raise BuildError(
            f"{where}.size: {disk.size} bytes are no whole MiB",
            f"write {shown(-(-disk.size // MIB) * MIB)}: partitions and formats need whole MiB",
        )
    if disk.size > LARGEST:
        raise BuildError(f"{where}.size: larger than {shown(LARGEST)}", "write a smaller size")
    # The table's, before and (of a GPT) behind them; what has no size yet takes one at the least.
    ends = MIB * (2 if disk.table == "gpt" else 1)
    least = ends + sum(MIB if one.size is None else one.size for one in disk.partitions)
    if least > disk.size:
        raise BuildError(
            f"{where}.size: {shown(disk.size)} are too small: its partitions and their table "
            f"take {shown(least)} or more",
            f"make it {shown(least)} or larger, or a partition smaller",
        )


def _check_holds(spec: Spec, partition: Partition, where: str) -> None:
    """Whether a partition holds its file, or the filesystem that `images` says."""
    if partition.source is not None:
        size = file_size(partition.source, spec.path, spec.name, f"{where}.source")
        if partition.size is not None and size > partition.size:
            raise BuildError(
                f"{where}.size: {shown(partition.size)} are too small: {partition.source} has "
                f"{size} bytes",
                "make it larger, or leave size out",
            )
    elif partition.image is not None and partition.size is not None:
        wanted = partition.image.size or 0
        if wanted > partition.size:
            raise BuildError(
                f"{where}.size: {shown(partition.size)} are too small: "
                f"images.{partition.mount}.size is {shown(wanted)}",
                "make it larger, or leave one of the two out",
            )
        least = FILESYSTEMS[partition.image.format].smallest
        if least > partition.size:
            raise BuildError(
                f"{where}.size: {shown(partition.size)} are too small: no {partition.image.format} "
                f"has less than {shown(least)}",
                "make it larger, or choose another format",
            )


def _check_slack(disk: Disk, where: str) -> None:
    if not disk.slack:
        return
    if disk.size is not None:
        raise BuildError(
            f"{where}.slack: the disk has a size, so that what is left is known",
            "write size: fit, or remove slack and give the partition that takes it size: rest",
        )
    if disk.slack % MIB:
        raise BuildError(
            f"{where}.slack: {disk.slack} bytes are no whole MiB",
            f"write {shown(-(-disk.slack // MIB) * MIB)}",
        )
    if not any(one.rest or (one.grow and one.size is None) for one in disk.partitions):
        raise BuildError(
            f"{where}.slack: no partition takes it: none has size: rest",
            "give one size: rest, or remove slack",
        )


def _check_file(disk: Disk, file: DiskFile, where: str) -> None:
    if file.level != "default" and file.container == "raw":
        raise BuildError(
            f"{where}.level: nothing is compressed", "add a container, or remove level"
        )
    if file.bmap and file.format != "raw":
        raise BuildError(
            f"{where}.bmap: bmaptool(1) writes raw disks alone, and this is a {file.format}",
            "remove bmap, or write format: raw",
        )
    if disk.sector != 512 and file.format in ("vhd", "vmdk"):
        raise BuildError(
            f"{where}.format: {file.format} has sectors of 512 bytes, and the disk of "
            f"{disk.sector}",
            "write format: raw or qcow2, or remove sector",
        )
    if file.format == "vhd" and disk.size is not None and disk.size > VHD_LIMIT:
        raise BuildError(
            f"{where}.format: a vhd has {shown(VHD_LIMIT)} at the most, and the disk has "
            f"{shown(disk.size)}",
            "make the disk smaller, or choose another format",
        )


# ---------------------------------------------------------------- beside others


def _check_beside_images(spec: Spec, disk: Disk, where: str) -> None:
    """BuildError where the same tree would be cut into other parts than `images` cuts it into."""
    cut, own = {image.mount for image in spec.images}, {one.mount for one in disk.filesystems}
    esp = disk.of_kind("esp")
    if esp is not None and esp.mount in cut:
        raise BuildError(
            f"{spec.path}: images.{esp.mount}: it is the EFI system partition of disks.{disk.name}",
            "remove the image: the disk has it",
        )
    if not cut or not own:
        return
    for mount in sorted(cut - own):
        raise BuildError(
            f"{where}.partitions: nothing is mounted at {mount}, and images.{mount} takes what is "
            "there out of `/`",
            f"add a partition with mount: {mount}, or remove images.{mount}",
        )
    for one in disk.filesystems:
        if one.mount not in cut:
            raise BuildError(
                f"{place(where, one)}.mount: it takes what is at {one.mount} out of `/`, and "
                "`images` would lack it",
                f"add images.{one.mount}, or put one of the two into a variant",
            )


def _check_agreement(spec: Spec, one: Disk, other: Disk) -> None:
    """BuildError where two disks say different things of the one tree that both have."""
    for field, was, now in _common(one, other):
        _check_same(spec, one, other, field, was, now)


def _check_same(spec: Spec, one: Disk, other: Disk, field: str, was: object, now: object) -> None:
    if was != now:
        raise BuildError(
            f"{spec.path}: disks.{other.name}.{field}: {now}, and of disks.{one.name} it is "
            f"{was}: both hold the same tree",
            "let them agree, or put one of them into a variant, or into a spec of its own "
            "that includes what they share",
        )


def _common(one: Disk, other: Disk) -> Iterator[tuple[str, object, object]]:
    """(field, what the one says, what the other says) of all that is written into the tree."""
    yield "loader", one.loader, other.loader
    yield "verity", _word(one.verity), _word(other.verity)
    yield "cmdline", repr(one.cmdline), repr(other.cmdline)
    for what in ("mount points", "grow"):
        yield f"partitions: {what}", _told(one, what), _told(other, what)
    for first, second in zip(one.filesystems, other.filesystems, strict=True):
        if first.image is None or second.image is None:
            continue
        here = f"partitions.{second.name}"
        for field in ("format", "label", "uuid", "options", "size"):
            was, now = getattr(first.image, field), getattr(second.image, field)
            yield f"{here}.{field}", _shown(field, was), _shown(field, now)


def _told(disk: Disk, what: str) -> str:
    every = disk.filesystems if what == "mount points" else [p for p in disk.partitions if p.grow]
    return ", ".join(one.mount for one in every) or "none"


def _word(value: bool) -> str:
    return str(value).lower()


def _shown(field: str, value: object) -> str:
    if field == "size":
        return "none of its own" if value is None else shown(int(str(value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return repr(" ".join(map(str, value)))
    return repr(value)
