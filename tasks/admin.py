"""The commands beside the graph: keys, why, prune, verify, doctor, test."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks import cachedir, holes, host, lockfile, safe, strict, trials
from tasks.cache import FOLDERS, broken, read_record, remove
from tasks.errors import BuildError
from tasks.plan import Plan, Stage, canonical, other_tools, tools_of
from tasks.session import Session
from tasks.spec import spec_names

FOREIGN_SHOWN = 20
"""How much of what is not Strata's is told by name."""


def keys(session: Session) -> None:
    """Print each stage's key and the files that a CI cache keeps under it; asks no repository."""
    form = session.variables.get("format", "text")
    if form not in ("text", "json"):
        raise BuildError(f"format={form}: expected text or json")
    rows = []
    for stage in session.plan.stages:
        files = [session.cache.file(stage), session.cache.record(stage)]
        rows.append({"stage": stage.kind, "name": stage.name, "key": stage.key,
                     "files": [os.path.relpath(path, session.root) for path in files]})  # fmt: skip
    if form == "json":
        found = {"spec": session.spec.name, "lock": session.lock_digest, "stages": rows}
        session.screen.line(json.dumps(found, indent=1))
        return
    for row in rows:
        session.screen.line(f"{row['stage']:<6} {row['name']:<16} {row['key']} {row['files'][0]}")


# ---------------------------------------------------------------- why


def why(session: Session) -> None:
    """Say of each stage whether a build would redo it, and what changed; asks no repository."""
    lock = session.read_lock()
    if lock is None or not session.fits(lock):
        state = lockfile.state(lock)
        session.screen.line(f"lock    {session.lock_path} is {state}: a build resolves it first")
        if lock is None:
            return
        session.screen.line("        run `doit lock` to see the rest")
        return
    plan = session.plan
    needed = [stage for stage in plan.images if session.cache.get(stage) is None]
    if not needed:
        session.screen.line("nothing would be redone: every image is in the cache")
        return
    redo: list[Stage] = list(needed)
    for stage in reversed(plan.tree):
        if session.cache.get(stage) is not None:
            break
        redo.insert(0, stage)
    for stage in redo:
        session.screen.line(f"{stage.kind:<6}  {stage.name:<16} {stage.key[:8]} would be built")
        for line in _reasons(session, stage):
            session.screen.line(f"        {line}")


def _reasons(session: Session, stage: Stage) -> list[str]:
    """How the inputs differ from those of the most recent record of the same stage."""
    records = [path for path in session.cache.own(FOLDERS[stage.kind])
               if path.suffix == ".json" and path.name.startswith(f"{stage.kind}-")]  # fmt: skip
    records.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
    # Before the most recent of all specs comes what this spec's own last build was made of.
    own = _last_key(session, stage)
    records.sort(key=lambda path: path.stem != f"{stage.kind}-{own}")
    for path in records:
        try:
            record = read_record(path)
            if record["name"] != stage.name or record["key"] == stage.key:
                continue
        except (OSError, ValueError):
            continue  # damaged, or with the form of another version
        try:
            found = differences(record["inputs"], stage.inputs)
        except (ValueError, LookupError, TypeError, AttributeError):
            # A record vouches for its own form, not for that of what it was made of.
            return ["the inputs of its last build cannot be compared: they have another form"]
        return found or ["its file in the cache is missing"]
    # Of another host there may be the results alone.
    tools = other_tools(_published_tools(session), tools_of(stage.inputs))
    return ["no earlier build of it is in the cache", *tools]


