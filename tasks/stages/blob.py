"""One tree as a layer of OCI: its tarball, overlayfs' marks as those of the specification.

    layer-KEY.tar.zst ─→ members ─→ device 0:0 → .wh.NAME, opaque → .wh..wh..opq ─→ blob

The OCI image specification's layer.md is the source of the form.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError, DamagedEntry
from ..formats import compress
from ..plan.stage import Stage
from ..plan.top_jobs import BlobJob
from ..rootfs.members import ATTRIBUTE, Member, members
from .facts import common

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"

KEPT = (f"{ATTRIBUTE}security.", f"{ATTRIBUTE}user.")
"""Extended attributes that mean something outside of this host's overlays."""


def build(job: BlobJob, builder: Builder) -> None:
    """Write a layer's blob into the cache; its diff_id is the digest of what is packed."""
    log, cache = builder.log, builder.cache
    raw = builder.scratch / f"{job.stage.entry}.tar"
    try:
        log.need_room("scratch", _size(job.tree, builder), f"making {job.stage.title}")
        log.step("writing the layer as OCI has it")
        _write(job, builder, raw)
        facts: dict[str, Any] = {
            "container": job.container,
            "epoch": cache.require(job.tree).facts["epoch"],
            **common(job, builder),
        }
        log.step(f"packing {raw.stat().st_size / 1e6:.0f} MB")
        digest: list[str] = []
        with cache.put(
            job.stage, facts, lambda: digest[0], doubtful=builder.doubtful(job)
        ) as target:
            level = job.level or "default"
            packed = compress.compress(raw, target, container=job.container, level=level)
            facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
            digest.append(packed.container.sha256)
    finally:
        raw.unlink(missing_ok=True)


def _size(tree: Stage, builder: Builder) -> int:
    return int(builder.cache.require(tree).facts.get("size", 0))


def _write(job: BlobJob, builder: Builder, raw: Path) -> None:
    """The tar itself: each member as it is, but for what is overlayfs' own."""
    source = builder.cache.require(job.tree).path
    below: set[str] | None = None
    with (
        raw.open("wb") as file,
        tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as out,
    ):
        try:
            for member in members(source):
                folder, _slash, name = member.path.rpartition("/")
                if name.startswith(WHITEOUT):
                    raise BuildError(
                        f"{job.spec}: exports: the tree has {member.path!r}, and names that begin "
                        f"with {WHITEOUT} mark what is gone in OCI",
                        "rename or remove it",
                    )
                if member.gone:
                    _empty(out, "/".join(filter(None, [folder, WHITEOUT + name])), member)
                    continue
                _copy(out, member)
                if member.opaque:
                    below = _folders(job, builder) if below is None else below
                    # Each new folder is opaque to overlayfs: there is nothing below it to hide.
                    if member.path in below:
                        _empty(out, f"{member.path}/{OPAQUE}", member)
        except tarfile.TarError as error:
            builder.cache.damaged(job.tree, builder.log.step)
            raise DamagedEntry(f"{source}: {error}", "run the same command again") from error


def _copy(out: tarfile.TarFile, member: Member) -> None:
    info = member.info
    made = tarfile.TarInfo(member.path)
    for field in ("mode", "uid", "gid", "mtime", "type", "linkname", "devmajor", "devminor"):
        setattr(made, field, getattr(info, field))
    if info.type == tarfile.GNUTYPE_SPARSE or member.data:
        made.type = tarfile.REGTYPE
    if info.islnk():
        made.linkname = "/".join(step for step in info.linkname.split("/") if step not in ("", "."))
    made.pax_headers = {
        name: value for name, value in sorted(info.pax_headers.items()) if name.startswith(KEPT)
    }
    if not info.isreg():
        out.addfile(made)
        return
    made.size = info.size
    content = member.opened()
    assert content is not None
    out.addfile(made, content)


def _empty(out: tarfile.TarFile, path: str, like: Member) -> None:
    made = tarfile.TarInfo(path)
    made.mtime = like.info.mtime
    out.addfile(made)


def _folders(job: BlobJob, builder: Builder) -> set[str]:
    """The folders of the trees below, gone by now or not."""
    lower: Iterable[Stage] = (one for one in job.below if one != job.tree)
    return {
        member.path
        for stage in lower
        for member in members(builder.cache.require(stage).path)
        if member.info.isdir()
    }
