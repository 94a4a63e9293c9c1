"""What was typed → doit's words: `build web`, `--spec web`, `-q`, and what is mistyped. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..errors import BuildError
from ..spec.words import near
from .commands import COMMANDS, STAGES

FLAGS = {"-q": "quiet=1", "--quiet": "quiet=1", "-v": "verbose=1", "--verbose": "verbose=1"}


def arranged(
    argv: Sequence[str], *, variables: Mapping[str, str], specs: Callable[[], Collection[str]]
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
            words += rest
            break
        if word in FLAGS:
            word = FLAGS[word]
        elif word.startswith("-") and word != "-":
            word = _option(word, rest, variables)
        name, equals, value = word.partition("=")
        if not equals:
            words.append(word)
            continue
        _variable(name, given, variables)
        given[name] = value
    command = words[0] if words else "build"
    if not _known(command):
        raise _no_command(command, specs())
    for word in [one for one in words[1:] if not _known(one)]:
        if command == "info":
            continue  # a stage's name, which only the plan knows
        if (command in COMMANDS and not COMMANDS[command].spec) or word.startswith("/"):
            raise BuildError(
                f"{command} {word}: {command} takes no {word!r}", f"strata help {command}"
            )
        if "spec" in given:
            raise BuildError(
                f"spec={given['spec']} and {word!r}: two specs are named",
                f"several are one word: spec={given['spec']},{word}",
            )
        given["spec"] = word
        words.remove(word)
    return [*words, *(f"{name}={value}" for name, value in given.items())]


def _known(word: str) -> bool:
    return word.partition(":")[0] in (*COMMANDS, *STAGES)


def _option(word: str, rest: list[str], variables: Mapping[str, str]) -> str:
    """`--spec web` and `--spec=web` as `spec=web`."""
    name, equals, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_")
    if name not in variables and not name.startswith("var."):
        meant = near(name, variables)
        raise BuildError(
            f"{word}: there is no such option",
            (f"did you mean --{meant}? " if meant else "") + "strata help",
        )
    if not equals:
        if not rest or rest[0].startswith("-"):
            raise BuildError(f"{word}: a value is missing", f"write {name}=VALUE")
        value = rest.pop(0)
    return f"{name}={value}"


def _variable(name: str, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    if name not in variables and not name.startswith("var."):
        meant = near(name, variables)
        raise BuildError(
            f"unknown variable {name}=",
            (f"did you mean {meant}=? " if meant else "") + f"variables: {', '.join(variables)}",
        )
    if name in given:
        raise BuildError(
            f"{name}= is given twice", "give it once; several specs are one word: spec=a,b"
        )


def _no_command(word: str, specs: Collection[str]) -> BuildError:
    if word in specs:
        return BuildError(f"{word}: there is no such command", f"to build it: strata build {word}")
    meant = near(word, [*COMMANDS, *STAGES])
    return BuildError(
        f"{word}: there is no such command",
        f"did you mean {meant}? strata help lists them"
        if meant
        else "strata help lists the commands",
    )
