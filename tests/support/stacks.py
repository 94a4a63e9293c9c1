"""Trees on each other, as layers leave them, in a cache; and what exports make of them."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.builder import Builder, Reach
from tasks.formats import bundle
from tasks.host.log import Log
from tasks.plan.containers import ENDING
from tasks.plan.exports import SUFFIX
from tasks.plan.keys import key
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import BlobJob, ExportJob
from tasks.rootfs import tarball
from tasks.rootfs.clean import Rare
from tasks.rootfs.overlay import Trees
from tasks.spec.disks import Export
from tasks.stages import blob, export
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

EPOCH = 1_700_000_000

Fill = Callable[[Path], object]


@dataclass
class Stack:
    """A builder whose cache has trees on each other; nothing of them is unpacked yet."""

    folder: Path
    builder: Builder
    below: tuple[Stage, ...]
    said: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Cache:
        """Where all of it is."""
        return self.builder.cache

    def blob(self, number: int, container: str = "gzip", level: str = "default") -> Stage:
        """The blob of one of the trees, made."""
        tree = self.below[number]
        inputs = {"container": container, "level": level, "parent": tree.key}
        stage = Stage(kind="blob", name=f"{tree.name}.{container}", key=key({"b": inputs}),
                      inputs=inputs, suffix=f".tar{ENDING[container]}")  # fmt: skip
        job = BlobJob(stage=stage, spec="specs/web.yaml", arch="amd64", tree=tree,
                      below=self.below[: number + 1], container=container, level=level)  # fmt: skip
        blob.build(job, self.builder)
        return stage

    def job(self, made: Export, arch: str = "amd64", **inputs: Any) -> ExportJob:
        """What an export is made of, its blobs made."""
        blobs = [self.blob(one, made.container) for one in range(len(self.below))] \
            if made.format == "oci" else []  # fmt: skip
        inputs = {"export": repr(made), "arch": arch, "live": "live-boot", **inputs,
                  "on": [one.key for one in (*self.below, *blobs)]}  # fmt: skip
        ending = "" if made.format == "oci" else ENDING[made.container]
        stage = Stage(kind="export", name=made.name, key=key(inputs), inputs=inputs,
                      suffix=SUFFIX[made.format] + ending)  # fmt: skip
        return ExportJob(stage=stage, spec="specs/web.yaml", arch=arch, name="web", export=made,
                         below=() if blobs else self.below, made_of=tuple(blobs),
                         blobs=tuple(blobs))  # fmt: skip

    def export(self, made: Export, **inputs: Any) -> Path:
        """The file of an export, made."""
        job = self.job(made, **inputs)
        export.build(job, self.builder)
        return self.cache.file(job.stage)

    def layout(self, to: Path, made: Export, **inputs: Any) -> Path:
        """An OCI export as the folder that is published."""
        job = self.job(made, **inputs)
        export.build(job, self.builder)
        unbundled(self.cache.require(job.stage).path, self.cache.require(job.stage).facts, to)
        for one in job.blobs:
            entry = self.cache.require(one)
            (to / "blobs/sha256" / entry.sha256).write_bytes(entry.path.read_bytes())
        return to


def unbundled(path: Path, facts: Any, to: Path) -> None:
    """A bundle's files, in a folder."""
    for name in bundle.listed(facts["files"]):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            (to / name).write_bytes(bundle.reader(file, name).read())


def stack(folder: Path, *fills: Fill, scratch: Path | None = None, private: bool = False) -> Stack:
    """Trees that these functions fill, one on the other, in a cache in a folder."""
    scratch = scratch or folder / "scratch"
    folder.mkdir(exist_ok=True)
    (scratch / "trees").mkdir(parents=True)
    cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
    log = Log(None)
    builder = Builder(cache=cache, scratch=scratch, trees=Trees(scratch / "trees", cache), log=log,
                      reach=Reach(arch="amd64"), state=folder)  # fmt: skip
    below = []
    for number, fill in enumerate(fills, 1):
        tree = folder / f"made-{number}"
        tree.mkdir(mode=0o755)
        fill(tree)
        settle(tree)
        stage = Stage(kind="layer" if number > 1 else "base", name=f"t{number}",
                      key=f"{number:032x}", inputs={}, suffix=".tar.zst")  # fmt: skip
        facts: dict[str, Any] = {"epoch": EPOCH, "size": 0, "private": private}
        with cache.put(stage, facts) as target:
            tarball.pack(tree, target, log, rare=Rare(sparse=True))
        below.append(stage)
    found = Stack(folder=folder, builder=builder, below=tuple(below))
    found.builder = replace(builder, say=found.said.append)
    return found


