"""An EFI system partition: a FAT with a boot loader, and what that reads.

the tree's files ─┐
texts of the plan ┼→ a folder ─→ mkfs.vfat, mtools ─→ read again ─→ cache
kernels, a UKI ───┘
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path, PurePath

from ..builder import Builder
from ..debian.ordering import compared
from ..errors import BuildError
from ..formats import vfat
from ..formats.ext import environment
from ..formats.filesystem import SCRIPTS
from ..formats.footprint import MIB
from ..host import etc
from ..host.files import remove
from ..host.process import run
from ..plan.booting import EFI
from ..plan.loaders import GRUB
from ..plan.top_jobs import EspJob
from ..store.stale import made_of
from . import uki
from .parts import Tree, copy, epoch_of, keep, tree_of, work_folder

SHIM = "/usr/lib/shim"
SYSTEMD_BOOT = "/usr/lib/systemd/boot/efi"


def build(job: EspJob, builder: Builder) -> None:
    """Make the partition and put it into the cache."""
    where = f"disks.{job.disk.name}"
    tree = tree_of(job, builder, f"{where}.loader: {job.disk.loader}")
    epoch = max(epoch_of(job, builder), FIRST)
    # Its root hash is in the uki.
    of = made_of((job.verity, builder.cache.require(job.verity))) if job.verity else {}
    private = etc.make(builder.scratch / f"{job.stage.entry}.etc")
    try:
        with (
            work_folder(job, builder, "esp") as folder,
            work_folder(job, builder, "inside") as inside,
            work_folder(job, builder, "made") as made,
        ):
            filling = Filling(job=job, builder=builder, tree=tree, folder=folder, inside=inside)
            filling.fill()
            kind = shape(job.size, job.disk.sector)
            needed = kind.needed(filling.sizes)
            if needed > job.size:
                raise BuildError(
                    f"{job.spec}: {where}.partitions: an EFI system partition of "
                    f"{job.size / MIB:.0f} MiB does not hold the {job.disk.loader} loader and its "
                    f"files, which take {-(-needed // MIB)} MiB",
                    f"give it a size of {-(-needed * 2 // (16 * MIB)) * 16}M, which has room for a "
                    "second kernel",
                )
            raw = made / "esp.img"
            with raw.open("wb") as file:
                file.truncate(job.size)
            dated(folder, epoch)
            env = environment(epoch, made / "mke2fs.conf")
            builder.log.step("making the EFI system partition")
            argv = ["mkfs.vfat", "--invariant", "-i", job.serial, "-n", "ESP", *kind.options]
            empty = made / "empty"
            empty.mkdir()
            run(etc.argv(private, [*argv, str(raw)]), log=builder.log, env=env, cwd=empty)
            script = ["/bin/bash", str(SCRIPTS / "fill-vfat.sh"), str(raw)]
            run(etc.argv(private, script), log=builder.log, env=env, cwd=folder, typed="")
            if lost := vfat.lost(raw, sizes(folder)):
                raise BuildError(f"{job.spec}: {where}: mtools wrote {lost} otherwise")
            keep(job, builder, raw, {"serial": job.serial, "kernels": filling.kernels, **of})
    finally:
        remove(private)


FIRST = 315532800
"""1980-01-01: no date of a FAT is older."""


def dated(folder: Path, epoch: int) -> None:
    """Give all that is below a folder one date, in seconds."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (epoch, epoch))


def sizes(folder: Path) -> dict[str, int]:
    """Size of each file by its path below a folder, -1 for each folder."""
    return {
        str(path.relative_to(folder)): -1 if path.is_dir() else path.stat().st_size
        for path in folder.rglob("*")
    }


# ---------------------------------------------------------------- the filesystem's shape

FAT32 = 65525
"""Clusters that make a FAT a FAT32: with fewer it is read as FAT16 (fatgen103)."""

FAT16 = 4085
"""Clusters that make it no FAT12, which is what floppy disks have."""

