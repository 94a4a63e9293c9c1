"""What `help` shows: the usage, a command's own page, and what shells complete."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import BuildError
from ..spec.words import near
from .commands import COMMANDS, EXITS, VALUES, Command

FORMS = """\
  spec=a,b  spec=all  spec='web-*'   several specs, one after the other; each stage once
  build web, --spec web              the same as spec=web
  -q, -v                             quiet=1: only results; verbose=1: what commands print
  NAME:PART                          single stages: base, layer:app, image:/boot"""


def usage(
    program: str, *, variables: Mapping[str, str], specs: Collection[str], checkout: bool
) -> str:
    """The whole of it, for this project."""
    shown = [one for one in COMMANDS.values() if checkout or not one.own]
    wide = max(len(one.name) for one in shown)
    lines = [f"Usage: {program} COMMAND [spec=NAME] [VARIABLE=VALUE ...]", "", "Commands:"]
    lines += [f"  {one.name:<{wide}}  {one.summary}" for one in shown]
    lines += ["", "Forms:", FORMS, "", "Variables:"]
    wide = max(map(len, variables))
    lines += [f"  {name:<{wide}}  {text}" for name, text in variables.items()]
    lines += ["", "Exit status:", *(f"  {code:<3}  {text}" for code, text in EXITS.items()), ""]
    known = ", ".join(specs) if specs else f"none yet: {program} init makes one"
    lines.append(f"Specs here: {known}")
    return "\n".join(lines)


def page(program: str, name: str, variables: Mapping[str, str]) -> str:
    """One command's own page; BuildError for a name that is none's."""
    command = COMMANDS.get(name)
    if command is None:
        meant = near(name, COMMANDS)
        raise BuildError(
            f"help {name}: there is no such command",
            (f"did you mean {meant}? " if meant else "") + f"{program} help lists them",
        )
    words = " spec=NAME" * command.spec + "".join(f" [{one}=…]" for one in command.takes)
    lines = [f"{program} {name}{words}", "", f"  {command.summary}"]
    lines += [f"  {line}" for line in command.more.splitlines()]
    if command.takes:
        lines += ["", *(f"  {one:<16} {variables[one]}" for one in command.takes)]
    return "\n".join(lines)


# ---------------------------------------------------------------- completion

BASH = """\
_strata() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} name= found=
    # `=` splits words where COMP_WORDBREAKS has it: spec = we
    if [ "$before" = = ]; then name=${{COMP_WORDS[COMP_CWORD-2]}}
    elif [ "$word" = = ]; then name=$before word=
    fi
    case $name in
        spec) found=$(_strata_specs) ;;
{values}
        "") if [ "$COMP_CWORD" = 1 ]; then found="{commands}"
            else found="{variables} $(_strata_specs)"; fi ;;
    esac
    COMPREPLY=($(compgen -W "$found" -- "$word"))
    case ${{COMPREPLY[0]:-}} in *=) compopt -o nospace ;; esac
}}
{specs}
complete -F _strata strata ./doit
"""

SPECS = """\
_strata_specs() {
    find specs -name '*.yaml' ! -name '.*' 2> /dev/null | sed 's|^specs/||; s|[.]yaml$||'
}"""

ZSH = """\
#compdef strata doit
_strata() {{
    local -a found
    case $PREFIX in
        spec=*) compset -P 'spec='; found=(${{(f)"$(_strata_specs)"}}); compadd -a found ;;
{values}
        *) if (( CURRENT == 2 )); then found=({commands}); compadd -a found
           else found=({variables}); compadd -S '' -a found
                found=(${{(f)"$(_strata_specs)"}}); compadd -a found; fi ;;
    esac
}}
{specs}
compdef _strata strata doit
"""

FISH = """\
function _strata_specs
    find specs -name '*.yaml' ! -name '.*' 2> /dev/null | sed 's|^specs/||; s|[.]yaml$||'
end
complete -c strata -f
{commands}
complete -c strata -n 'not __fish_is_first_arg' -a '(_strata_specs)'
complete -c strata -n 'not __fish_is_first_arg' -a '(_strata_specs | sed s/^/spec=/)'
{values}
"""

SHELLS = ("bash", "zsh", "fish")


def completion(shell: str, variables: Mapping[str, str]) -> str:
    """What a shell reads to complete commands, specs' names, variables and their values."""
    names: list[Command] = list(COMMANDS.values())
    commands = " ".join(one.name for one in names)
    named = " ".join(f"{name}=" for name in variables)
    match shell:
        case "bash":
            values = "\n".join(
                f'        {name}) found="{" ".join(all_)}" ;;' for name, all_ in VALUES.items()
            )
            return BASH.format(values=values, commands=commands, variables=named, specs=SPECS)
        case "zsh":
            values = "\n".join(
                f"        {name}=*) compset -P '{name}='; found=({' '.join(all_)}); "
                "compadd -a found ;;"
                for name, all_ in VALUES.items()
            )
            return ZSH.format(values=values, commands=commands, variables=named, specs=SPECS)
        case "fish":
            return FISH.format(
                commands="\n".join(
                    f"complete -c strata -n __fish_is_first_arg -a {one.name} -d "
                    + "'" + one.summary.replace("'", r"\'") + "'"
                    for one in names
                ),
                values="\n".join(
                    f"complete -c strata -n 'not __fish_is_first_arg' -a '{' '.join(words)}'"
                    for name in variables
                    for words in [[f"{name}={one}" for one in VALUES.get(name, ("",))]]
                ),
            )  # fmt: skip
    raise BuildError(f"{f'completion {shell}'.strip()}: expected one of {', '.join(SHELLS)}")
