"""GRUB for BIOS: the tree's own grub-mkimage makes its core, and boot.img is put before it."""

from __future__ import annotations

from ..builder import Builder
from ..errors import BuildError
from ..host import safe
from ..host.sandbox import step
from ..plan.top_jobs import BiosJob
from ..spec.disks import BIOS_SIZE, MIB
from .parts import WORK, keep, result, run_inside, tree_of, work_folder

SECTOR = 512
"""Bytes, also on disks whose own are larger: boot.img and the core are made for these."""

FOLDER = "/usr/lib/grub/i386-pc"


def build(job: BiosJob, builder: Builder) -> None:
    """Make both and put them into the cache, as one file of whole sectors."""
    tree = tree_of(job, builder, "disks: loader: grub for BIOS")
    boot = tree.need(f"{FOLDER}/boot.img", "grub-pc-bin")
    tree.need("/usr/bin/grub-mkimage", "grub-common")
    # What the tree's programs can write to holds nothing that is written to afterwards.
    with work_folder(job, builder, "bios") as work, work_folder(job, builder, "raw") as folder:
        (work / "early.cfg").write_text(job.config)
        builder.log.step("making GRUB's core")
        made = step(
            "grub-mkimage",
            "--format=i386-pc",
            f"--directory={FOLDER}",
            # What early.cfg sets in its place once it has found the filesystem.
            "--prefix=/boot/grub",
            f"--config={WORK}/early.cfg",
            f"--output={WORK}/core.img",
            *job.modules,
            title="making GRUB's core",
        )
        run_inside(job, builder, tree, work, [made], job.stage.title)
        raw = folder / "bios.img"
        with open(safe.reading(boot), "rb") as file:
            first = file.read(SECTOR).ljust(SECTOR, b"\0")
        with open(safe.reading(result(work, "core.img", tree, "grub-mkimage")), "rb") as file:
            core = file.read(BIOS_SIZE + 1)
        if len(core) > BIOS_SIZE:
            raise BuildError(
                f"{tree.where}: the tree's grub-mkimage made a core of more than "
                f"{BIOS_SIZE // MIB} MiB, which no partition for it holds",
                "see what a script or `files` puts in the place of grub-mkimage or its modules",
            )
        raw.write_bytes(first + core + bytes(-len(core) % SECTOR))
        keep(job, builder, raw, {"sectors": (SECTOR + len(core) + SECTOR - 1) // SECTOR})
