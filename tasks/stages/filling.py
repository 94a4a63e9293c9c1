"""Layers → the raw filesystem of one mount point: made, filled, shrunk.

lower directories ─→ overlay, read-only ─→ loop mount or mke2fs -d ─→ shrink
                     (mount points below hidden)
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..builder import Builder
from ..errors import BuildError, CommandFailed
from ..formats import pax
from ..formats.ext import environment
from ..formats.filesystem import Filesystem, Making
from ..formats.footprint import MIB, Footprint
from ..formats.table import FILESYSTEMS, FULL
from ..host import etc
from ..host.files import remove
from ..host.sandbox import Overlay, Sandbox, Step, step
from ..plan import fstab
from ..plan.job import Job
from ..plan.stage import Stage
from ..rootfs import paths, tarball
from ..rootfs.measure import measure
from ..spec.images import Image


def content_uuid(stage: Stage, epoch: int) -> str:
    """A filesystem's UUID made of what decides its content: the same on every host.

    Of keys, not of the tarballs' digests: another zstd may pack the same tree in other bytes.
    """
    text = f"{stage.inputs['mount']}\n{stage.inputs['format']}\n{epoch}\n{stage.tree}"
    return fstab.uuid_of(text)


def fill_step(source: str, target: str, content: Footprint) -> Step:
    """Copy a tree into a mounted filesystem, sorted, by one tar for reading and one for writing.

    Of several extended attributes the first come into the inode, so they are put in order between.

    The writing one stays on one CPU: ext4 gives each CPU a range of blocks of its own for small
    files, so a tar that moves about would leave another layout each time.
    """
    # A record of tar's is one write(2): of 10 KiB otherwise.
    keep = ["--xattrs", "--xattrs-include=*", "--blocking-factor=128"]
    cpu = str(min(os.sched_getaffinity(0)))
    return Step(
        title="filling",
        shown="",
        pipeline=[
            [
                "tar",
                "--create",
                "--file",
                "-",
                "--directory",
                source,
                "--sort=name",
                "--format=posix",
                "--numeric-owner",
                *keep,
                *(tarball.SPARSE if content.sparse else ()),
                ".",
            ],
            *([[sys.executable, "-I", "-S", pax.__file__]] if content.several_xattrs else []),
            [
                "taskset",
                "-c",
                cpu,
                "tar",
                "--extract",
                "--file",
                "-",
                "--directory",
                target,
                "--delay-directory-restore",
                "--numeric-owner",
                "--same-owner",
                "--same-permissions",
                *keep,
            ],
        ],
    )


@contextlib.contextmanager
def filled(job: Job, image: Image, builder: Builder, where: str) -> Iterator[Making]:
    """The filesystem of an image, whole, for as long as the block runs; `where` the spec has it.

    BuildError for what it cannot hold.
    """
    log = builder.log
    kind = FILESYSTEMS[image.format]
    lower = builder.trees.lower(job.below, log)
    top = image.mount.strip("/")
    # A link there would be followed on the host: mounts and tar's --directory go through it.
    if top and not paths.is_folder(paths.find_in(builder.trees.folder, lower, top)):
        raise BuildError(
            f"{job.spec}: {where}: the tree has no directory {image.mount}",
            "a package or script of some layer must make it",
        )
    work = _begun(job, image, builder, kind, lower)
    making = work.making
    try:
        kind.check(making)
        content = making.content
        log.need_room(
            "scratch",
            content.size if kind.keeps_holes else content.apparent,
            f"filling a filesystem of {image.format}",
        )
        size = work.made([image.size] if image.size is not None else kind.sizes(making, kind))
        kind.finish(making, lambda: work.again(size))
        yield making
    finally:
        making.raw.unlink(missing_ok=True)
        remove(making.private)


def _begun(
    job: Job, image: Image, builder: Builder, kind: Filesystem, lower: Sequence[str]
) -> Filling:
    """What is known of the image before anything of it is made."""
    stage = job.stage
    epoch = int(builder.cache.require(job.below[-1]).facts["epoch"])
    default = content_uuid(stage, epoch)
    nowhere = builder.scratch / "nowhere"
    nowhere.mkdir(exist_ok=True)
    making = Making(
        raw=builder.scratch / f"{stage.entry}.raw",
        kind=image.format,
        label=image.label,
        uuid=image.uuid or (fstab.short_of(default) if kind.short_uuid else default),
        options=image.options,
        direct=image.pack == "direct",
        size=image.size,
        free=image.free,
        content=measure(builder.trees.folder, lower, image.mount, stage.inputs["below"]),
        epoch=epoch,
        spec=job.spec,
        mount=image.mount,
        log=builder.log,
        private=etc.make(builder.scratch / f"{stage.entry}.etc"),
        nowhere=nowhere,
        env=environment(epoch, builder.scratch / f"{stage.entry}.conf"),
    )
    return Filling(
        making=making,
        kind=kind,
        folder=builder.trees.folder,
        lower=lower,
        key=stage.key,
        below=stage.inputs["below"],
    )


@dataclass(frozen=True, kw_only=True)
class Filling:
    """One image being filled from a stack of trees in `folder`."""

    making: Making
    kind: Filesystem
    folder: Path
    lower: Sequence[str]
    key: str
    below: Sequence[str]
    """Mount points below, which have images of their own."""

    def made(self, sizes: Iterable[int]) -> int:
        """Fill a filesystem of the first of these sizes, in bytes, that holds the tree."""
        making = self.making
        *_, last = sizes = list(sizes)
        for size in sizes:
            making.raw.unlink(missing_ok=True)
            with making.raw.open("wb") as file:
                file.truncate(size)
            try:
                self._fill(size)
                self.kind.settle(making)
                break
            except CommandFailed as error:
                full = any(text in error.output for text in FULL)
                if not full or size == last:
                    if full and making.scratch_has_room:
                        raise self._too_small(size) from error
                    raise
        return size

    def again(self, size: int) -> None:
        """Make and fill it once more, of so many bytes."""
        self.made([size])

    def _too_small(self, size: int) -> BuildError:
        return BuildError(
            f"{self.making.where}.size: {size / MIB:.1f} MiB of {self.kind.name} do not hold the "
            f"tree, which takes about {self.making.content.size / MIB:.1f} MiB",
            "make size larger, or leave it out",
        )

    def _fill(self, size: int) -> None:
        making, kind = self.making, self.kind
        source = "merged" + making.mount.rstrip("/")
        mounts = self._mounts()
        make = kind.argv(making, str(self.folder / source) if making.direct else "")
        what = f"image {making.mount}"
        if making.direct:
            making.log.step("making the filesystem")
            self._run(mounts, making.nowhere, [step(*make, title="filling")], what)
            return
        making.run(*make, what=what)
        if kind.fill is not None:
            self._run(mounts, self.folder / source, [kind.fill(making)], what)
            kind.filled(making)
            return
        mounts.append([f"loop:{kind.mounted_as}", str(making.raw), "filled", kind.mount_options])
        steps = [fill_step(source, "filled", making.content), *kind.shrink(making, size)]
        self._run(mounts, self.folder, steps, what)

    def _mounts(self) -> list[list[str]]:
        """The tree as an overlay at `merged`, what is below other mount points hidden."""
        mounts = [Overlay(lower=[*self.lower, "empty"], target="merged").mount()]
        (self.folder / "empty").mkdir(exist_ok=True)
        for number, point in enumerate(self.below):
            if any(point.startswith(other + "/") for other in self.below):
                continue  # an outer one hides it already
            hidden = self._hidden(f"{self.key}-{number}", point)
            if hidden is not None:
                mounts.append(["bind-ro", hidden, "merged" + point, ""])
        return mounts

    def _run(
        self, mounts: Sequence[Sequence[str]], cwd: Path, steps: Sequence[Step], what: str
    ) -> None:
        making = self.making
        sandbox = Sandbox(
            base=self.folder,
            mounts=[*mounts, etc.mount(making.private)],
            env=making.env,
            cwd=str(cwd),
        )
        # No tool says how far it is, but the file grows with what is in it.
        with making.log.watched(
            making.content.size, "percent", lambda: making.raw.stat().st_blocks * 512
        ):
            sandbox.run(*steps, log=making.log, what=what)

    def _hidden(self, name: str, point: str) -> str | None:
        """An empty folder with the owner, mode and time of a mount point that has its own image."""
        folder = self.folder
        original = paths.find_in(folder, self.lower, point.strip("/"))
        if original is None or not paths.is_folder(original):
            return None
        info = original.lstat()
        empty = folder / f"hidden-{name}"
        empty.mkdir(exist_ok=True)
        os.chown(empty, info.st_uid, info.st_gid)
        empty.chmod(stat.S_IMODE(info.st_mode))
        os.utime(empty, ns=(info.st_mtime_ns, info.st_mtime_ns))
        return str(empty)
