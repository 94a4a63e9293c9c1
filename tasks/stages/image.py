"""Layers → one filesystem image per mount point: made, filled, shrunk, compressed, digested.

lower directories ─→ overlay, read-only ─→ loop mount or mke2fs -d ─→ shrink ─→ compress
                     (mount points below hidden)                       one read: digests, gzip
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BuildError, CommandFailed, printable
from ..formats import compress, ext_bytes, ext_xattrs, fat, pax, vfat
from ..formats.btrfs import btrfs_size
from ..formats.ext import (
    MKE2FS_CONF,
    SHRUNK,
    SLACK,
    ShrinkFailed,
    ext_bytes_of,
    ext_inodes,
    ext_size,
    tune2fs_date,
)
from ..formats.footprint import MIB, Footprint, whole_blocks
from ..formats.table import EXT, FULL, MOUNT_OPTIONS, OVERHEAD, SMALLEST
from ..host import etc, holes, space
from ..host.files import remove_tree
from ..host.log import Log
from ..host.process import capture, filtered, run
from ..host.sandbox import Overlay, Sandbox, Step, step
from ..plan.stage import Stage
from ..rootfs import identities, paths, tarball
from ..rootfs.measure import measure
from ..session.session import Session
from ..spec.model import Image


def content_uuid(stage: Stage, epoch: int) -> uuid.UUID:
    """A filesystem's UUID made of what decides its content: the same on every host.

    Of keys, not of the tarballs' digests: another zstd may pack the same tree in other bytes.
    """
    text = f"{stage.inputs['mount']}\n{stage.inputs['format']}\n{epoch}\n{stage.tree}"
    raw = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80  # version 8, RFC 9562: the maker's own
    raw[8] = raw[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(raw))


# ---------------------------------------------------------------- commands


def mkfs_argv(image: Image, raw: str, identity: str, *, inodes: int, fill: str = "") -> list[str]:
    """The command that makes the filesystem, from `fill` if it is a folder for mke2fs -d."""
    label = ["-n" if image.format == "vfat" else "-L", image.label] if image.label else []
    if image.format in EXT:
        features, extended, rest, _tune = ext_bytes.split_options(image.options, image.format)
        extended = [f"hash_seed={identity}", "root_owner=0:0", "nodiscard", "lazy_itable_init=0",
                    *extended]  # fmt: skip
        argv = ["mke2fs", "-q", "-F", "-t", image.format, "-U", identity, *label,
                "-E", ",".join(extended), "-O", ",".join(features)]  # fmt: skip
        if not {"-i", "-N", "-T"} & {option[:2] for option in rest}:
            argv += ["-N", str(inodes)]
        return [*argv, *rest, *(["-d", fill] if fill else []), raw]
    if image.format == "xfs":
        return ["mkfs.xfs", "-q", "-f", "-m", f"uuid={identity}", *label, *image.options, raw]
    if image.format == "btrfs":
        return ["mkfs.btrfs", "-q", "-f", "-U", identity, *label, *image.options, raw]
    return [
        "mkfs.vfat",
        "--invariant",
        "-i",
        identity.replace("-", ""),
        *label,
        *image.options,
        raw,
    ]


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
        pipeline=[
            ["tar", "--create", "--file", "-", "--directory", source, "--sort=name",
             "--format=posix", "--numeric-owner", *keep, *(tarball.SPARSE if content.sparse else ()),
             "."],
            *([[sys.executable, "-I", "-S", pax.__file__]] if content.several_xattrs else []),
            ["taskset", "-c", cpu,
             "tar", "--extract", "--file", "-", "--directory", target, "--delay-directory-restore",
             "--numeric-owner", "--same-owner", "--same-permissions", *keep],
        ],
    )  # fmt: skip


# ---------------------------------------------------------------- the stage


def build_all(session: Session, number: int) -> None:
    """Make image `number` of the plan, and beside it the others that are lacking: all are wanted.

    What fails of these is silent here: doit comes to each of them, which then fails by itself.
    """
    if session.plan.images[number].task in session.results:
        return  # doit looked before it was made beside another
    lacking = [
        other for other, stage in enumerate(session.plan.images)
        if other != number and stage.task not in session.results
        and session.cache.intact(stage) is None
    ]  # fmt: skip

    def make(one: int) -> None:
        session.make(session.plan.images[one], lambda log: build(session, one, log))

    def beside(one: int) -> None:
        with contextlib.suppress(BuildError, OSError, SystemExit):
            make(one)

    assert session.trees  # made now, and once
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for other in lacking:
            pool.submit(beside, other)
        make(number)


def build(session: Session, number: int, log: Log) -> None:
    """Make image `number` of the plan and put it into the cache."""
    spec, plan = session.spec, session.plan
    stage = plan.images[number]
    image = spec.images[number]
    lower = session.trees.lower(plan.tree, log)
    epoch = int(session.cache.require(plan.tree[-1]).facts["epoch"])
    default = content_uuid(stage, epoch)
    identity = image.uuid or (
        f"{default.hex[:4]}-{default.hex[4:8]}" if image.format == "vfat" else str(default)
    )
    folder = session.trees.folder
    top = image.mount.strip("/")
    # A link there would be followed on the host: mounts and tar's --directory go through it.
    if top and not paths.is_folder(paths.find_in(folder, lower, top)):
        raise BuildError(
            f"{spec.path}: images.{image.mount}: the tree has no directory {image.mount}",
            "a package or script of some layer must make it",
        )
    content = measure(folder, lower, image.mount, stage.inputs["below"])
    if image.format == "vfat":
        check_vfat(content, image, spec.path)
    log.need_room("scratch", content.apparent if image.format == "vfat" else content.size,
                  f"filling a filesystem of {image.format}")  # fmt: skip
    raw = session.scratch / f"{stage.entry}.raw"
    work = Filling(session=session, image=image, stage=stage, raw=raw, identity=identity,
                   content=content, lower=lower, epoch=epoch, log=log,
                   private=etc.make(session.scratch / f"{stage.entry}.etc"))  # fmt: skip
    try:
        work.fill()
        log.step(f"compressing {raw.stat().st_size / 1e6:.0f} MB")
        if image.container == "raw":
            log.need_room("cache", holes.used(raw), f"keeping image {image.mount}")
        facts: dict[str, Any] = {"uuid": identity, "label": image.label, "format": image.format,
                                 "container": image.container, "mount": image.mount,
                                 # As the tarballs that its files are in.
                                 "private": any(session.cache.require(one).facts.get("private")
                                                for one in plan.tree)}  # fmt: skip
        facts["drawn"] = identities.of_trees(session.cache, plan.tree)
        digest: list[str] = []
        with session.cache.put(stage, facts, lambda: digest[0]) as target:
            packed = compress.compress(raw, target, container=image.container, level=image.level)
            facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
            digest.append(packed.container.sha256)
    finally:
        raw.unlink(missing_ok=True)
        remove_tree(work.private)


@dataclass(frozen=True, kw_only=True)
class Filling:
    """One image on its way; `raw` is the file that becomes the filesystem.

    `private` is the /etc that its tools see.
    """

    session: Session
    image: Image
    stage: Stage
    raw: Path
    identity: str
    content: Footprint
    lower: Sequence[str]
    epoch: int
    log: Log
    private: Path

    @property
    def env(self) -> dict[str, str]:
        """What gives e2fsprogs a fixed clock and configuration."""
        config = self.session.scratch / f"{self.stage.entry}.conf"
        config.write_text(MKE2FS_CONF)
        return {"E2FSPROGS_FAKE_TIME": str(self.epoch), "E2FSCK_TIME": str(self.epoch),
                "SOURCE_DATE_EPOCH": str(self.epoch), "MKE2FS_CONFIG": str(config)}  # fmt: skip

    @property
    def nowhere(self) -> Path:
        """An empty folder to run mkfs and tune2fs in: no word of the spec names a file there."""
        folder = self.session.scratch / "nowhere"
        folder.mkdir(exist_ok=True)
        return folder

    def sizes(self) -> Iterator[int]:
        """Sizes to try, in bytes: the spec's alone, or a guess and larger ones."""
        if self.image.size is not None:
            yield self.image.size
            return
        if self.image.format in EXT:
            # Tight: what resize2fs -M gives back is little, and less the larger it began, since
            # inodes are spread over all block groups.
            guess = ext_size(self.content, journal=self.image.format != "ext2")
            for _attempt in range(12):
                yield whole_blocks(guess)
                guess = guess * 1.05 + MIB
            return
        size = self.content.apparent if self.image.format == "vfat" else self.content.size
        guess = size * 1.05 + OVERHEAD[self.image.format] + (self.image.free or 0)
        for _attempt in range(6):
            yield max(whole_blocks(guess), SMALLEST[self.image.format])
            guess = guess * 1.2 + 16 * MIB

    def fill(self) -> None:
        """Make the filesystem with its content, as small as the spec wants it."""
        size = self._made(self.sizes())
        if self.image.format in EXT:
            # resize2fs sometimes finds no way to the size that it worked out itself, and leaves a
            # filesystem that is broken: then all is made again, and shrunk to a little more.
            for slack in SLACK if self.image.size is None else (None,):
                try:
                    self._finish_ext(slack)
                    break
                except ShrinkFailed as error:
                    self.log.line(f"# {error}; once more with room to spare")
                    self._made([size])
        elif self.image.format == "btrfs" and self.image.size is None:
            os.truncate(self.raw, btrfs_size(self.raw))

    def _made(self, sizes: Iterable[int]) -> int:
        """Fill a filesystem of the first of these sizes, in bytes, that holds the tree."""
        *_, last = sizes = list(sizes)
        for size in sizes:
            self.raw.unlink(missing_ok=True)
            with self.raw.open("wb") as file:
                file.truncate(size)
            try:
                self._fill(size)
                if self.image.format in EXT:
                    self._settle_ext()
                break
            except CommandFailed as error:
                full = any(text in error.output for text in FULL)
                if not full or size == last:
                    if full and self._scratch_has_room():
                        raise self._too_small(size) from error
                    raise
        return size

    def _scratch_has_room(self) -> bool:
        return space.free_bytes(self.raw.parent) > 16 * MIB

    def _too_small(self, size: int) -> BuildError:
        return BuildError(
            f"{self.session.spec.path}: images.{self.image.mount}.size: {size / MIB:.1f} MiB of "
            f"{self.image.format} do not hold the tree, which takes about "
            f"{self.content.size / MIB:.1f} MiB",
            "make size larger, or leave it out",
        )

    def _fill(self, size: int) -> None:
        folder = self.session.trees.folder
        source = "merged" + self.image.mount.rstrip("/")
        mounts: list[list[str]] = [Overlay(lower=[*self.lower, "empty"], target="merged").mount()]
        (folder / "empty").mkdir(exist_ok=True)
        below: list[str] = self.stage.inputs["below"]
        for number, point in enumerate(below):
            if any(point.startswith(other + "/") for other in below):
                continue  # an outer one hides it already
            hidden = self._hidden(f"{self.stage.key}-{number}", point)
            if hidden is not None:
                mounts.append(["bind-ro", hidden, "merged" + point, ""])
        inodes = ext_inodes(self.content)
        direct = self.image.pack == "direct"
        make = mkfs_argv(self.image, str(self.raw), self.identity, inodes=inodes,
                         fill=str(folder / source) if direct else "")  # fmt: skip
        what = f"image {self.image.mount}"
        if direct:
            self.log.step("making the filesystem")
            self._sandbox(mounts, self.nowhere).run(
                step(*make, title="filling"), log=self.log, what=what
            )
            return
        self._run(*make, what=what)
        if self.image.format == "vfat":
            filling = step("/bin/bash", "-e", "-o", "pipefail", "-c", vfat.FILL, "fill",
                             str(self.raw), title="filling")  # fmt: skip
            self._sandbox(mounts, folder / source).run(filling, log=self.log, what=what)
            sizes = {path: -1 if stat.S_ISDIR(mode) else size
                     for path, (mode, size) in self.content.entries.items()}  # fmt: skip
            if name := vfat.lost(self.raw, sizes):
                raise _unfit(self.image, self.session.spec.path, name, "mtools wrote it otherwise")
            return
        # The kernel's ext4 mounts an ext3 that has no journal yet; its ext3 would not.
        kind = "ext4" if self.image.format == "ext3" else self.image.format
        mounts.append([f"loop:{kind}", str(self.raw), "filled",
                       MOUNT_OPTIONS[self.image.format]])  # fmt: skip
        steps = [fill_step(source, "filled", self.content)]
        if self.image.format == "btrfs" and self.image.size is None:
            free = self.image.free or 0
            steps.append(step("/bin/sh", "-e", "-c", f"""
                btrfs filesystem sync filled
                least=$(btrfs inspect-internal min-dev-size filled | cut -d' ' -f1)
                wanted=$(( (least + {free} + 1048575) / 1048576 * 1048576 ))
                # The kernel resizes none to less than 256 MiB.
                [ $wanted -ge 268435456 ] || wanted=268435456
                if [ $wanted -lt {size} ]; then btrfs filesystem resize $wanted filled; fi
            """, title="shrinking"))  # fmt: skip
        self._sandbox(mounts, folder).run(*steps, log=self.log, what=what)

    def _sandbox(self, mounts: Sequence[Sequence[str]], cwd: Path) -> Sandbox:
        mounts = [*mounts, etc.mount(self.private)]
        return Sandbox(base=self.session.trees.folder, mounts=mounts, env=self.env, cwd=str(cwd))

    def _hidden(self, name: str, point: str) -> str | None:
        """An empty folder with the owner, mode and time of a mount point that has its own image."""
        folder = self.session.trees.folder
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

    def _settle_ext(self) -> None:
        """Take out what the kernel or mke2fs -d drew from its clock, then add what covers it."""
        raw = str(self.raw)
        code, text, error = self._capture("dumpe2fs", raw)
        if code:
            raise BuildError(f"dumpe2fs failed (exit status {code}): {error.strip()[-300:]}")
        groups = ext_bytes.layout(text)
        if self.image.pack == "direct" and self.content.several_xattrs:
            try:
                ext_xattrs.order(self.raw, groups)
            except ext_xattrs.Unordered as error:
                raise BuildError(
                    f"{self.session.spec.path}: images.{self.image.mount}.pack: direct cannot lay "
                    f"out the extended attributes of a file the same each time: {error}",
                    "use pack: loop, or leave out ea_inode",
                ) from error
        ext_bytes.settle(self.raw, groups, self.epoch)
        # It changes nothing that settle left, but writes the superblock's copies.
        self._run("tune2fs", "-C", "0", "-T", tune2fs_date(self.epoch), raw,
                  what="setting the date of the last check")  # fmt: skip
        for more in ext_bytes.split_options(self.image.options, self.image.format)[3]:
            self._run("tune2fs", *more, raw, what=f"adding {more[1]}")

    def _finish_ext(self, slack: float | None) -> None:
        """Check, shrink to the minimum and this share more (None: not at all), check again."""
        run = self._run
        raw = str(self.raw)
        self.log.step("checking")
        # 1: corrected; a fresh filesystem may want its free counts written.
        run("e2fsck", "-fy", raw, ok=(0, 1), what="checking the filesystem")
        if slack is not None:
            self.log.step("shrinking")
            self._shrink(slack)
        if self.image.free:
            os.truncate(self.raw, whole_blocks(ext_bytes_of(self.raw) + self.image.free))
            run("resize2fs", raw, what="adding free room")
        os.truncate(self.raw, ext_bytes_of(self.raw))
        run("e2fsck", "-fn", raw, what="the last check of the filesystem")

    def _shrink(self, slack: float) -> None:
        raw = str(self.raw)
        block = ext_bytes.read_super(self.raw).block_size
        while True:
            size = ext_bytes_of(self.raw) // block
            code, text, error = self._capture("resize2fs", "-P", raw)
            if code:
                raise BuildError(f"resize2fs -P failed (exit status {code}): {error.strip()}")
            least = int(text.split()[-1])
            # A second round, after a first one from far off, must be worth its time.
            target = least + int(least * slack) if slack else least
            if size - target <= size * SHRUNK:
                return
            try:
                self._run("resize2fs", raw, str(target), what="shrinking the filesystem")
            except CommandFailed as error:
                raise ShrinkFailed(f"resize2fs cannot reach {target} blocks") from error

    def _run(self, *argv: str, what: str, ok: Sequence[int] = (0,)) -> None:
        run(etc.argv(self.private, argv), log=self.log, env=self.env, cwd=self.nowhere,
                 what=what, ok=ok)  # fmt: skip

    def _capture(self, *argv: str) -> tuple[int, str, str]:
        return capture(etc.argv(self.private, argv), env=self.env, cwd=self.nowhere)


