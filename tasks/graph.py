"""The doit side of it: configuration, the session of this run, and a creator for each task."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doit import create_after
from doit.dependency import SqliteDB
from doit.exceptions import InvalidDodoFile, TaskFailed

from .errors import BuildError
from .host import safe, space
from .host.files import remove
from .host.log import Log
from .host.process import SIGNALS, on_signal
from .host.scratch import scratch_root
from .host.streams import speak_utf8, stand_streams
from .plan.stage import Plan, Stage
from .session.reporter import Reporter, variables
from .session.session import VARIABLES, Session
from .spec.load import spec_names

Task = dict[str, Any]

stand_streams()
speak_utf8()
# Where a caller ignores this one, no exit status is ever told, and each command seems to succeed.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())


for _number in SIGNALS:
    if signal.getsignal(_number) is not signal.SIG_IGN:
        signal.signal(_number, on_signal)


def _session() -> Session:
    """The session of this process; its variables are checked before anything else happens."""
    given = variables()
    for name in given:
        if name not in VARIABLES:
            import difflib

            near = difflib.get_close_matches(name, VARIABLES, 1)
            meant = f"did you mean {near[0]}=? " if near else ""
            raise InvalidDodoFile(
                f"unknown variable {name}=\n  {meant}variables: {', '.join(VARIABLES)}"
            )
    session = Session(root=Path.cwd(), variables=given)
    for path in (session.root, session.cache.root, scratch_root()):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            # apt's configuration, records and JSON have it as text.
            raise InvalidDodoFile(
                f"{str(path)!a}: this path is no text in UTF-8\n  rename its folder"
            ) from None
    folders = [session.specs, session.root / "out", session.state]
    if not os.environ.get("STRATA_CACHE"):
        folders.append(session.cache.root)
    for folder in folders:
        # A commit can hold such a link; root would write to wherever it leads.
        if folder.is_symlink():
            raise InvalidDodoFile(
                f"{folder.name}: a link is in the folder's place, and Strata writes through none\n"
                "  remove it (STRATA_CACHE names a cache elsewhere, mount --bind brings any folder)"
            )
    return session


def _dep_file() -> str:
    """The file of doit's own state: one for each spec, since tasks of two have the same names.

    In memory for what is no spec, and where it cannot be written.
    """
    state = SESSION.state
    with contextlib.suppress(OSError), safe.folder(state, make=True):
        pass
    if not state.is_dir():
        return ":memory:"
    if SESSION.name in spec_names(SESSION.specs):
        path = state / f"{SESSION.name}.sqlite3"
        if os.access(state, os.W_OK):
            # sqlite would write through a link, or to whatever else these are names of.
            for suffix in ("-journal", "-wal", "-shm"):
                beside = path.with_name(path.name + suffix)
                if os.path.lexists(beside) and not _regular(beside):
                    remove(beside)
            if os.path.lexists(path) and not (_regular(path) and _sound(path)):
                remove(path)
                remove(path.with_name(f"{path.name}-journal"))
        kept = path.exists() and path.stat().st_size > 0
        mine = os.access(state, os.W_OK) and (not kept or os.access(path, os.W_OK))
        if mine and (kept or space.free_bytes(state) > 1 << 16):
            return str(path)
    return ":memory:"


def _regular(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def _sound(path: Path) -> bool:
    """Whether sqlite can read its file: doit would refuse to run where the disk has lost a bit."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            checked = database.execute("pragma integrity_check").fetchall()
            texts = database.execute("select cast(task_data as text) from doit").fetchall()
        return checked == [("ok",)] and all(isinstance(json.loads(text), dict) for (text,) in texts)
    except sqlite3.OperationalError as error:
        return path.is_file() and "no such table" not in str(error)  # another process writes it
    except (sqlite3.Error, ValueError, TypeError, RecursionError):
        return False


# What a build makes has the same modes for every user; secrets are given theirs one by one.
os.umask(0o022)


SESSION = _session()
# Twice: a signal in the moment before the first call is under way ends that one, never the second.
atexit.register(SESSION.close)
atexit.register(SESSION.close)


Reporter.session = SESSION