LARGE = 260 * MIB
"""From here on mkfs.vfat(8) takes clusters of 4 KiB for a FAT32."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a FAT is made: its kind, and bytes of a sector and of a cluster."""

    bits: int
    sector: int
    cluster: int

    @property
    def options(self) -> list[str]:
        """mkfs.vfat's."""
        return [
            *("-F", str(self.bits)),
            *("-S", str(self.sector)),
            *("-s", str(self.cluster // self.sector)),
        ]

    def needed(self, found: Mapping[str, int]) -> int:
        """Bytes of a filesystem that holds files of these sizes, by their paths."""
        folders = {str(one) for path in found for one in PurePath(path).parents}
        # A folder takes 32 bytes for each 13 characters of a name: 16 KiB are more than enough.
        data = sum(max(1, -(-size // self.cluster)) for size in found.values())
        data += len(folders) * -(-(16 << 10) // self.cluster)
        clusters = max(data + 64, FAT16 + 64)
        table = -(-clusters * self.bits // 8 // self.sector) * self.sector
        return clusters * self.cluster + 2 * table + 64 * self.sector


def shape(size: int, sector: int) -> Shape:
    """How a FAT of so many bytes is made: FAT32 where it is large enough for one, else FAT16."""
    # Two tables of four bytes a cluster, and the reserved sectors.
    smallest = FAT32 * (sector + 8) + 64 * sector
    if size >= smallest:
        large = size >= LARGE and sector < 4096
        return Shape(bits=32, sector=sector, cluster=8 * sector if large else sector)
    cluster = sector
    while size // cluster > FAT32 - 16:
        cluster *= 2
    return Shape(bits=16, sector=sector, cluster=cluster)


# ---------------------------------------------------------------- what is on it


@dataclass(kw_only=True)
class Filling:
    """The folder that becomes the partition."""

    job: EspJob
    builder: Builder
    tree: Tree
    folder: Path
    inside: Path
    """Another that the tree's own tools write to: nothing else is written there."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each file by its path."""

    @property
    def kernels(self) -> list[str]:
        """The releases of the kernels in it, the newest first."""
        if self.job.disk.loader == "grub":
            return []
        return kernels(self.tree)[: 1 if self.job.disk.loader == "uki" else None]

    def fill(self) -> None:
        """Put all of it there."""
        {"grub": self._grub, "systemd-boot": self._systemd_boot, "uki": self._uki}[
            self.job.disk.loader
        ]()
        for path, text in sorted(self.job.texts.items()):
            self._write(path, text)

    def _write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        self.sizes[path] = target.stat().st_size

    def _copy(self, source: Path, target: str) -> None:
        """Copy a file; of those that are too large, only their sizes are wanted."""
        self.sizes[target] = source.lstat().st_size
        if sum(self.sizes.values()) <= self.job.size:
            copy(source, self.folder / target)

    def _put(self, source: str, package: str, *targets: str) -> None:
        found = self.tree.need(source, package)
        for target in targets:
            self._copy(found, target)

    def _shim(self, *folders: str) -> None:
        """shim where firmware looks for a loader, and what it starts where its keys are wanted."""
        arch = EFI[self.job.arch]
        boot = f"EFI/BOOT/BOOT{arch.upper()}.EFI"
        copies = [f"{folder}/shim{arch}.efi" for folder in folders]
        self._put(f"{SHIM}/shim{arch}.efi.signed", "shim-signed", boot, *copies)
        for folder in ("EFI/BOOT", *folders):
            self._helper("mm", folder)
        # Not in EFI/BOOT, where shim would start it first: it writes into the firmware's variables
        # and, with a TPM, starts the machine anew.
        for folder in folders:
            self._helper("fb", folder)
            entry = self.tree.find(f"{SHIM}/BOOT{arch.upper()}.CSV")
            if entry is not None:
                self._copy(entry, f"{folder}/BOOT{arch.upper()}.CSV")

    def _helper(self, kind: str, folder: str) -> None:
        """One of shim's own helpers; what Ubuntu has under the plain name is signed as well."""
        name = f"{kind}{EFI[self.job.arch]}.efi"
        plain = self.tree.find(f"{SHIM}/{name}")
        if plain is not None and self.tree.find(f"{SHIM}/{name}.signed") is None:
            self._copy(plain, f"{folder}/{name}")
            return
        package = f"shim-helpers-{self.job.arch}-signed"
        self._put(f"{SHIM}/{name}.signed", package, f"{folder}/{name}")

    def _grub(self) -> None:
        arch = EFI[self.job.arch]
        # The folder of its grub.cfg is the one that it was built to look in.
        folders = sorted({os.path.dirname(path) for path in self.job.texts})
        self._shim(*folders)
        package = f"grub-efi-{self.job.arch}-signed"
        signed = f"/usr/lib/grub/{GRUB[self.job.arch]}-signed/grub{arch}.efi.signed"
        for folder in ("EFI/BOOT", *folders):
            self._put(signed, package, f"{folder}/grub{arch}.efi")

    def _systemd_boot(self) -> None:
        arch = EFI[self.job.arch]
        name = f"systemd-boot{arch}.efi"
        # bootctl(1) knows it by this place.
        own = f"EFI/systemd/{name}"
        signed = self.tree.find(f"{SYSTEMD_BOOT}/{name}.signed")
        if signed is not None and self.tree.find(f"{SHIM}/shim{arch}.efi.signed") is not None:
            self._shim()
            # What shim starts has GRUB's name.
            for target in (f"EFI/BOOT/grub{arch}.efi", own):
                self._copy(signed, target)
        else:
            boot = f"EFI/BOOT/BOOT{arch.upper()}.EFI"
            self._put(f"{SYSTEMD_BOOT}/{name}", "systemd-boot-efi", boot, own)
        token = str(self.job.stage.inputs["vendor"])
        title = uki.os_release(self.tree).get("PRETTY_NAME", "Linux")
        for release in self._needed_kernels():
            place = f"{token}/{release}"
            initrd = f"initrd.img-{release}"
            self._put(f"/boot/vmlinuz-{release}", "the kernel", f"{place}/linux")
            self._put(f"/boot/{initrd}", "initramfs-tools", f"{place}/{initrd}")
            # As kernel-install(8) of Debian writes it, which replaces it then.
            lines = {
                "title": title,
                "version": release,
                "sort-key": token,
                "options": self.job.cmdline,
                "linux": f"/{place}/linux",
                "initrd": f"/{place}/{initrd}",
            }
            text = "".join(f"{key:<10} {value}\n" for key, value in lines.items())
            self._write(f"loader/entries/{token}-{release}.conf", text)

    def _uki(self) -> None:
        arch = EFI[self.job.arch]
        (release, *_others) = self._needed_kernels()
        image = uki.make(self.job, self.builder, self.tree, self.inside, release)
        self._copy(image, f"EFI/BOOT/BOOT{arch.upper()}.EFI")

    def _needed_kernels(self) -> list[str]:
        found = self.kernels
        if not found:
            raise BuildError(
                f"{self.tree.where}: the tree has no kernel /boot/vmlinuz-…",
                f"add linux-image-{self.job.arch} to packages",
            )
        return found


KERNEL = re.compile(r"vmlinuz-([0-9][A-Za-z0-9.+~_-]{0,120})")
"""A kernel's file: what a tree calls it is a name on the partition, and a word of commands."""


def kernels(tree: Tree) -> list[str]:
    """The releases of the kernels in /boot of a tree, the newest first."""
    found = [name[1] for one in tree.names("/boot") if (name := KERNEL.fullmatch(one))]
    return sorted(found, key=cmp_to_key(compared), reverse=True)
