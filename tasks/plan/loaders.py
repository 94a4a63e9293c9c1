"""Boot loaders: the packages that each needs in the tree, and where in the tree these are whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..debian.ordering import older
from ..errors import BuildError
from ..spec.disks import Disk
from ..spec.model import Spec
from . import booting
from .lockfile import Lock, Record
from .stage import Stage

ESP_TOOLS = ("mkfs.vfat", "mcopy")
"""The host's tools whose versions decide the bytes of an EFI system partition."""

VERITY_TOOLS = ("veritysetup",)


@dataclass(frozen=True, kw_only=True)
class Need:
    """One package, or any of several, that a tree lacks or has; `why` says who asks for it."""

    any_of: tuple[str, ...]
    why: str

    def met(self, locked: Mapping[str, Record]) -> bool:
        """Whether one of them is locked; a name that ends in * stands for all that begin so."""
        return any(
            one in locked
            or (one.endswith("*") and any(name.startswith(one[:-1]) for name in locked))
            for one in self.any_of
        )


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The oldest version of systemd that something is known to work with, and who has it."""

    version: str
    release: str


UKI_FLOOR = Floor(version="257~", release="Debian 13 (trixie)")
"""ukify has its package, and dracut its module for dm-verity, since that release."""


GRUB = {"amd64": "x86_64-efi", "arm64": "arm64-efi"}
"""What GRUB calls its own for UEFI there."""


def packages(disk: Disk, arch: str) -> list[Need]:
    """What a disk's loader needs of an architecture of EFI, apart from a kernel."""
    found: list[Need] = []
    if disk.loader == "grub" and "uefi" in disk.firmware:
        found += [
            Need(any_of=("shim-signed",), why="grub for UEFI"),
            Need(any_of=(f"grub-efi-{arch}-signed",), why="grub for UEFI"),
        ]
    if disk.loader == "grub" and "bios" in disk.firmware:
        found.append(Need(any_of=("grub-pc-bin",), why="grub for BIOS"))
    if disk.loader == "systemd-boot":
        # Since Debian 13, the one only recommends the other.
        found += [
            Need(any_of=("systemd-boot",), why="systemd-boot"),
            Need(any_of=("systemd-boot-efi",), why="systemd-boot"),
        ]
    if disk.loader == "uki":
        found += [
            Need(any_of=("systemd-ukify",), why="uki"),
            Need(any_of=("systemd-boot-efi",), why="uki"),
        ]
    if disk.verity:
        found += [
            Need(any_of=("dracut",), why="verity"),
            Need(any_of=("systemd-cryptsetup",), why="verity"),
        ]
    return found


def _kernel(disk: Disk, arch: str, vendor: str) -> list[Need]:
    name = "linux-image-generic" if vendor == "ubuntu" else f"linux-image-{arch}"
    return [
        Need(any_of=(name, "linux-image-*"), why=disk.loader),
        Need(any_of=("initramfs-tools", "initramfs-tools-core", "dracut"), why=disk.loader),
    ]


def lacking(disk: Disk, spec: Spec, lock: Lock) -> BuildError | None:
    """The error of all that the tree lacks for a disk, None where it lacks nothing."""
    where = f"{spec.path}: disks.{disk.name}"
    locked = {record.package: record for record in lock.installed()}
    found: list[Need] = []
    if disk.loader != "none":
        if spec.base.variant == "extract":
            return BuildError(
                f"{where}.loader: in a tree of `variant: extract` no package is configured, so "
                "that it has no initramfs to boot with",
                "choose another variant, or `loader: none`",
            )
        if (disk.loader == "uki" or disk.verity) and (old := _too_old(locked, UKI_FLOOR)):
            field = "verity" if disk.verity else "loader: uki"
            return BuildError(
                f"{where}.{field}: needs what systemd has since {UKI_FLOOR.release}, and the lock "
                f"has systemd {old}",
                "choose a newer suite, or loader: grub without verity",
            )
        found += [*_kernel(disk, spec.arch, booting.vendor(lock)), *packages(disk, spec.arch)]
    return _error(where, [*found, *_growing(disk, locked)], locked)


def check(spec: Spec, lock: Lock) -> None:
    """BuildError for the first disk for which the tree lacks something, with all that it lacks."""
    for disk in spec.disks:
        if error := lacking(disk, spec, lock):
            raise error


def tools(disk: Disk) -> set[str]:
    """The host's tools whose versions decide the bytes of a disk's parts but filesystems."""
    found = set(ESP_TOOLS) if disk.of_kind("esp") else set()
    return found | (set(VERITY_TOOLS) if disk.verity else set())