DOIT_CONFIG = {
    "default_tasks": ["build"],
    "backend": "sqlite3",
    "dep_file": _dep_file(),
    "reporter": Reporter,
    "verbosity": 2,
    "minversion": "0.36.0",
}


def _state_is_spare(method: Callable[..., Any]) -> Callable[..., Any]:
    """doit's own state is an optimisation: a full disk below .doit/ must not hide a build's error.

    doit writes it when it is done with a task and at its end, outside of any action.
    """

    @functools.wraps(method)
    def write(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except (sqlite3.OperationalError, OSError):
            return None

    return write


SqliteDB.dump = _state_is_spare(SqliteDB.dump)


SqliteDB.remove = _state_is_spare(SqliteDB.remove)


NEEDS_ROOT = ("build", "image", "layer", "base")
"""Tasks that make stages; ./doit has the same names."""


def action(work: Callable[[], Any]) -> Callable[[], Any]:
    """work as a doit action: a BuildError becomes a failed task, a bug keeps its traceback."""

    @functools.wraps(work)
    def run() -> Any:
        try:
            work()
        except BuildError as error:
            return TaskFailed(SESSION.mask_if_known(str(error)))
        except OSError as error:
            if error.errno not in space.HOST_ERRORS:
                raise
            return TaskFailed(SESSION.mask_if_known(str(SESSION.explained(error, "writing"))))
        except UnicodeEncodeError as error:
            return TaskFailed(SESSION.mask_if_known(str(_unwritable(error))))
        return True

    return run


def _unwritable(error: UnicodeEncodeError) -> BuildError:
    """The error of a name that the locale's encoding lacks."""
    return BuildError(
        f"{error.object[max(error.start - 40, 0) : error.end + 40]!a}: this cannot be written "
        f"as {error.encoding}",
        "set LC_ALL=C.UTF-8, or PYTHONUTF8=1",
    )


# ---------------------------------------------------------------- the graph


def task_lock() -> Task:
    """look at the repositories, write specs/NAME.lock"""

    def work() -> None:
        from .repos.resolve import update

        if Reporter.selected_of(NEEDS_ROOT):
            SESSION.need_root_first()
        if not Reporter.selected("lock"):
            SESSION.need_arch(early=True)
        # From here on `doit prune` waits: what this run finds in the cache stays until its end.
        SESSION.begin()
        update(SESSION)
        if Reporter.selected("lock"):
            SESSION.screen.line(f"{SESSION.lock_path}: {SESSION.locked}")

    return {"actions": [action(work)], "uptodate": [False]}


def _up_to_date(stage: Stage) -> Callable[[], bool]:
    return lambda: SESSION.cache.intact(stage) is not None


def _stage(stage: Stage, below: list[str], work: Callable[[Log], None]) -> Task:
    """One stage's task; `below` are all that it stands on, since its tree is made of all."""
    return {
        "doc": f"key {stage.key}",
        "actions": [action(lambda: SESSION.make(stage, work))],
        "targets": [str(SESSION.cache.file(stage))],
        "uptodate": [_up_to_date(stage)],
        "setup": list(below),
    }


def _planned() -> Plan | None:
    """The plan, or None when there is none yet; while tasks run, a plan that fails is an error."""
    try:
        return SESSION.plan if SESSION.name else None
    except BuildError as error:
        if not Reporter.running:
            return None
        raise InvalidDodoFile(SESSION.mask_if_known(str(error))) from error


# A build with nothing to do reaches none of these, so that it does not import what they need.


def _base(log: Log) -> None:
    from .stages import base

    base.build(SESSION, log)


def _layer(number: int, log: Log) -> None:
    from .stages import layer

    layer.build(SESSION, number, log)


def _image(number: int, log: Log) -> None:
    from .stages import image

    image.build(SESSION, number, log)


def _images(number: int) -> None:
    from .stages import image

    image.build_all(SESSION, number)


@create_after(executed="lock")
def task_base() -> Task:
    """bootstrap from the locked packages"""
    plan = _planned()
    if plan is None:
        return {"actions": [action(_no_plan)]}
    return _stage(plan.base, [], _base)


@create_after(executed="lock")
def task_layer() -> Iterator[Task]:
    """packages, files and script of each layer, on those below"""
    yield {"name": None, "doc": task_layer.__doc__}
    plan = _planned()
    below = ["base"]
    for number, stage in enumerate(plan.layers if plan else ()):
        yield {"name": stage.name, **_stage(stage, below, partial(_layer, number))}
        below.append(stage.task)


@create_after(executed="lock")
def task_image() -> Iterator[Task]:
    """filesystem image of each mount point"""
    yield {"name": None, "doc": task_image.__doc__}
    plan = _planned()
    for number, stage in enumerate(plan.images if plan else ()):
        below = ["base", "layer"]
        task = _stage(stage, below, partial(_image, number))
        if Reporter.selected("build") or Reporter.selected("image"):
            task["actions"] = [action(partial(_images, number))]
        yield {"name": stage.name, **task}


@create_after(executed="lock")
def task_build() -> Task:
    """bring out/NAME/ up to date with specs/NAME.yaml"""
    return {
        "actions": [action(_publish)],
        "task_dep": ["image"],
        "uptodate": [False],
        "clean": [_clean_out],
    }


def _no_plan() -> None:
    """What runs when there was no plan: says why."""
    _ = SESSION.plan


def _publish() -> None:
    from .stages import publish

    with SESSION.clearing():
        publish.publish(SESSION)
    for stage in SESSION.plan.stages:
        if stage.task not in SESSION.results:
            SESSION.say(stage)
    for notice in publish.warned(SESSION):
        SESSION.screen.line(f"warning: {notice.layer}: {notice.text()}")
    state = "published to" if SESSION.published else "unchanged in"
    SESSION.screen.line(f"{state} {os.path.relpath(SESSION.out)}/")


def _clean_out() -> None:
    from .stages import publish

    # A name like `..` is a folder, too.
    if SESSION.name in spec_names(SESSION.specs):
        try:
            publish.clean(SESSION)
        except (BuildError, OSError) as error:
            # doit has no failed clean-up.
            told = error if isinstance(error, BuildError) else SESSION.explained(error, "removing")
            raise SystemExit(f"ERROR: {SESSION.mask_if_known(str(told))}") from error


# ---------------------------------------------------------------- beside the graph


def _plain(module: str, function: str, doc: str) -> Task:
    """A task that is one function of the session, whose module is imported when it runs."""

    def work() -> None:
        getattr(importlib.import_module(f".commands.{module}", __package__), function)(SESSION)

    return {"actions": [action(work)], "uptodate": [False], "doc": doc}


def task_keys() -> Task:
    """each stage's key, for a CI cache (format=json|text)"""
    return _plain("why", "keys", "each stage's key, for a CI cache (format=json|text)")


def task_why() -> Task:
    """what a build would redo, and why"""
    return _plain("why", "why", "what a build would redo, and why")


def task_prune() -> Task:
    """drop the cache entries that no lock needs"""
    return _plain("upkeep", "prune", "drop the cache entries that no lock needs")


def task_verify() -> Task:
    """check every cache entry against its digest"""
    return _plain("upkeep", "verify", "check every cache entry against its digest")


def task_reproduce() -> Task:
    """build again from the lock in an empty cache, compare with out/NAME/"""
    return _plain(
        "reproduce", "reproduce", "build again from the lock in an empty cache, compare with out/"
    )


def task_doctor() -> Task:
    """what the host lacks"""
    return _plain("doctor", "doctor", "what the host lacks")


def task_import() -> Task:
    """make specs/NAME.yaml from fuel-agent's input (file=provision.json)"""
    return _plain(
        "fuel_agent",
        "import_input",
        "specs/NAME.yaml from fuel-agent's input (file=provision.json)",
    )


def task_bench() -> Task:
    """measure against the rivals, write docs/performance.md (rounds=3, only=ours)"""
    return _plain(
        "develop", "bench", "measure against the rivals (rounds=3, only=ours,rivals,growth)"
    )


def task_test() -> Task:
    """all the tests"""
    return _plain("develop", "test", "all the tests")
