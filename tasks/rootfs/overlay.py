"""The trees at hand: unpacked layers below, a fresh upper directory on top."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import DamagedEntry
from ..host.files import remove
from ..host.log import Log
from ..host.sandbox import Overlay
from ..plan.stage import Stage
from ..spec.words import counted
from ..store.cache import Cache
from ..store.record import Entry
from .clean import begun
from .tarball import unpack


@dataclass(frozen=True, kw_only=True)
class Upper:
    """A writable overlay in scratch: names are relative to `base`, where it is mounted from."""

    base: Path
    name: str
    lower: Sequence[str]
    begun: int
    """When it was made, in ns: what is as new was written by the stage."""

    @property
    def path(self) -> Path:
        """What was written."""
        return self.base / self.name

    def mount(self, target: str) -> list[str]:
        """The sandbox's mount entry; for each mount, a fresh work directory.

        An overlay that was mounted with `volatile` is taken for one that a crash left otherwise.
        """
        work = self.base / f"{self.name}.work"
        remove(work)
        work.mkdir()
        return Overlay(
            lower=self.lower, target=target, upper=self.name, work=f"{self.name}.work"
        ).mount()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """On whose word a tree is what it is: nobody's (`doubtful`), or one that may be passed on."""

    doubtful: bool = False
    vouched: bool = True


def together(standings: Sequence[Standing]) -> Standing:
    """That of what is made of several."""
    return Standing(
        doubtful=any(one.doubtful for one in standings),
        vouched=all(one.vouched for one in standings),
    )


class Trees:
    """The trees that this process has at hand, unpacked, for the stages that need them next.

    What a stage has just written stays here as the lower directory of the next one: only what
    comes from the cache is ever unpacked.
    """

    def __init__(
        self, folder: Path, cache: Cache, vouch: Callable[[Stage, Entry], bool] | None = None
    ) -> None:
        self.folder = folder
        self.cache = cache
        self.names: dict[str, str] = {}
        self.vouch = vouch or (lambda _stage, _entry: False)
        self.known: dict[str, Standing] = {}
        """Of each tree at hand, as its record was then: it may be another by now."""
        self.count = 0
        self.unpacking = threading.Lock()

    def _name(self) -> str:
        self.count += 1
        return str(self.count)

    def lower(self, stages: Sequence[Stage], log: Log) -> list[str]:
        """Lower directories for these stages, from the top one down, relative to `folder`."""
        with self.unpacking:  # of several threads, the others wait for what one unpacks
            self._unpack(stages, log)
        return [self.names[stage.key] for stage in reversed(stages)]

    def _unpack(self, stages: Sequence[Stage], log: Log) -> None:
        packed = {
            stage.key: self.cache.require(stage) for stage in stages if stage.key not in self.names
        }
        # Entries of older versions do not tell.
        size = sum(int(entry.facts.get("size", 0)) for entry in packed.values())
        log.need_room("scratch", size, f"unpacking {counted(len(packed), 'tree')}")
        lacking = [stage for stage in stages if stage.key in packed]
        if lacking:
            log.step(f"unpacking {', '.join(stage.name for stage in lacking)}")
            names = [self._name() for _stage in lacking]
            # Each is one tar that waits for the filesystem, so that two CPUs are used by two.
            with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
                work = [
                    pool.submit(
                        unpack,
                        packed[stage.key].path,
                        packed[stage.key].sha256,
                        self.folder / name,
                        log,
                    )
                    for stage, name in zip(lacking, names, strict=True)
                ]
            for stage, name, future in zip(lacking, names, work, strict=True):
                try:
                    future.result()
                except DamagedEntry:
                    self.cache.damaged(stage, log.step)
                    raise
                entry = packed[stage.key]
                self.known[stage.key] = Standing(
                    doubtful=entry.doubtful, vouched=self.vouch(stage, entry)
                )
                self.names[stage.key] = name

    def standing(self, stages: Sequence[Stage]) -> Standing:
        """That of what is made from these stages: of a tree at hand as it was when it came."""
        return together([self.known.get(one.key) or self._kept(one) for one in stages])

    def _kept(self, stage: Stage) -> Standing:
        """That of what is only in the cache."""
        entry = self.cache.get(stage)
        if entry is None:  # gone meanwhile: nothing is known of it
            return Standing(doubtful=True, vouched=False)
        return Standing(doubtful=entry.doubtful, vouched=self.vouch(stage, entry))

    @contextlib.contextmanager
    def upper(self, stage: Stage, lower: Sequence[str]) -> Iterator[Upper]:
        """A fresh upper directory; when the block ends well, it is the stage's tree."""
        below = [key for key, known in self.names.items() if known in lower]
        with self.passing(lower) as upper:
            yield upper
        self.known[stage.key] = together([self.known[key] for key in below])
        self.names[stage.key] = upper.name

    @contextlib.contextmanager
    def passing(self, lower: Sequence[str]) -> Iterator[Upper]:
        """A fresh upper directory that is no stage's; it is removed if the block ends badly."""
        name = self._name()
        since = begun(self.folder)
        if not lower:
            (self.folder / "empty").mkdir(exist_ok=True)
            lower = ["empty"]
        (self.folder / name).mkdir()
        (self.folder / name).chmod(0o755)
        try:
            yield Upper(base=self.folder, name=name, lower=lower, begun=since)
        except BaseException:
            remove(self.folder / name)
            raise
        finally:
            remove(self.folder / (name + ".work"))
