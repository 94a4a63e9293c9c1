"""The whole tree in another form: an OCI layout, tar, squashfs, erofs, cpio, or what boots by PXE.

lower directories ─→ overlay, read-only ─→ tar | mksquashfs | mkfs.erofs | cpio ─→ the cache
blobs ─→ config, manifest, index ─→ a bundle
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..formats import bundle, compress, pax
from ..host import etc
from ..host.process import capture
from ..host.sandbox import Overlay, Sandbox, Step
from ..plan import fstab
from ..plan.stage import Stage
from ..plan.top_jobs import ExportJob
from ..rootfs import tarball
from ..store.record import Entry
from ..store.stale import made_of
from . import esp, lost, oci, parts
from .facts import common

NAMES = ("find", ".", "-print0"), ("env", "LC_ALL=C", "sort", "--zero-terminated")
"""The paths of the tree, in the order of their bytes."""

XATTRS = ("security.*", "user.*", "system.posix_acl_*")
"""Extended attributes that mean something outside of this host's overlays."""


def build(job: ExportJob, builder: Builder) -> None:
    """Make an export and put it into the cache."""
    with parts.work_folder(job, builder, "export") as folder:
        raw = folder / "raw"
        facts: dict[str, Any] = {
            "format": job.export.format,
            "container": job.export.container,
            **common(job, builder),
        }
        if job.export.format == "oci":
            blobs = [(one, builder.cache.require(one)) for one in job.blobs]
            # Its manifest names them by digest.
            facts |= made_of(*blobs)
            facts["files"] = bundle.write(raw, _layout(job, blobs))
        elif job.export.format == "netboot":
            facts["files"] = bundle.write(raw, _netboot(job, builder, folder))
        else:
            _whole(job, builder, folder, raw)
        _keep(job, builder, raw, facts)


def _keep(job: ExportJob, builder: Builder, raw: Path, facts: dict[str, Any]) -> None:
    export, log = job.export, builder.log
    # Of an OCI image its blobs are packed, and what names them is not.
    container = "raw" if export.format == "oci" else export.container
    log.step(f"packing {raw.stat().st_size / 1e6:.0f} MB")
    digest: list[str] = []
    with builder.cache.put(
        job.stage, facts, lambda: digest[0], doubtful=builder.doubtful(job)
    ) as target:
        packed = compress.compress(raw, target, container=container, level=export.level)
        facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
        digest.append(packed.container.sha256)


# ---------------------------------------------------------------- OCI


def _layout(job: ExportJob, blobs: Sequence[tuple[Stage, Entry]]) -> Mapping[str, bytes]:
    layers = [
        oci.Layer(
            name=blob.name,
            diff_id=entry.facts["raw"]["sha256"],
            sha256=entry.facts["packed"]["sha256"],
            size=entry.facts["packed"]["size"],
        )
        for blob, entry in blobs
    ]
    # The dates of what the blobs are of, as far as these are known: in seconds.
    epoch = max((int(entry.facts.get("epoch", 0)) for _blob, entry in blobs), default=0)
    return oci.layout(
        oci.Image(
            name=job.name,
            arch=job.arch,
            created=epoch,
            config=job.export.config,
            container=job.export.container,
            layers=tuple(layers),
        )
    )


# ---------------------------------------------------------------- files


def _whole(job: ExportJob, builder: Builder, folder: Path, raw: Path) -> None:
    """One file of the whole tree."""
    if job.export.format == "squashfs":
        steps = _squashfs(job, builder, raw)
    else:
        makers = {"tar": _tar, "cpio": _cpio, "erofs": _erofs}
        lost.check(job, builder, job.export.format)
        steps = makers[job.export.format](job, raw)
    _on_tree(job, builder, folder, steps)


def _tar(_job: ExportJob, raw: Path) -> list[Step]:
    return [_piped(_sorted_tar(XATTRS), raw)]


def _sorted_tar(attributes: Sequence[str]) -> list[list[str]]:
    """A pipeline that writes the tree as a tar, with the attributes of these names."""
    argv = [
        "tar", "--create", "--sort=name", "--numeric-owner", "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--xattrs", *(f"--xattrs-include={name}" for name in attributes),
        *tarball.SPARSE, "--file", "-", ".",
    ]  # fmt: skip
    # Each filesystem lists extended attributes in an order of its own.
    return [argv, [*PYTHON, pax.__file__]]


def _cpio(_job: ExportJob, raw: Path) -> list[Step]:
    argv = ["cpio", "--quiet", "--create", "--null", "--format=newc", "--reproducible"]
    return [_piped([*map(list, NAMES), argv], raw)]


