"""One tree as a layer of OCI: its tarball, overlayfs' marks as those of the specification.

    layer-KEY.tar.zst ─→ members ─→ device 0:0 → .wh.NAME, opaque → .wh..wh..opq ─→ blob

The OCI image specification's layer.md is the source of the form.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError, DamagedEntry, printable
from ..formats import compress
from ..plan.stage import Stage
from ..plan.top_jobs import BlobJob
from ..rootfs.members import ATTRIBUTE, Member, members
from .facts import common

SPARSE_LIMIT = 8 << 30
"""Bytes of the largest file with holes that a blob takes."""

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"

KEPT = tuple(f"{ATTRIBUTE}{name}" for name in ("security.", "user.", "system.posix_acl_"))
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
        compress.sparse_copy(file) as write,
        tarfile.open(
            fileobj=_Holes(write),
            mode="w|",
            format=tarfile.PAX_FORMAT,
            bufsize=1 << 20,
            encoding="utf-8",
        ) as out,
    ):
        try:
            for member in members(source, root=True):
                folder, _slash, name = member.path.rpartition("/")
                _check_inside(job, member)
                if name.startswith(WHITEOUT):
                    raise BuildError(
                        f"{job.spec}: exports: the tree has {member.path!r}, and names that begin "
                        f"with {WHITEOUT} mark what is gone in OCI",
                        "rename or remove it",
                    )
                if member.gone:
                    _empty(out, "/".join(filter(None, [folder, WHITEOUT + name])), member)
                    continue
                _check_holes(job, member)
                _copy(out, member)
                if member.opaque:
                    below = _folders(job, builder) if below is None else below
                    # Each new folder is opaque to overlayfs: there is nothing below it to hide.
                    if member.path in below:
                        _empty(out, f"{member.path}/{OPAQUE}", member)
        except tarfile.TarError as error:
            raise _damaged(builder, job.tree, error) from error


def _damaged(builder: Builder, tree: Stage, error: tarfile.TarError) -> DamagedEntry:
    builder.cache.damaged(tree, builder.log.step)
    return DamagedEntry(f"{builder.cache.file(tree)}: {error}", "run the same command again")


class _Holes(io.RawIOBase):
    """What tarfile writes to: zeros become holes, since files have theirs written out."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.put = put

    def write(self, data: Any) -> int:
        self.put(data)
        return len(data)


def _check_inside(job: BlobJob, member: Member) -> None:
    """BuildError for a name that leads out: whoever unpacks the blob may follow it."""
    linked = member.info.linkname.split("/") if member.info.islnk() else []
    if ".." in (*member.path.split("/"), *linked):
        raise BuildError(
            f"{job.spec}: exports: the tarball of {job.tree.title} has {member.path!r}, which "
            "leads out of it: Strata did not make it",
            "remove it and its record from the cache, and see who may sign for it",
        )


def _check_holes(job: BlobJob, member: Member) -> None:
    """BuildError for a file of so many holes that whoever takes the image would write them all."""
    sparse = member.info.type == tarfile.GNUTYPE_SPARSE or member.data
    if sparse and member.info.size > SPARSE_LIMIT:
        raise BuildError(
            f"{job.spec}: exports: {printable('/' + member.path)} has "
            f"{member.info.size / (1 << 30):.0f} GiB, most of it holes, which a layer of OCI "
            "writes out",
            "remove it, or make it smaller (of /var/log/lastlog and faillog: a user of a smaller "
            "uid)",
        )


def _copy(out: tarfile.TarFile, member: Member) -> None:
    info = member.info
    made = tarfile.TarInfo(member.path or ".")
    for field in ("mode", "uid", "gid", "mtime", "type", "linkname", "devmajor", "devminor"):
        setattr(made, field, getattr(info, field))
    if info.type == tarfile.GNUTYPE_SPARSE or member.data:
        made.type = tarfile.REGTYPE
    if info.islnk():
        made.linkname = "/".join(step for step in info.linkname.split("/") if step not in ("", "."))
    made.pax_headers = {
        name: value for name, value in sorted(info.pax_headers.items()) if name.startswith(KEPT)
    }
    if "mtime" in info.pax_headers:  # in full: as a number it would lose nanoseconds
        made.pax_headers["mtime"] = info.pax_headers["mtime"]
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
    found: set[str] = set()
    for stage in job.below:
        if stage == job.tree:
            continue
        try:
            there = members(builder.cache.require(stage).path)
            found.update(member.path for member in there if member.info.isdir())
        except tarfile.TarError as error:
            raise _damaged(builder, stage, error) from error
    return found
