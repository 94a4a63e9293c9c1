"""A worker's side: makes one stage of an errand, in whatever process Dask has for it.

    errand ─→ made meanwhile? ─→ may this host make it? ─→ parents ─→ build ─→ shared cache ─→ facts

Nothing is raised, since Dask writes what a task raised, and its arguments, into logs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..builder import Builder, Reach
from ..errors import BuildError, DamagedEntry, NoRoom
from ..host import arches, holes, space, trials
from ..host.files import remove
from ..host.log import Log
from ..host.process import need_root
from ..host.tools import tool
from ..plan import boot_tests, versions
from ..plan.job import BaseJob, Job, LayerJob
from ..plan.keys import key
from ..plan.likeness import Likeness
from ..plan.lockfile import OWN, Record
from ..plan.recipes import RECIPES
from ..plan.stage import Stage, tools_of
from ..plan.tools import tool_versions
from ..plan.top_jobs import TestJob
from ..remote.configured import backends, policy
from ..remote.remotes import Policy
from ..remote.shared import Shared
from ..remote.signing import SIGNING_KEY
from ..remote.vouching import Vouching
from ..session.needs import loops, runs, tools_needed
from ..spec.model import masked
from ..stages.make import build
from ..store.cache import Cache
from ..version import VERSION
from .machine import Machine, machine_for
from .parcel import BUILT, FAILED, THERE, UNFIT, Errand, Outcome, Parcel, unpacked

TAIL = 200
"""Lines of a failed stage's log that are sent back."""


class Unfit(BuildError):
    """This worker cannot make the stage; another one may."""


def dask_setup(_worker: object) -> None:
    """What Dask calls first where this is a preload: Ctrl-C is the driver's, which ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(parcel: Parcel) -> dict[str, Any]:
    """Make the stage of a parcel: what Dask calls. An Outcome as plain values, whatever happens."""
    began = time.monotonic()
    name, address = _who()
    secrets: tuple[str, ...] = ()
    try:
        errand = unpacked(parcel.text)
    except (KeyError, TypeError, ValueError) as error:
        outcome = Outcome(
            result=UNFIT,
            message=f"this is no errand for Strata {VERSION}: {type(error).__name__}",
            hint="install the same version on both",
        )
    else:
        secrets = errand.secrets
        try:
            outcome = _outcome(errand)
        except BaseException:  # a fault of Strata's own, or a thread that is to end
            outcome = Outcome(result=FAILED, message=traceback.format_exc())
    outcome.seconds = time.monotonic() - began
    outcome.worker, outcome.address = name, address
    outcome.message = masked(outcome.message, secrets)
    outcome.hint = masked(outcome.hint, secrets)
    outcome.said = [masked(line, secrets) for line in outcome.said]
    return outcome.plain()


def _who() -> tuple[str, str]:
    """The worker's name and address; nothing where Dask has not called."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return "", ""
    return str(worker.name), str(worker.address)


def _outcome(errand: Errand) -> Outcome:
    """Make a stage, twice where what it stands on was damaged: that has been dropped then."""
    said: list[str] = []
    log = Log(None)
    for attempt in (1, 2):
        try:
            with machine_for(errand) as machine:
                path = Path(errand.log) if errand.log else None
                log = Log(
                    path,
                    mask=lambda text: masked(text, errand.secrets),
                    places=machine.places,
                )
                with log:
                    return replace(_made(errand, machine, log, said), said=said)
        except DamagedEntry as error:
            fault: BuildError = error
            if attempt == 1:
                continue
            result = UNFIT
        except (Unfit, NoRoom) as error:
            result, fault = UNFIT, error
        except BuildError as error:
            result, fault = FAILED, error
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            title = errand.job.stage.title
            result, fault = UNFIT, space.explained(error, title, log.places, log.began)
        break
    tail = list(log.tail)[-TAIL:] if result == FAILED else []
    return Outcome(result=result, message=fault.message, hint=fault.hint, tail=tail, said=said)


# ---------------------------------------------------------------- one stage


def _made(errand: Errand, machine: Machine, log: Log, said: list[str]) -> Outcome:
    """Make a stage and give it to the shared cache, unless somebody has."""
    job, cache = errand.job, machine.cache
    stage = job.stage
    root = Path(errand.checkout) if errand.checkout else machine.scratch
    rules = policy(errand.mode or "pull", errand.trust, os.environ.get(SIGNING_KEY, ""), root)
    machine.vouching = Vouching(
        made=machine.made, policy=lambda: rules, any=rules.any, signs=rules.key is not None
    )
    cache.accepts = machine.vouching.accepts
    with contextlib.ExitStack() as stack:
        shared = _shared(errand, machine, rules, said)
        if shared is not None:
            stack.callback(shared.close)
        far = shared if not errand.checkout else None
        if far is not None and far.where(stage):
            return Outcome(result=THERE)
        _check(errand, machine)
        stack.enter_context(cache.used(log.step))
        if far is not None:
            _bring(far, cache, job, log)
        with cache.building(stage, log.step) as entry:
            given = entry is not None and far is not None and _given(far, errand)
            if entry is not None and far is not None and far.kept(stage):
                # Another's, or of another life of this worker: this one cannot vouch for it.
                cache.drop(stage)
                entry = None
            if entry is None:
                _build(errand, machine, log, shared)
        made = cache.require(stage)
        if entry is None and shared is not None and shared.policy.push:
            given = _given(shared, errand)
        if far is not None and not given:
            raise Unfit(
                f"{stage.title} did not get to the shared cache"
                + (f": {said[-1]}" if said else ""),
                "may the worker write there?",
            )
        what = BUILT if entry is None else THERE
        return Outcome(result=what, bytes=holes.used(made.path))


