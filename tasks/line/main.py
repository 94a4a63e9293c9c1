"""The program `strata`, and ./doit: doit's own main program with Strata's command line.

    words.py  what was typed → doit's words  ─→  DoitMain ─→ session/start.py, graph.py

Plain `doit` comes in by dodo.py and does the same with doit's own words.
"""

from __future__ import annotations

import gc
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from doit import plugin
from doit.cmd_base import DoitCmdBase, NamespaceTaskLoader
from doit.cmd_run import Run
from doit.doit_cmd import DoitMain

from ..errors import BuildError
from ..session.reporter import Reporter
from ..session.session import Session
from ..session.variables import VARIABLES
from ..spec.load import find_spec, spec_names
from ..version import VERSION
from . import usage, words
from .commands import COMMANDS
from .leave import exit_with

USAGE = 3
"""The exit status of a command line that will not do: doit's own."""


class Loader(NamespaceTaskLoader):  # type: ignore[misc]  # doit has no types
    """The graph without a dodo.py: of the package itself, for the project in this folder."""

    def setup(self, opt_values: dict[str, Any]) -> None:
        """Begin the run; doit's namespace of it."""
        from .. import beside, graph
        from ..session.start import start

        self.namespace = {
            name: value
            for module in (graph, beside)
            for name, value in vars(module).items()
            if name.startswith("task_")
        }
        self.namespace["DOIT_CONFIG"] = start()


class Own(DoitCmdBase, ABC):  # type: ignore[misc]
    """A command of Strata's in the place of one of doit's, which speaks of tasks and of Python."""

    doc_usage = "[spec=NAME]"
    doc_description = None
    cmd_options = ()

    @abstractmethod
    def work(self, session: Session, words: Sequence[str]) -> None:
        """What the command does; BuildError where it cannot."""

    def _execute(self, pos_args: Sequence[str]) -> int:
        session = Reporter.session
        try:
            self.work(session, pos_args)
        except BuildError as error:
            sys.stderr.write(f"ERROR: {session.mask_if_known(str(error))}\n")
            return 1
        return 0


class Listing(Own):
    """`list`: the specs, or one's stages, in place of doit's list of tasks."""

    name = "list"
    doc_purpose = COMMANDS["list"].summary

    def work(self, session: Session, words: Sequence[str]) -> None:
        """Say what there is."""
        from ..commands.listing import listing

        listing(session)


class Info(Own):
    """`info STAGE`: what it does, its state and what it stands on; of a command, its page."""

    name = "info"
    doc_purpose = COMMANDS["info"].summary

    def work(self, session: Session, words: Sequence[str]) -> None:
        """Say what there is to say of one task, or list the spec's."""
        from ..commands.listing import info, listing

        if not words:
            listing(session)
        elif words[0] in COMMANDS and words[0] not in ("lock", "build"):
            session.screen.line(usage.page(program(), words[0], VARIABLES))
        else:
            info(session, words[0])


class Clean(Own):
    """`clean`: out/NAME/ without what builds have put there."""

    name = "clean"
    doc_purpose = COMMANDS["clean"].summary

    def work(self, session: Session, words: Sequence[str]) -> None:
        """Remove it, of a spec that there is."""
        from ..commands.publish import clean

        find_spec(session.specs.relative_to(session.root), session.variables.get("spec", ""))
        clean(session)


class Forget(Own):
    """`forget`: nothing of doit's own state of a spec is left."""

    name = "forget"
    doc_purpose = COMMANDS["forget"].summary

    def work(self, session: Session, words: Sequence[str]) -> None:
        """Forget it, of a spec that there is."""
        find_spec(session.specs.relative_to(session.root), session.variables.get("spec", ""))
        self.dep_manager.remove_all()
        self.dep_manager.close()


class Main(DoitMain):  # type: ignore[misc]
    """doit with the commands that make sense here; no plugin of a pyproject.toml is run as root."""

    BIN_NAME = "strata"
    DOIT_CMDS = (Run, Listing, Info, Clean, Forget)


def program() -> str:
    """What the user typed for this."""
    return os.environ.get("STRATA_PROGRAM") or "strata"


def _specs() -> list[str]:
    return spec_names(Path("specs"))


def answer(argv: Sequence[str], specs: Callable[[], Sequence[str]]) -> str | None:
    """What is answered without a run: help, the version, a completion; else None."""
    first = argv[0] if argv else "help"
    rest = [word for word in argv[1:] if not word.startswith("-")]
    if {"-h", "--help"} & set(argv) or first == "help":
        asked = [word for word in argv if not word.startswith("-") and word != "help"]
        if asked and (first == "help" or first in COMMANDS):
            return usage.page(program(), asked[0], VARIABLES)
        return usage.usage(
            program(),
            variables=VARIABLES,
            specs=specs(),
            checkout=Path("tests/conftest.py").exists(),
        )
    if first in ("--version", "-V", "version"):
        return f"strata {VERSION}"
    if first == "init":
        from ..commands.init import init

        return "\n".join(init(Path.cwd(), rest[0] if rest else "example"))
    if first == "completion":
        return usage.completion(rest[0] if rest else "", VARIABLES).rstrip("\n")
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was typed; the exit status, as help lists them."""
    # A twentieth of a build with nothing to do would be spent on looking for garbage.
    gc.set_threshold(50_000)
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        told = answer(given, _specs)
        if told is not None:
            print(told)
            return 0
        arranged = words.arranged(given, variables=VARIABLES, specs=_specs, program=program())
    except BuildError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return 0
    # No configuration of doit's is read: it could name programs. Nor is it to look three times for
    # plugins among all that is installed.
    plugin.entry_points = lambda **_group: ()
    return int(Main(Loader(), config_filenames=()).run(arranged) or 0)


def strata() -> NoReturn:
    """The program: what was typed, and its exit status."""
    exit_with(main)
