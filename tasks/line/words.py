"""What was typed → doit's words: `build web`, `--spec web`, `-q`, and what is mistyped. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence

from ..errors import BuildError
from ..spec.words import near
from ..spec.words import printable as shown
from .commands import COMMANDS, STAGES, VALUES

FLAGS = {"-q": "quiet=1", "--quiet": "quiet=1", "-v": "verbose=1", "--verbose": "verbose=1"}

OURS = ("strata", "doit", "./doit")
"""What the program is called: who types it twice means the next word."""

ONLY = {name for one in COMMANDS.values() for name in one.takes if name not in ("lock", "spec")} - {
    "mirror",
    "security_mirror",
}
"""Variables of single commands: of any other one they would be passed over in silence."""


def arranged(
    argv: Sequence[str],
    *,
    variables: Mapping[str, str],
    specs: Callable[[], Collection[str]],
    program: str = "strata",
) -> list[str]:
    """The words as doit takes them: the command first, then tasks, then each NAME=VALUE once.

    `variables` are those that there are, `specs` gives the names of this project's specs. Raises
    BuildError for a command, an option or a variable that there is not, or that is given twice.
    """
    given: dict[str, str] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            if words[:1] == ["shell"] and rest:
                if "command" in given:
                    raise BuildError("command= is given twice", "once before -- is enough")
                given["command"] = shlex.join(rest)
            else:
                words += rest
            break
        if word in FLAGS:
            word = FLAGS[word]
        elif word.startswith("-") and word != "-":
            word = _option(word, rest, variables, program)
        name, equals, value = word.partition("=")
        if not equals:
            words.append(word)
            continue
        _variable(name, value, given, variables)
        given[name] = value
    command = words[0] if words else "build"
    if not _known(command):
        raise _no_command(words, given, specs(), program)
    _alone(command, given, program)
    for word in [one for one in words[1:] if not _known(one) or _meant(one, words, given, specs)]:
        if command == "info" and given.get("spec"):
            continue  # a stage's name, which only the spec knows
        if (command in COMMANDS and not COMMANDS[command].spec) or word.startswith("/"):
            raise BuildError(
                f"{command} {shown(word)}: {command} takes no {shown(word)!r}",
                f"{program} help {command}",
            )
        _named(word, given, variables, specs)
        given["spec"] = word
        words.remove(word)
    if command == "info" and len(words) > 2:
        raise BuildError(f"info {shown(words[2])}: it tells of one stage at a time")
    if "spec" in given:
        given["spec"] = _plain(given["spec"], specs)
    return [*words, *(f"{name}={value}" for name, value in given.items())]


def _meant(
    word: str, words: Sequence[str], given: Mapping[str, str], specs: Callable[[], Collection[str]]
) -> bool:
    """Whether a stage's name is meant as the spec that is called so: `build disk`."""
    return word in STAGES and "spec" not in given and len(words) == 2 and word in specs()


def _known(word: str) -> bool:
    return word.partition(":")[0] in (*COMMANDS, *STAGES)


def _option(word: str, rest: list[str], variables: Mapping[str, str], program: str) -> str:
    """`--spec web` and `--spec=web` as `spec=web`, `--fast` as `fast=1`."""
    name, equals, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_") if not name.startswith("var.") else name
    if name not in variables and not name.startswith("var."):
        meant = near(name, variables)
        raise BuildError(
            f"{shown(word)}: there is no such option",
            (f"did you mean --{meant}? " if meant else "") + f"{program} help",
        )
    if not equals and VALUES.get(name) == ("1",):
        return f"{name}=1"
    if not equals:
        if not rest or rest[0].startswith("-"):
            raise BuildError(f"{shown(word)}: a value is missing", f"write {name}=VALUE")
        value = rest.pop(0)
    return f"{name}={value}"


def _variable(
    name: str, value: str, given: Mapping[str, str], variables: Mapping[str, str]
) -> None:
    """BuildError for a variable that there is not, is given twice, or has another value."""
    if not name:
        raise BuildError(
            f"{shown(f'={value}')}: no variable's name is before it",
            "write NAME=VALUE in one word, without a space: spec=web",
        )
    if name not in variables and not name.startswith("var."):
        meant = near(name, variables)
        raise BuildError(
            f"unknown variable {shown(name)}=",
            (f"did you mean {meant}=? " if meant else "") + f"variables: {', '.join(variables)}",
        )
    if name in given:
        raise BuildError(
            f"{shown(name)}= is given twice", "give it once; several specs are one word: spec=a,b"
        )
    wanted = VALUES.get(name, ())
    # Of these, several may stand in one word.
    if wanted and name != "only" and value not in wanted:
        meant = near(value, wanted)
        expected = "1, or nothing" if wanted == ("1",) else f"one of {', '.join(wanted)}"
        raise BuildError(
            f"{name}={shown(value)}: expected {expected}",
            f"did you mean {name}={meant}?" if meant else "",
        )


def _alone(command: str, given: Mapping[str, str], program: str) -> None:
    """BuildError for a variable that is another command's, and would have no effect on this one."""
    of = "build" if command.partition(":")[0] in STAGES else command
    takes = COMMANDS[of].takes if of in COMMANDS else ()
    for name in given:
        if name in ONLY and name not in takes:
            owners = [one.name for one in COMMANDS.values() if name in one.takes]
            every = " and ".join([", ".join(owners[:-1]), owners[-1]] if owners[1:] else owners)
            raise BuildError(f"{command} takes no {name}=", f"{name}= is of {program} {every}")


def _named(
    word: str,
    given: Mapping[str, str],
    variables: Mapping[str, str],
    specs: Callable[[], Collection[str]],
) -> None:
    """BuildError for a word that cannot be the spec's name: one is given, or a value is missing."""
    if (word in variables and word not in ("all", *specs())) or word.startswith("var."):
        raise BuildError(
            f"{shown(word)}: a value is missing", f"write {shown(word)}=VALUE in one word"
        )
    if given.get("spec") == "":
        raise BuildError(
            f"spec= and {shown(word)!r}: the name is apart", f"write spec={shown(word)} in one word"
        )
    if "spec" in given:
        raise BuildError(
            f"spec={shown(given['spec'])} and {shown(word)!r}: two specs are named",
            "name it once"
            if word == given["spec"]
            else f"several are one word: spec={shown(given['spec'])},{shown(word)}",
        )


def _plain(text: str, specs: Callable[[], Collection[str]]) -> str:
    """The spec's name where its file was named, as a shell completes it: specs/web.yaml."""
    found = []
    for part in text.split(","):
        path = re.fullmatch(r"(?:\./)?(?:specs/)?(.+)\.yaml", part)
        named = path is not None and part not in specs() and path[1] in specs()
        found.append(path[1] if path and named else part)
    return ",".join(found)


def _no_command(
    words: Sequence[str], given: Mapping[str, str], specs: Collection[str], program: str
) -> BuildError:
    word = words[0]
    what = f"{shown(word)}: there is no such command" if word else "'': a command is missing"
    if word in OURS and words[1:]:
        rest = " ".join([*words[1:], *(f"{name}={value}" for name, value in given.items())])
        return BuildError(what, f"leave it out: {program} {shown(rest)}")
    if _plain(word, lambda: specs) in specs:
        return BuildError(what, f"to build it: {program} build {_plain(word, lambda: specs)}")
    meant = near(word, [*COMMANDS, *STAGES]) if len(word) < 100 else ""
    return BuildError(
        what,
        f"did you mean {meant}? {program} help lists them"
        if meant
        else f"{program} help lists the commands",
    )