def settle(tree: Path) -> None:
    """Times as a stage leaves them: none is after EPOCH, and each file has one of its own."""
    paths = [Path(top) / name for top, folders, files in os.walk(tree) for name in folders + files]
    for path in sorted(paths, reverse=True):
        if path.lstat().st_mtime > EPOCH:
            when = EPOCH - len(path.name)
            os.utime(path, (when, when), follow_symlinks=False)
    os.utime(tree, (EPOCH - 1000, EPOCH - 1000))


def gone(path: Path) -> None:
    """overlayfs' mark of what is taken away."""
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(0, 0))


def opaque(path: Path) -> Path:
    """A folder that hides those below, as overlayfs marks each new one."""
    path.mkdir(parents=True)
    os.setxattr(path, "trusted.overlay.opaque", b"y")
    return path


@contextmanager
def overlaid(made: Stack, point: Path) -> Iterator[Path]:
    """The trees as they are seen together, read-only, by the kernel's own overlay."""
    point.mkdir()
    log = Log(None)
    lower = [str(made.builder.trees.folder / one) for one in
             made.builder.trees.lower(made.below, log)]  # fmt: skip
    (empty := point.parent / "empty").mkdir(exist_ok=True)
    options = "lowerdir=" + ":".join([*lower, str(empty)])
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


Line = tuple[Any, ...]


def listing(tree: Path, *, without: Sequence[str] = (), mtime: str = "ns") -> dict[bytes, Line]:
    """Each path with kind, mode, owner, device, link, content, time and attributes.

    Attributes whose names begin with one of `without` are left out, as are overlayfs' own; times
    are in ns, or seconds ("s").
    """
    found: dict[bytes, Line] = {}
    inodes: dict[tuple[int, int], bytes] = {}
    stack = [os.fsencode(tree)]
    root = len(stack[0])
    while stack:
        here = stack.pop()
        info = os.lstat(here)
        name = here[root + 1 :]
        if stat.S_ISDIR(info.st_mode):
            stack += sorted((os.path.join(here, one) for one in os.listdir(here)), reverse=True)
        names = sorted(os.listxattr(here, follow_symlinks=False))
        attributes = [(one, os.getxattr(here, one, follow_symlinks=False)) for one in names
                      if not one.startswith(("trusted.overlay.", *without))]  # fmt: skip
        content: bytes = b""
        if stat.S_ISREG(info.st_mode):
            with open(here, "rb") as file:
                content = file.read()
            first = inodes.setdefault((info.st_dev, info.st_ino), name)
            content = b"link to " + first if first != name else content
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(here)
        device = info.st_rdev if info.st_mode & stat.S_IFCHR else 0
        when = info.st_mtime_ns if mtime == "ns" else int(info.st_mtime)
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, device, content,
                       when, attributes)  # fmt: skip
    return found


def differing(one: dict[bytes, Line], other: dict[bytes, Line]) -> dict[bytes, tuple[Any, Any]]:
    """What is not the same in both, by path."""
    return {name: (one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())
            if one.get(name) != other.get(name)}  # fmt: skip


def newc(archive: bytes) -> dict[bytes, Line]:
    """The same of a cpio of the "new" format (cpio(5)), which has hard links by their inode."""
    found: dict[bytes, Line] = {}
    inodes: dict[int, bytes] = {}
    linked: dict[int, list[bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * one : at + 14 + 8 * one], 16) for one in range(13)]
        inode, mode, uid, gid, links, when, size = numbers[:7]
        begin = at + 110
        name = archive[begin : begin + numbers[11] - 1]
        begin += numbers[11]
        begin += -begin % 4
        content = archive[begin : begin + size]
        at = begin + size + -size % 4
        if name == b"TRAILER!!!":
            assert not archive[at:].strip(b"\0")
            break
        name = name.removeprefix(b".").removeprefix(b"/")
        if stat.S_ISREG(mode) and links > 1:
            linked.setdefault(inode, []).append(name)
            inodes[inode] = content or inodes.get(inode, b"")  # it comes with the last of them
        device = os.makedev(numbers[9], numbers[10])
        found[name] = (oct(mode), uid, gid, device, content, when, [])
    for inode, names in linked.items():
        for name in names:
            told = inodes[inode] if name == min(names) else b"link to " + min(names)
            found[name] = (*found[name][:4], told, *found[name][5:])
    return found
