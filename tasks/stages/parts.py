"""What the stages of boot loaders have in common: files of the tree, its own tools, the cache."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..formats import compress
from ..host import safe
from ..host.files import remove
from ..host.sandbox import DPKG_CAPABILITIES, Sandbox, Step
from ..plan.job import Job
from ..rootfs import paths
from .facts import common
from .inside import PATH

WORK = "/dev/.strata/part"
"""Where the tree's own tools find what they are given, and put what they make."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The trees that a job stands on, whose files are read without following links out of them."""

    folder: Path
    lower: Sequence[str]
    where: str
    """What of the spec asks for these files, as messages name it."""

    def find(self, path: str) -> Path | None:
        """Where a regular file of the tree is, by the links of the tree, None if it has none."""
        path = path.lstrip("/")
        for _ in range(paths.LINKS):
            path = paths.resolved(self.folder, self.lower, path)
            found = paths.find_in(self.folder, self.lower, path) if path else None
            mode = paths.mode_of(found) if found is not None else 0
            if not stat.S_ISLNK(mode):
                return found if stat.S_ISREG(mode) else None
            assert found is not None
            leads = os.readlink(found)
            path = leads if leads.startswith("/") else f"{posixpath.dirname(path)}/{leads}"
        return None

    def need(self, path: str, package: str) -> Path:
        """The same; BuildError that names the package for one that is not there."""
        found = self.find(path)
        if found is None:
            raise BuildError(
                f"{self.where}: the tree has no file {path}, which comes with {package}",
                f"add {package} to packages; if it is there, see what a script or `remove` takes "
                "away",
            )
        return found

    def names(self, path: str) -> list[str]:
        """The names in a folder of the tree, sorted; none where it has no such folder."""
        path = paths.resolved(self.folder, self.lower, path.lstrip("/"))
        here = paths.find_in(self.folder, self.lower, path)
        if not paths.is_folder(here):
            return []
        # What is in folders below is not asked for.
        found = [name for name, _path in paths.merged(self.folder, self.lower, path)]
        return sorted(name for name in found if "/" not in name)


def tree_of(job: Job, builder: Builder, where: str) -> Tree:
    """The trees that a job stands on, unpacked."""
    lower = builder.trees.lower(job.below, builder.log)
    return Tree(folder=builder.trees.folder, lower=lower, where=f"{job.spec}: {where}")


def copy(source: Path, target: Path) -> None:
    """Copy a regular file's bytes, and nothing else of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(safe.reading(source), "rb") as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def run_inside(
    job: Job, builder: Builder, tree: Tree, work: Path, steps: Sequence[Step], what: str
) -> None:
    """Run the tree's own programs in it, confined; what they write into the tree is thrown away.

    The folder `work` is WORK there: what is in it afterwards may be links to anywhere.
    """
    with builder.trees.passing(tree.lower) as upper:
        try:
            Sandbox(
                base=upper.base,
                mounts=[upper.mount("root")],
                root="root",
                writable=[(str(work), WORK)],
                keep=DPKG_CAPABILITIES,
                cwd="/",
                arches=job.arches,
                env={
                    "SOURCE_DATE_EPOCH": str(epoch_of(job, builder)),
                    "SYSTEMD_OFFLINE": "1",
                    "HOME": "/root",
                    "PATH": PATH,
                },
            ).run(*steps, log=builder.log, what=what)
        finally:
            remove(upper.path)


def result(work: Path, name: str, tree: Tree, program: str) -> Path:
    """A file that a program of the tree made; BuildError where something else is in its place."""
    if not stat.S_ISREG(paths.mode_of(work / name)):
        raise BuildError(
            f"{tree.where}: the tree's own {program} ended well and made no file",
            f"see what a script or `files` puts in the place of {program}",
        )
    return work / name


def epoch_of(job: Job, builder: Builder) -> int:
    """The date of the tree, in seconds."""
    return int(builder.cache.require(job.below[-1]).facts["epoch"])


@contextmanager
def work_folder(job: Job, builder: Builder, suffix: str) -> Iterator[Path]:
    """A folder of scratch for one stage, gone when the block ends."""
    folder = builder.scratch / f"{job.stage.entry}.{suffix}"
    remove(folder)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        remove(folder)


def keep(job: Job, builder: Builder, raw: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Put a raw file into the cache, with the digests that all records above the tree have."""
    cache = builder.cache
    found: dict[str, Any] = {**(facts or {}), **common(job, builder)}
    digest: list[str] = []
    doubtful = builder.doubtful(job)
    with cache.put(job.stage, found, lambda: digest[0], doubtful=doubtful) as target:
        packed = compress.compress(raw, target, container="raw")
        found |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
        digest.append(packed.container.sha256)