def check_vfat(content: Footprint, image: Image, where: Path) -> None:
    """BuildError that names what a vfat cannot hold of a tree."""
    for path, (mode, size) in sorted(content.entries.items()):
        if reason := vfat.unfit(path, mode, size):
            raise _unfit(image, where, path, reason)
    if both := vfat.same_name(content.entries):
        other = f"{image.mount.rstrip('/')}/{both[1]}"
        raise _unfit(image, where, both[0], f"it is one with {other} there, where upper and lower "
                     "case are the same")  # fmt: skip
    if chars := vfat.doubtful(content.entries):
        argv = ["iconv", "-c", "-f", "UTF-8", "-t", f"{fat.CODEPAGE}//TRANSLIT"]
        _status, said, _error = filtered(argv, "".join(char + "\n" for char in chars).encode())
        if path := vfat.replaced(content.entries, vfat.transliterated(chars, said)):
            raise _unfit(image, where, path, "its name is short, and mtools would write another "
                         "letter for one of its own")  # fmt: skip


def _unfit(image: Image, where: Path, path: str, reason: str) -> BuildError:
    shown = printable(f"{image.mount.rstrip('/')}/{path}".translate({9: "?", 10: "?"}))
    return BuildError(
        f"{where}: images.{image.mount}.format: vfat cannot hold {shown}: {reason}",
        "rename or remove it, or use another format for this mount point",
    )