def _published_tools(session: Session) -> dict[str, str]:
    """The tools that out/NAME/ was built with, as its metadata tells, or nothing."""
    import yaml

    try:
        text = safe.read_bytes(session.out / f"{session.name}.yaml", strict.LIST_LIMIT)
        return {str(name): str(one) for name, one in yaml.safe_load(text)["tools"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
            yaml.YAMLError):  # fmt: skip
        return {}


def _last_key(session: Session, stage: Stage) -> str:
    """The key that a stage of this name had in the last build, or ""."""
    try:
        stages = strict.read(session.out / "build.json")["stages"]
        return next(str(one["key"]) for one in stages
                    if (one["stage"], one["name"]) == (stage.kind, stage.name))  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two stages' inputs, in package terms where it is packages.

    ValueError, LookupError, TypeError or AttributeError where the old ones have no form that is
    known: only what the new ones hold is of a form that can be relied on.
    """
    lines: list[str] = []
    if old.get("recipe") != new.get("recipe"):
        # What the inputs are called may differ, too.
        return ["this version of Strata makes it in another way"]
    tools = other_tools(tools_of(old), tools_of(new))
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if None not in (before, after) and type(before) is not type(after):
            raise strict.Damaged(f"its inputs' {name} is malformed")
        if name in ("tools", "tool_version") and tools:
            lines += tools
            tools = []
            continue
        if name == "records" and isinstance(before, list) and isinstance(after, list):
            was = {(row[0], row[2]): row for row in before}
            now = {(row[0], row[2]): row for row in after}
            for slot in sorted(was.keys() | now.keys()):
                if was.get(slot) == now.get(slot):
                    continue
                if slot not in now:
                    lines.append(f"package {slot[0]} {was[slot][1]} is gone")
                elif slot not in was:
                    lines.append(f"package {slot[0]} {now[slot][1]} is new")
                elif was[slot][1] == now[slot][1]:
                    lines.append(f"package {slot[0]} {now[slot][1]} has other bytes")
                else:
                    lines.append(f"package {slot[0]}: {was[slot][1]} → {now[slot][1]}")
        elif name == "manual":
            had, has = set(before or ()), set(after or ())
            lines += [f"package {one.partition(':')[0]} is no longer asked for"
                      for one in sorted(had - has)]  # fmt: skip
            lines += [f"package {one.partition(':')[0]} is asked for"
                      for one in sorted(has - had)]  # fmt: skip
        elif name == "auto":
            continue  # what is not asked for: the packages or `manual` tell it
        elif name == "script":
            lines.append("its script " + ("is gone" if not after else "is new" if not before
                                          else "has other bytes"))  # fmt: skip
        elif name == "shown":
            was, now = before or {}, after or {}
            differ = [one for one in sorted({*was, *now}) if was.get(one) != now.get(one)]
            lines += [f"{one}, which it looks at: {was.get(one, 'unset')} → {now.get(one, 'unset')}"
                      for one in differ]  # fmt: skip
        elif name == "parent":
            lines.append("what it stands on changed")
        elif isinstance(before, list) and isinstance(after, list):
            was_there, is_there = ({canonical(value) for value in one} for one in (before, after))
            gone = [value for value in before if canonical(value) not in is_there]
            new_ones = [value for value in after if canonical(value) not in was_there]
            lines += [f"{name}: without {_short(value)}" for value in gone]
            lines += [f"{name}: with {_short(value)}" for value in new_ones]
        else:
            lines.append(f"{name}: {_short(before)} → {_short(after)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[0]
    return str(value)[:80]


# ---------------------------------------------------------------- the cache


def _plans(session: Session) -> list[Plan]:
    """The plan of every spec that has a lock; one that cannot be planned keeps nothing safe."""
    plans = []
    for name in spec_names(session.specs):
        if not (session.specs / f"{name}.lock").exists():
            continue
        other = Session(root=session.root, variables={**session.variables, "spec": name})
        try:
            plans.append(other.plan)
        except BuildError as error:
            raise BuildError(
                f"specs/{name}: what it needs cannot be told: {error.message}",
                f"build it, or remove specs/{name}.lock",
            ) from error
    return plans


def prune(session: Session) -> None:
    """Remove the entries that no spec's lock needs, the longest unused first."""
    needed: set[Path] = set()
    releases: set[str] = set()
    count = freed = 0
    with session.cache.alone(session.screen.progress):
        _tell_foreign(session)
        if not session.cache.claim():
            session.screen.line("pruned 0 entries, 0.0 MB")
            return
        for plan in _plans(session):
            for stage in plan.stages:
                needed |= {session.cache.file(stage), session.cache.record(stage)}
            records = [*plan.lock.base, *(r for layer in plan.lock.layers for r in layer.records)]
            needed |= {session.cache.deb(record.sha256) for record in records}
            releases |= {repo.release[:32] for repo in plan.lock.repos}
        groups = [paths for _first, paths in session.cache.entries()]
        for paths in [*groups, *([path] for path in session.cache.leftovers())]:
            if needed.intersection(paths):
                continue
            # The record goes first: an entry without one is not believed.
            for path in sorted(paths, key=lambda path: path.suffix != ".json"):
                freed += holes.used(path)
                remove(path)
            count += 1
        for path in session.cache.unused(releases):
            remove(path)
    session.screen.line(f"pruned {count} entries, {freed / 1e6:.1f} MB")


def _tell_foreign(session: Session) -> None:
    """Say what is in the cache and not Strata's: nobody may wonder later where it went, or why not.

    Where the cache has no marker for it, nothing at all is removed.
    """
    cache = session.cache
    foreign = cache.foreign()
    for path in foreign[:FOREIGN_SHOWN]:
        session.screen.line(f"{session.shown(path)}: it is not Strata's; left alone")
    if len(foreign) > FOREIGN_SHOWN:
        more = len(foreign) - FOREIGN_SHOWN
        session.screen.line(f"{session.shown(cache.root)}: {more} more that are not Strata's")
    if foreign and not cache.claim():
        session.screen.line(
            f"{session.shown(cache.root)}: nothing is removed here: it has no {cachedir.NAME}, and "
            f"gets none as long as it holds what is not Strata's"
        )


def verify(session: Session) -> None:
    """Read every entry; one that is not what its record says is dropped. Fails if there was one.

    What was published and is remembered as whole is read, too: the next build publishes it again.
    """
    bad = count = 0
    cache = session.cache

    def check(path: Path, fault: str, done: str = "dropped") -> bool:
        nonlocal bad, count
        count += 1
        if fault:
            bad += 1
            session.screen.line(f"{os.path.relpath(path, session.root)}: {fault}; {done}")
        return bool(fault)

    with cache.alone(session.screen.progress):
        _tell_foreign(session)
        owned = cache.claim()
        done = "dropped" if owned else "left alone"
        for first, paths in list(cache.entries()):
            if check(first, cache.fault(paths), done) and owned:
                for path in sorted(paths, key=lambda path: path.suffix != ".json"):
                    remove(path)
        for folder in cache.snapshots():
            name = broken(folder)
            if check(folder / name, "its SHA-256 is another" if name else "", done) and owned:
                cache.drop_index(folder)
        for path in cache.memory.rotten(session.root / "out"):
            check(path, "its SHA-256 is another", "the next build publishes it again")
    session.screen.line(f"verified {count} entries, {bad} bad")
    if bad:
        raise BuildError(f"{bad} of {count} cache entries were damaged and have been {done}",
                         "the next build makes again what it needs of them")  # fmt: skip


# ---------------------------------------------------------------- the host


def doctor(session: Session) -> None:
    """Say what this host lacks; fails if a build would."""
    missing: list[str] = []

    def say(good: bool, what: str, advice: str = "", *, needed: bool = True) -> None:
        session.screen.line(f"{'ok  ' if good else 'MISS' if needed else 'note'} {what}"
                            + (f": {advice}" if advice and not good else ""))  # fmt: skip
        if not good and needed:
            missing.append(what)

    say(sys.version_info >= (3, 10), f"Python {platform.python_version()}", "3.10 or newer")
    say(os.geteuid() == 0, "root", "builds need it: use sudo")
    packages: dict[str, list[str]] = {}
    for name, package in host.TOOLS.items():
        try:
            host.tool(name)
        except BuildError:
            packages.setdefault(package, []).append(name)
    say(not packages, f"{len(host.TOOLS)} host tools",
        f"apt-get install {' '.join(sorted(packages))}")  # fmt: skip
    if os.geteuid() == 0 and not packages:
        _try_host(session, say)
    filesystems = Path("/proc/filesystems").read_text().split()
    for name in ("xfs", "btrfs"):
        say(name in filesystems, f"filesystem {name}", f"modprobe {name}", needed=False)
    for title, path in (("scratch", host.scratch_root()), ("cache", session.cache.root)):
        free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
        say(free > 4 << 30, f"{free / (1 << 30):.1f} GiB free for {title} in {path}",
            "4 GiB are little", needed=False)  # fmt: skip
    if session.name:
        try:
            session.need_arch()
            say(True, f"programs of {session.spec.arch}")
        except BuildError as error:
            say(False, error.message, error.hint)
    mirrors = session.mirrors
    say("mirror" in mirrors, "a mirror for ${mirror}", "set STRATA_MIRROR", needed=False)
    if missing:
        raise BuildError(f"this host lacks: {', '.join(missing)}")


def _try_host(session: Session, say: Callable[..., None]) -> None:
    """Try what a build does, and say of each thing whether it works; none is tried after a failure.

    A loop device is needed unless the spec that is named has no image that is made with one.
    """
    images = session.spec.images if session.name else ()
    loops = not images or any(image.pack == "loop" and image.format != "vfat" for image in images)
    with host.scratch() as folder:
        failure = trials.sandbox(folder)
        for name in trials.SANDBOX:
            if failure and failure.name not in trials.SANDBOX[trials.SANDBOX.index(name) + 1 :]:
                break
            say(True, trials.NEEDS[name].title)
        if failure:
            say(False, failure.message, failure.hint)
        # Without namespaces there is no answer of its own.
        if not failure or failure.name not in ("namespaces", "propagation", "proc"):
            failure = trials.loop(folder)
            advice = failure.hint if failure else ""
            say(not failure, failure.message if failure else trials.NEEDS["loop"].title, advice,
                needed=loops)  # fmt: skip


def test(session: Session) -> None:
    """Run the linters and pytest, as CI does."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for argv in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        # A file's tests share what they build, so that each file is one process's.
        ["pytest", "--numprocesses", "auto", "--dist", "loadfile", "--durations", "25"],
    ):
        session.screen.line("+ " + " ".join(argv))
        code = subprocess.call([sys.executable, "-m", *argv], env=environment, cwd=session.root)
        if code:
            raise BuildError(f"{argv[0]} failed (exit status {code})")


def bench(session: Session) -> None:
    """Measure Strata and its rivals on one local mirror: tests/bench/."""
    host.need_root("the benchmark")
    given = session.variables
    rounds = given.get("rounds", "3")
    if not rounds.isdecimal() or not 1 <= int(rounds) <= 100:
        raise BuildError(f"rounds={rounds}: expected a number from 1 to 100")
    argv = [sys.executable, "-B", "tests/bench/bench.py", "--rounds", rounds]
    argv += ["--only", given["only"]] if "only" in given else []
    if code := subprocess.call(argv, cwd=session.root):
        raise BuildError(f"the benchmark failed (exit status {code})")
