"""One run of doit on one spec: its project folder, variables, logs, scratch and results."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import holes, space
from ..host.files import sweep_temporary
from ..host.log import Log
from ..host.process import closing, popen, running
from ..host.scratch import scratch_folder, scratch_root
from ..plan import lockfile
from ..plan.debs import Project, digests
from ..plan.keys import resolution_inputs
from ..plan.plan import make_plan
from ..plan.stage import Plan, Result, Stage
from ..store.cache import Cache
from ..store.made import Made
from ..store.seen import SeenFiles
from .asked import Asked
from .screen import Screen
from .told import Told

if TYPE_CHECKING:
    from ..builder import Builder, Reach
    from ..host.visit import Visit
    from ..plan.job import Job
    from ..plan.likeness import Likeness
    from ..remote.remotes import Policy
    from ..remote.shared import Shared
    from ..remote.signing import SecretKey
    from ..remote.vouching import Vouching
    from ..rootfs.overlay import Trees
    from .chronicle import Chronicle
    from .exchange import Exchange


@dataclass(kw_only=True)
class Session(Asked):
    """Everything that the rooms of one run share; made once, by dodo.py."""

    started: float = field(default_factory=time.monotonic)
    results: dict[str, Result] = field(default_factory=dict)
    locked: str = "kept"
    changes: list[str] = field(default_factory=list)
    """Of the lock, in package terms, where this run wrote it."""
    changed: str = ""
    """How many of them of each kind, where packages changed."""
    tried: set[str] = field(default_factory=set)
    """What was found to work on this host, of tasks.trials and tasks.arches."""
    visiting: bool = False
    """Whether a stage that fails is opened for whoever asked: see `shell`."""
    visit: Visit | None = None
    """The last one."""
    logs: str = "log"
    screen: Screen = field(default_factory=Screen)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    # ------------------------------------------------------------ what it shares

    @cached_property
    def cache(self) -> Cache:
        """The cache, here or where STRATA_CACHE says."""
        root = Path(os.environ.get("STRATA_CACHE") or self.root / "cache").absolute()
        cache = Cache(root, SeenFiles(self.state / "seen.json"))
        if self.variables.get("cache_trust") or os.environ.get("STRATA_SIGNING_KEY"):
            cache.accepts = self.vouching.accepts
        return cache

    @cached_property
    def vouching(self) -> Vouching:
        """What counts in this run, and may be passed on."""
        from ..remote.vouching import Vouching

        return Vouching(
            made=self.made,
            policy=lambda: self.policy,
            any=self.variables.get("cache_trust") == "any",
            signs=bool(os.environ.get("STRATA_SIGNING_KEY")),
        )

    @cached_property
    def policy(self) -> Policy:
        """Which way things go between the cache and shared ones, and who is believed."""
        from ..remote.configured import policy

        mode, trust = (self.variables.get(name, "") for name in ("cache_mode", "cache_trust"))
        key = os.environ.get("STRATA_SIGNING_KEY", "")
        return policy(mode or "pull", trust, key, self.root)

    @cached_property
    def signer(self) -> SecretKey | None:
        """The key that signs what is published, where the user names one."""
        for named, given in (
            ("sign", self.variables.get("sign", "")),
            ("STRATA_SIGN", os.environ.get("STRATA_SIGN", "")),
        ):
            if given:
                from ..remote.signing import secret_key

                return secret_key(Path(os.environ.get("STRATA_FROM", "."), given), named)
        return None

    @cached_property
    def made(self) -> Made:
        """What this checkout has built."""
        return Made(self.state / "built")

    @cached_property
    def shared(self) -> Shared | None:
        """The shared caches, where the user names any; BuildError for what they cannot be."""
        named = self.variables.get("cache", "") or os.environ.get("STRATA_REMOTE", "")
        if not named.strip():
            given = [f"{one}=" for one in ("cache_mode", "cache_trust") if self.variables.get(one)]
            if given:
                raise BuildError(f"{given[0]} without cache=", "cache=URL, or STRATA_REMOTE=URL")
            return None
        from ..remote.configured import backends
        from ..remote.shared import Shared

        policy = self.policy
        shared = Shared(backends(named), policy, self.cache, self.made, self.screen.warned)
        self.stack.callback(shared.close)
        return shared

    @cached_property
    def scratch(self) -> Path:
        """This process's scratch folder, made when the first stage runs."""
        return self.stack.enter_context(scratch_folder(self.screen.line))

    @cached_property
    def trees(self) -> Trees:
        """The trees at hand."""
        from ..rootfs.overlay import Trees

        folder = self.scratch / "trees"
        folder.mkdir()
        vouches = self.vouching.vouches
        return Trees(folder, self.cache, lambda stage, entry: vouches(stage, entry.record))

    def builder(
        self, log: Log, lock: lockfile.Lock | None = None, stage: Stage | None = None
    ) -> Builder:
        """What this run lends a stage, and those that ask repositories; `lock` is at hand."""
        from ..builder import Builder
        from .visits import where_failed

        return Builder(
            cache=self.cache,
            scratch=self.scratch,
            trees=self.trees,
            log=log,
            reach=self.reach(lock),
            state=self.state,
            shared=self.shared,
            visit=where_failed(self, stage, log) if stage else None,
            say=self.screen.warned,
        )

    def job(self, stage: Stage) -> Job:
        """All that a stage of this run's plan is made of."""
        from ..plan.jobs import job_of

        return job_of(stage, self.spec, self.plan, self.mirrors)

    @property
    def places(self) -> dict[str, Path]:
        """The folders that a build writes to, by the names that a user knows."""
        return {
            "cache": self.cache.root,
            "scratch": scratch_root(),
            "out": self.out,
            "specs": self.specs,
            ".doit": self.state,
        }

    # ------------------------------------------------------------ spec, lock, plan

    @cached_property
    def project(self) -> Project:
        """Where the spec's own .debs are."""

        def cached(sha256: str) -> Path | None:
            return self.cache.deb(sha256) if self.cache.has_deb(sha256) else None

        return Project(spec=self.spec, cached=cached)

    def reach(self, lock: lockfile.Lock | None) -> Reach:
        """How packages are reached; `lock` is at hand, with the moments as of which it was made."""
        from ..builder import Reach
        from ..plan.repositories import as_locked, read_from

        spec, mirrors = self.spec, self.mirrors
        return Reach(
            arch=spec.arch,
            foreign=spec.foreign,
            uris={repo.name: read_from(repo, mirrors, spec) for repo in spec.repos},
            past=as_locked(spec, lock, mirrors) if lock is not None else {},
            proxies=spec.proxies,
            direct=spec.direct,
            named=self._named,
            own=self.project.own(lock),
            root=self.project.root,
        )

    def fits(self, lock: lockfile.Lock) -> bool:
        """Whether a lock is of this very spec: by its digest, and by its names if it was edited."""
        return (
            lock.inputs == resolution_inputs(self.spec, digests(self.project.own(lock)))
            and lock.arch == self.spec.arch
            and [repo.name for repo in lock.repos] == [repo.name for repo in self.spec.repos]
            and [layer.name for layer in lock.layers] == [layer.name for layer in self.spec.layers]
        )

    @cached_property
    def plan(self) -> Plan:
        """The stages; BuildError when there is no lock for this spec yet."""
        lock = self.read_lock()
        if lock is None or not self.fits(lock):
            raise BuildError(
                f"{self.lock_path}: the lock is {lockfile.state(lock)}",
                f"doit lock spec={self.spec.name}",
            )
        return self.planned(lock)

    def planned(self, lock: lockfile.Lock) -> Plan:
        """The stages by a lock of this very spec, which need not be written yet."""
        from ..plan.inputs import host_inputs

        memory = self.state / "tools.json"
        found = host_inputs(self.spec, lock, self.mirrors, memory, self.root)
        return make_plan(self.spec, lock, found)

    @property
    def ends(self) -> tuple[Stage, ...]:
        """The stages that a build wants: with test=off no tests."""
        off = self.variables.get("test", "") == "off"
        return tuple(one for one in self.plan.ends if not (off and one.kind == "test"))

    def again(self) -> Session:
        """Another one of the same words, which has read and planned nothing yet."""
        return Session(root=self.root, variables=self.variables)

    def complete(self) -> bool:
        """Whether there is a lock to plan from, and every image of it in the cache."""
        try:
            return all(map(self.exchange.within_reach, self.ends))
        except BuildError:
            return False

    @contextlib.contextmanager
    def log(self, name: str, title: str) -> Iterator[Log]:
        """The log out/NAME/log/`name`, whose steps are shown with `title`."""
        with Log(
            (self.out / self.logs / name).relative_to(self.root),
            progress=functools.partial(self.screen.step, title),
            mask=self.mask,
            places=self.places,
            echo=self.screen.line if self.screen.verbose else None,
            counting=functools.partial(self.screen.count, title),
            started=time.monotonic(),
        ) as log:
            yield log

    def aside(self, title: str) -> Log:
        """A log in no file, of what is asked beside any build: its steps show on a terminal."""
        return Log(
            None,
            progress=lambda text: self.screen.moving(f"{title}: {text}"),
            mask=self.mask_if_known,
            places=self.places if self.name else {},
            echo=self.screen.line if self.screen.verbose else None,
        )

    def note(self, stage: Stage, what: str, began: float) -> None:
        """What became of a stage that is in the cache now: kept for build.json, and said."""
        made = self.cache.get(stage)
        assert made is not None
        self.results[stage.task] = Result(
            result=what,
            seconds=time.monotonic() - began,
            bytes=holes.used(made.path),
            began=began - self.started,
        )
        self.told.decided(stage)

    def passed(self, stage: Stage, began: float) -> None:
        """The same of a stage that was made in scratch, and is kept by none."""
        self.results[stage.task] = Result(
            result="built",
            seconds=time.monotonic() - began,
            bytes=0,
            began=began - self.started,
        )
        self.told.decided(stage)

    @cached_property
    def exchange(self) -> Exchange:
        """What this run takes from shared caches, and gives to them."""
        from .exchange import Exchange

        return Exchange(self)

    @cached_property
    def told(self) -> Told:
        """What has been said of this run's stages."""
        return Told(self)

    @cached_property
    def chronicle(self) -> Chronicle:
        """What becomes of this run's stages, for the history of builds."""
        from .chronicle import Chronicle

        return Chronicle(self)

    @cached_property
    def likenesses(self) -> dict[str, Likeness]:
        """What each stage is but for this host's tools, by its entry."""
        from ..plan.likeness import likenesses

        return likenesses(self.plan)

    def explained(
        self, error: OSError, what: str, began: Mapping[str, int] | None = None
    ) -> BuildError:
        """What the kernel refused, where, and what to do; `began` has what was free in bytes."""
        return space.explained(error, what, self.places, began)

    def result(self, stage: Stage) -> Result:
        """What became of a stage: what ran says so, else the cache."""
        known = self.results.get(stage.task)
        if known is None:
            entry = self.cache.get(stage) if stage.kept else None
            known = Result(
                result="hit" if entry else "skipped",
                seconds=0.0,
                bytes=holes.used(entry.path) if entry else 0,
            )
        return known

    def log_of(self, task: str) -> str:
        """The log of a task as a user knows it; "" where it has none."""
        stages = self.plan.stages if "plan" in vars(self) else ()
        name = next((one.log for one in stages if one.task == task), f"{task}.log")
        path = self.out / self.logs / name
        # False as well for what is too long to be a name.
        return self.shown(path) if self.name and os.path.exists(path) else ""

    def say(self, stage: Stage) -> None:
        """The line of a stage."""
        known = self.result(stage)
        size = f"{known.bytes / 1e6:.1f} MB" if known.bytes else "-"
        title, seconds, key = stage.title, f"{known.seconds:.1f} s", stage.key[:8]
        if self.screen.narrow:
            text = f"{title:<16} {key} {known.result:<7}{seconds:>8}{size:>10}"
        else:
            text = f"{title:<22} {key}  {known.result:<8}{seconds:>9}{size:>13}"
        self.screen.note(text)

    def begin(self) -> None:
        """From here to its end this run uses the cache; what killed runs left is removed."""
        self.stack.enter_context(self.cache.used(self.screen.progress))
        left = self.cache.sweep()
        kept = [self.state / name for name in ("", "resolved", "builds", "made-of")]
        for folder in (self.specs, *kept, self.out):
            left += sweep_temporary(folder)
        for path in left:
            self.screen.line(f"{self.shown(path)}: it is not Strata's; left alone")

    @contextlib.contextmanager
    def clearing(self) -> Iterator[None]:
        """Remove the trees beside what the block does; no stage may need them any more."""
        trees = self.__dict__.pop("trees", None)
        with contextlib.ExitStack() as stack:
            for path in trees.folder.iterdir() if trees else ():
                stack.enter_context(running(popen(["rm", "-rf", "--", str(path)])))
            yield

    def close(self) -> None:
        """Remove the scratch folder and keep what was learned of files; a second time is fine."""
        self.screen.close()
        closing()
        # What was not there before is not begun now: a signal may have come amid an import.
        if "exchange" in self.__dict__:
            self.exchange.cancel()
        self.chronicle.close(planned="plan" in self.__dict__)
        with contextlib.suppress(OSError):
            self.cache.memory.save()
        self.stack.close()