def _too_old(locked: Mapping[str, Record], floor: Floor) -> str:
    """The version of systemd if it is below a floor, else ""; having none is no reason."""
    record = locked.get("systemd")
    return record.version if record and older(record.version, floor.version) else ""


REPART_APART = "254~"
"""Since then systemd-repart has a package of its own: in Debian 12 it is in systemd's (252)."""


def _growing(disk: Disk, locked: Mapping[str, Record]) -> list[Need]:
    if not any(one.grow for one in disk.partitions):
        return []
    systemd = locked.get("systemd")
    apart = systemd is None or not older(systemd.version, REPART_APART)
    name = "systemd-repart" if apart else "systemd"
    return [Need(any_of=(name,), why="grow")]


def _error(where: str, needs: Sequence[Need], locked: Mapping[str, Record]) -> BuildError | None:
    missing = [one for one in needs if not one.met(locked)]
    if not missing:
        return None
    by_reason: dict[str, list[str]] = {}
    for one in missing:
        by_reason.setdefault(one.why, []).append(one.any_of[0])
    said = "; ".join(f"{why} needs {', '.join(names)}" for why, names in by_reason.items())
    words = dict.fromkeys(one.any_of[0] for one in missing)
    return BuildError(
        f"{where}: {said}, which {'is' if len(words) == 1 else 'are'} not in the lock",
        f"add to packages: {', '.join(words)}",
    )


# ---------------------------------------------------------------- where in the tree

MADE_OF = {
    # Of shim-unsigned comes the list by which shim's fallback makes a boot entry.
    "esp": ("shim-signed", "shim-helpers-{}-signed", "shim-unsigned", "grub-efi-{}-signed"),
    "bios": ("grub-pc-bin", "grub-common"),
}
"""The packages that have what GRUB's parts are made of."""

PLACES = {
    "esp": ("/usr/lib/shim", "/usr/lib/grub"),
    "bios": ("/usr/lib/grub", "/usr/bin/grub-mkimage"),
}
"""Where those have it: a layer's own files may be there as well."""


def layer_of(
    disk: Disk,
    spec: Spec,
    lock: Lock,
    part: str = "esp",
    files: Mapping[str, Sequence[Sequence[Any]]] | None = None,
) -> int | None:
    """How many stages of the tree, the base being 1, have all that a part of a loader is made of.

    None for all of them, as the end of a slice. `part` is esp or bios; `files` are the identities
    of what layers give, as plan.stage.Host has them. GRUB's parts hold no kernel, so that a package
    further up redoes neither; all others are made of the whole tree. A script that puts another
    GRUB where the package's was is not seen.
    """
    layers = len(lock.layers)
    if disk.loader != "grub":
        return None
    names = {name.format(spec.arch) for name in MADE_OF[part]}

    def there(number: int) -> list[Record]:
        return [record for record in lock.installed(number) if record.package in names]

    last = there(layers)
    count = layers
    while count and there(count - 1) == last:
        count -= 1
    for number, layer in enumerate(lock.layers, 1):
        rows = (files or {}).get(layer.name, ())
        if any(_merged(str(row[0])).startswith(PLACES[part]) for row in rows):
            count = max(count, number)
    return count + 1


def _merged(path: str) -> str:
    """A path below /lib as it is in a tree whose /lib is a link to /usr/lib."""
    return f"/usr{path}" if path.startswith(("/lib", "/bin", "/sbin")) else path


# ---------------------------------------------------------------- what keys are made of


def esp_inputs(
    spec: Spec, disk: Disk, lock: Lock, *, size: int, serial: str, verity: Stage | None = None
) -> dict[str, Any]:
    """All that an EFI system partition is made of, but for its tree and the tools' versions.

    The host's tools are ESP_TOOLS.
    """
    kernel = disk.loader != "grub"
    return {
        "arch": spec.arch,
        "loader": disk.loader,
        "sector": disk.sector,
        "size": size,
        "serial": serial,
        "texts": booting.esp_texts(spec, disk, lock),
        "vendor": booting.vendor(lock),
        # GRUB's partition has no command line: that is in grub.cfg.
        "cmdline": booting.cmdline(spec, disk) if kernel else "",
        "verity": verity.key if verity is not None else "",
    }


def bios_inputs(spec: Spec, disk: Disk) -> dict[str, Any]:
    """All that GRUB's core for BIOS is made of, but for its tree; it takes no tool of the host."""
    return {
        "arch": spec.arch,
        "config": booting.bios_config(spec, disk),
        "modules": list(booting.bios_modules(spec, disk)),
    }


def verity_inputs(filesystem: Stage, *, uuid: str, salt: str) -> dict[str, Any]:
    """All that a hash tree is made of, but for the tool's version; the tools are VERITY_TOOLS."""
    return {"filesystem": filesystem.key, "uuid": uuid, "salt": salt}
