"""The hash tree of a read-only filesystem, for dm-verity: see veritysetup(8)."""

from __future__ import annotations

import re

from ..builder import Builder
from ..errors import BuildError
from ..host import etc
from ..host.files import remove
from ..host.process import capture
from ..plan.top_jobs import VerityJob
from ..store.stale import made_of
from .parts import keep, work_folder
from .sound import sound

BLOCK = 4096
"""Bytes of a block of data and of hashes: what all of Linux's architectures take."""


def build(job: VerityJob, builder: Builder) -> None:
    """Make the tree of hashes and put it into the cache; the root hash is among its facts."""
    filesystem = sound(job.filesystem, builder)
    if filesystem.size % BLOCK:
        raise BuildError(
            f"{job.spec}: disks: verity: the filesystem of {filesystem.size} bytes is not of whole "
            f"blocks of {BLOCK}",
            "leave size and options of that filesystem out",
        )
    # Whoever has them at hand knows whether they came with a signature.
    builder.trees.lower(job.below, builder.log)
    private = etc.make(builder.scratch / f"{job.stage.entry}.etc")
    try:
        with work_folder(job, builder, "verity") as work:
            raw = work / "hashes.img"
            builder.log.step("making the hash tree")
            builder.log.need_room("scratch", filesystem.size // 100, "making a hash tree")
            argv = [
                "veritysetup",
                "format",
                "--hash=sha256",
                f"--data-block-size={BLOCK}",
                f"--hash-block-size={BLOCK}",
                f"--uuid={job.uuid}",
                f"--salt={job.salt}",
                str(filesystem.path),
                str(raw),
            ]
            raw.touch()
            status, out, error = capture(etc.argv(private, argv), cwd=work)
            builder.log.line(f"+ {' '.join(argv)}")
            for line in (out + error).splitlines():
                builder.log.line(line)
            found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", out, re.MULTILINE)
            if status or found is None:
                raise builder.log.failure(
                    f"{job.stage.title}: veritysetup", f"failed: {error.strip() or out.strip()}"
                )
            facts = {"root_hash": found[1], "uuid": job.uuid, "salt": job.salt}
            facts |= made_of((job.filesystem, filesystem))
            keep(job, builder, raw, facts)
    finally:
        remove(private)
