"""The start of a run: streams, signals, the session, and doit's own state of it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import json
import os
import re
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doit import plugin
from doit.dependency import SqliteDB
from doit.exceptions import InvalidDodoFile

from ..errors import BuildError
from ..host import safe, space
from ..host.files import remove
from ..host.process import SIGNALS, on_signal
from ..host.scratch import scratch_root
from ..host.streams import speak_utf8, stand_streams
from ..spec.load import chosen_specs, is_spec
from ..spec.rules import NAME_LIMIT
from ..spec.words import printable
from .reporter import Reporter, variables
from .session import Session
from .variables import ONE_OF, VARIABLES


def start() -> dict[str, Any]:
    """Begin a run in the working directory; doit's configuration of it.

    InvalidDodoFile, which doit shows as one message, for a variable or a folder that will not do.
    """
    stand_streams()
    speak_utf8()
    # Where a caller ignores this one, no exit status is ever told: each command seems to succeed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    # What a build makes has the same modes for every user; secrets are given theirs one by one.
    os.umask(0o022)
    session = _session()
    # Twice: a signal in the moment before the first call is under way ends that one, never the
    # second.
    atexit.register(session.close)
    atexit.register(session.close)
    Reporter.session = session
    # doit finds a backend of one's own by the entry point of an installed package: a checkout may
    # be none.
    SqliteDB.dump = _state_is_spare(SqliteDB.dump)
    SqliteDB.remove = _state_is_spare(SqliteDB.remove)
    # A tenth of a build with nothing to do: doit reads the whole source of each creator for the
    # number of its first line, which the code knows, and looks twice among all that is installed
    # for a reporter and a backend, which are named below.
    inspect.getsourcelines = _first_line  # type: ignore[assignment]
    plugin.entry_points = lambda **_group: ()
    return {
        "default_tasks": ["build"],
        "backend": "sqlite3",
        "dep_file": _dep_file(session),
        "reporter": Reporter,
        "verbosity": 2,
        "minversion": "0.36.0",
    }


def _first_line(one: Any) -> tuple[list[str], int]:
    """As inspect.getsourcelines, of which doit takes the number, without the lines."""
    return [], inspect.unwrap(one).__code__.co_firstlineno


def _given_once(argv: Sequence[str]) -> None:
    """InvalidDodoFile for a variable that stands twice: doit would take the last one in silence."""
    names = [word.partition("=")[0] for word in argv if "=" in word and not word.startswith("-")]
    for name in names:
        if names.count(name) > 1:
            raise InvalidDodoFile(
                f"{name}= is given twice\n  give it once; several specs are one word: spec=a,b"
            )


def _one_of(text: str, given: Mapping[str, str]) -> str:
    """The spec of this process: of several, each has a process of its own, one after the other.

    The stages that they share are made by the first of them, and in the cache for the others.
    Exits with the worst status when all are done; a signal ends the one that runs, and the rest.
    """
    from doit import doit_cmd

    if "provider" in given or given.get("format") in ("github", "gitlab"):
        return text  # one text is made of all: the command reads each
    try:
        names = chosen_specs(Path("specs"), text)
    except BuildError as error:
        raise InvalidDodoFile(str(error)) from error
    if len(names) == 1:
        return names[0]
    for command in {"shell", "boot", "push-oci"} & set(sys.argv[1:]):
        raise InvalidDodoFile(f"{command} takes one spec, and spec= names {len(names)}")
    worst: dict[str, int] = {}
    # What a program reads stays what it can read.
    told = given.get("format", "text") == "text" and given.get("progress") != "json"
    heading = sys.stdout if told else sys.stderr
    for name in names:
        print(f"== {name}", file=heading, flush=True)
        child = os.fork()
        if child == 0:
            doit_cmd.set_var("spec", name)
            return name
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
        worst[name] = code
        if code < 0 or code > 128:
            break
    failed = [name for name in names if worst.get(name, 1)]
    if failed:
        print(
            f"== {len(failed)} of {len(names)} specs: {', '.join(failed)}", file=heading, flush=True
        )
    # 2 is what `why` ends with where all is well: a failure is worse, a signal the worst.
    raise SystemExit(max(map(abs, worst.values()), key=lambda code: (code not in (0, 2), code)))


def _session() -> Session:
    """The session of this process; its variables are checked before anything else happens."""
    given = variables()
    _given_once(sys.argv[1:])
    for name, words in ONE_OF.items():
        if name in given and given[name] not in words:
            wanted = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
            raise InvalidDodoFile(f"{name}={printable(given[name])}: expected {wanted}, or nothing")
    # One fleet makes them all, one graph or report shows them all: each stage once.
    if "spec" in given and not {"fleet", "graph", "report"} & set(sys.argv[1:]):
        given = {**given, "spec": _one_of(given["spec"], given)}
    for name in given:
        if name not in VARIABLES and not name.startswith("var."):
            import difflib

            near = difflib.get_close_matches(name, VARIABLES, 1)
            meant = f"did you mean {near[0]}=? " if near else ""
            raise InvalidDodoFile(
                f"unknown variable {name}=\n  {meant}variables: {', '.join(VARIABLES)}"
            )
    variant = given.get("variant", "")
    # Before it is in any path: out/NAME-VARIANT is swept, and cleaned.
    if variant and not re.fullmatch(r"[\w-]+", variant):
        raise InvalidDodoFile(
            f"variant={printable(variant)}: expected a name\n  letters, digits, _ and -"
        )
    session = Session(root=Path.cwd(), variables=given)
    session.screen.quiet = "quiet" in given
    session.screen.verbose = "verbose" in given
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


def _dep_file(session: Session) -> str:
    """The file of doit's own state: one for each spec, since tasks of two have the same names.

    In memory for what is no spec, and where it cannot be written.
    """
    state = session.state
    with contextlib.suppress(OSError), safe.folder(state, make=True):
        pass
    if not state.is_dir():
        return ":memory:"
    if is_spec(session.specs, session.variables.get("spec", "")) and "/" not in session.variant:
        path = state / f"{session.name.replace('/', '%2F')}.sqlite3"
        if len(os.fsencode(path.name)) > NAME_LIMIT - len("-journal"):
            return ":memory:"
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
        # Whoever writes it does so for a moment; in doubt it is left alone.
        uri = f"{path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as database:
            checked = database.execute("pragma integrity_check").fetchall()
            columns = {row[1] for row in database.execute("pragma table_info(doit)")}
            if database.execute("select count(*) from sqlite_master").fetchone() == (0,):
                return checked == [("ok",)]  # another process is about to make its table
            if not {"task_id", "task_data"} <= columns:
                return False
            texts = database.execute("select cast(task_data as text) from doit").fetchall()
        return checked == [("ok",)] and all(isinstance(json.loads(text), dict) for (text,) in texts)
    except sqlite3.OperationalError:
        return path.is_file()  # another process writes it
    except (sqlite3.Error, ValueError, TypeError, RecursionError):
        return False


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