def _squashfs(job: ExportJob, builder: Builder, raw: Path) -> list[Step]:
    """By a tar only where the order of attributes counts: mksquashfs takes no root from that."""
    last = [
        "-noappend", "-quiet", "-no-progress", "-reproducible",
        "-comp", "zstd", "-Xcompression-level", "3",
    ]  # fmt: skip
    pipeline = [["mksquashfs", ".", str(raw), *last]]
    if lost.check(job, builder, "squashfs"):
        top = builder.trees.lower(job.below, builder.log)[0]
        root = os.lstat(builder.trees.folder / top)
        given = {"mode": f"{stat.S_IMODE(root.st_mode):o}", "uid": root.st_uid,
                 "gid": root.st_gid, "time": int(root.st_mtime)}  # fmt: skip
        like = [word for name, value in given.items() for word in (f"-root-{name}", str(value))]
        tar = _sorted_tar(["security.*", "user.*", "trusted.*"])
        argv = ["mksquashfs", "-", str(raw), "-tar", "-exports", *like, *last]
        # It leaves what pads the archive, and who writes that would find nobody there.
        pipeline = [*tar, ["sh", "-c", '"$@"; did=$?; cat >/dev/null; exit $did', "sh", *argv]]
    return [Step(title="writing the squashfs", pipeline=pipeline)]


def _erofs(job: ExportJob, raw: Path) -> list[Step]:
    uuid = fstab.uuid_of(job.stage.key)
    return [
        Step(
            title="writing the erofs",
            pipeline=[[*EROFS, *_one_worker(), "-U", uuid, str(raw), "."]],
        )
    ]


EROFS = ("mkfs.erofs", "-zlz4", "-Eforce-inode-extended")


def _one_worker() -> list[str]:
    """Since 1.8 it compresses by a thread for each CPU: their number would show in the bytes."""
    _status, out, err = capture(["mkfs.erofs", "--help"])
    return ["--workers=1"] if "--workers" in out + err else []


PYTHON = (sys.executable, "-I", "-S")


def _piped(commands: Sequence[Sequence[str]], raw: Path) -> Step:
    """A pipeline whose output is a file, zeros as holes: cpio writes those of the tree out."""
    return Step(
        title="writing the archive",
        pipeline=[
            *commands,
            ["dd", f"of={raw}", "bs=1M", "iflag=fullblock", "conv=sparse", "status=none"],
        ],
    )


def _on_tree(job: ExportJob, builder: Builder, folder: Path, steps: Sequence[Step]) -> None:
    """Run the host's tools in the whole tree, which they see read-only."""
    trees, log = builder.trees, builder.log
    lower = trees.lower(job.below, log)
    (trees.folder / "empty").mkdir(exist_ok=True)
    size = sum(int(builder.cache.require(one).facts.get("size", 0)) for one in job.below)
    log.need_room("scratch", size, f"writing {job.stage.title}")
    private = etc.make(folder / "etc")
    Sandbox(
        base=trees.folder,
        mounts=[Overlay(lower=[*lower, "empty"], target="merged").mount(), etc.mount(private)],
        env={"SOURCE_DATE_EPOCH": str(parts.epoch_of(job, builder))},
        cwd=str(trees.folder / "merged"),
    ).run(*steps, log=log, what=job.stage.title)


# ---------------------------------------------------------------- booted over a network


def _netboot(job: ExportJob, builder: Builder, folder: Path) -> Mapping[str, bytes | Path]:
    """Kernel, initrd, root, and a script for iPXE that has them."""
    tree = parts.tree_of(job, builder, f"exports.{job.export.name}")
    releases = esp.kernels(tree)
    if not releases:
        raise BuildError(
            f"{tree.where}: the tree has no kernel /boot/vmlinuz-…",
            "add one to packages: linux-image-amd64, say",
        )
    release = releases[0]
    kernel = tree.need(f"/boot/vmlinuz-{release}", "the kernel")
    initrd = tree.need(f"/boot/initrd.img-{release}", "initramfs-tools or dracut")
    root = folder / "root.squashfs"
    _on_tree(job, builder, folder, _squashfs(job, builder, root))
    script = netboot_script(str(job.stage.inputs["live"]), job.export.cmdline)
    return {"vmlinuz": kernel, "initrd": initrd, "root.squashfs": root,
            "boot.ipxe": script.encode()}  # fmt: skip


def netboot_script(live: str, cmdline: str) -> str:
    """What iPXE runs: kernel and initrd from where the script is, and where the root comes from."""
    assert live == "live-boot"
    root = "boot=live components fetch=${base}root.squashfs"
    return (
        "#!ipxe\n"
        "# Made by Strata. Serve this folder by HTTP and chain to this script; the root is put\n"
        "# into the machine's memory. `set base http://SERVER/FOLDER/` before it where the root\n"
        "# lies elsewhere, or where iPXE is older than 2024 and knows no ${cwduri}.\n"
        "isset ${base} || set base ${cwduri}\n"
        "isset ${base} || echo set base http://SERVER/FOLDER/ before you chain to this script\n"
        "isset ${base} || exit 1\n"
        f"kernel vmlinuz initrd=initrd {' '.join([root, *cmdline.split()])}\n"
        "initrd initrd\n"
        "boot\n"
    )