def _shared(errand: Errand, machine: Machine, rules: Policy, said: list[str]) -> Shared | None:
    """The shared caches, by this host's own keys."""
    if not errand.caches:
        return None
    if not errand.checkout and rules.key is None and not rules.any:
        raise Unfit(
            f"it has no {SIGNING_KEY}: nobody would believe what it makes",
            "`strata keygen` makes a key; or start the fleet with cache_trust=any",
        )
    return Shared(backends(errand.caches), rules, machine.cache, machine.made, said.append)


def _given(shared: Shared, errand: Errand) -> bool:
    """Give a stage, and the .debs that it was made of; whether the shared cache has it then."""
    job = errand.job
    shared.give_debs(job.stage.entry, _records(job))
    like = Likeness(name=errand.like, tools=errand.tools)
    return shared.give(job.stage, like) or bool(shared.where(job.stage))


def _records(job: Job) -> tuple[Record, ...]:
    return job.records if isinstance(job, BaseJob | LayerJob) else ()


def _check(errand: Errand, machine: Machine) -> None:
    """Unfit where what this host would make is not what the key says, or it can make nothing.

    A stage under the wrong key would be found there for ever.
    """
    stage = errand.job.stage
    same = stage.inputs["recipe"] == RECIPES[stage.kind] and key(stage.inputs) == stage.key
    if errand.version != VERSION or not same:
        told = errand.version if errand.version != VERSION else "another one of that version"
        raise Unfit(
            f"it has Strata {VERSION}, and the fleet was started by {told}",
            "install the same version on both",
        )
    try:
        need_root(f"building {stage.name}")
        for name in tools_needed(stage):
            tool(name)
        wanted = tools_of(stage.inputs)
        if isinstance(errand.job, TestJob):
            wanted |= boot_tests.firmware_of(errand.job)
        here = tool_versions(sorted(wanted), machine.state / "tools.json")
    except BuildError as error:
        raise Unfit(error.message, error.hint) from error
    for name, version in sorted(wanted.items()):
        found = versions.keyed(name, here[name])
        if found != version:
            raise Unfit(
                f"{name} is {found} there, and the plan was made for {version}",
                "all machines of a fleet need the same versions: run the workers in one image",
            )
    _try_host(errand.job, machine)


def _try_host(job: Job, machine: Machine) -> None:
    stage = job.stage
    checks: dict[str, Any] = {"sandbox": lambda: trials.sandbox(machine.scratch)}
    if loops(stage):
        checks["loop"] = lambda: trials.loop(machine.scratch)
    for name, check in checks.items():
        if name not in machine.tried:
            if failure := check():
                error = failure.error()
                raise Unfit(error.message, error.hint)
            machine.tried.add(name)
    if runs(stage) and job.arch not in machine.tried and not arches.native(job.arch):
        if refusal := arches.refusal(job.arch, machine.scratch):
            raise Unfit(refusal.message, refusal.hint)
        machine.tried.add(job.arch)


def _bring(shared: Shared, cache: Cache, job: Job, log: Log) -> None:
    """The trees that the stage stands on; Unfit where one cannot be had."""

    def bring(below: Stage) -> bool:
        with cache.building(below, log.step) as entry:
            return entry is not None or shared.take(below, lambda _text: None)

    needed = (*job.below, *job.made_of)
    if needed:
        with ThreadPoolExecutor(len(needed)) as pool:
            came = list(pool.map(bring, needed))
        for below, here in zip(needed, came, strict=True):
            if not here:
                raise Unfit(
                    f"{below.title}, which it stands on, cannot be had from the shared cache",
                    "does the worker reach it, and does STRATA_TRUSTED_KEYS there name the others?",
                )


def _build(errand: Errand, machine: Machine, log: Log, shared: Shared | None) -> None:
    job = errand.job
    if isinstance(job, BaseJob):
        # What layers need is fetched by whoever makes them.
        job = replace(job, later=())
    scratch = machine.folder("stage")
    try:
        own = [record for record in _records(job) if record.repository == OWN]
        own = [record for record in own if not machine.cache.has_deb(record.sha256)]
        if own and shared is not None:
            shared.take_debs(own, scratch, log.step)
        builder = Builder(
            cache=machine.cache,
            scratch=scratch,
            trees=machine.trees,
            log=log,
            reach=_reach(errand),
            state=machine.state,
            shared=shared,
        )
        build(job, builder)
    finally:
        remove(scratch)
    assert machine.vouching is not None
    below = (*job.below, *job.made_of)
    sound = machine.trees.standing(below).vouched
    machine.vouching.built(job.stage, below, machine.cache, sound=sound)


def _reach(errand: Errand) -> Reach:
    """The way to repositories: by this host's own mirrors where its environment names them."""
    moved = [
        (address, own)
        for name, address in errand.mirrors.items()
        if not errand.checkout and (own := os.environ.get(f"STRATA_{name.upper()}", "").rstrip("/"))
    ]
    moved.sort(key=lambda pair: -len(pair[0]))

    def here(uri: str) -> str:
        for address, own in moved:
            if uri == address or uri.startswith(f"{address}/"):
                return own + uri[len(address) :]
        return uri

    return Reach(
        arch=errand.job.arch,
        foreign=errand.job.foreign,
        uris={name: here(uri) for name, uri in errand.uris.items()},
        past={name: tuple(map(here, uris)) for name, uris in errand.past.items()},
        proxies=errand.proxies,
        direct=errand.direct,
        # Elsewhere there is no project: its .debs are in the shared cache.
        root=Path(errand.checkout or "/nonexistent"),
    )
