"""What is typed: forms, options, mistyped words, help, completion."""

from __future__ import annotations

import subprocess

import pytest

from support.world import PROJECT
from tasks.errors import BuildError
from tasks.line import usage
from tasks.line.commands import COMMANDS
from tasks.line.main import answer
from tasks.line.words import arranged
from tasks.session.session import VARIABLES

SPECS = ["api", "web"]


def typed(words: str) -> list[str]:
    return arranged(words.split(), variables=VARIABLES, specs=lambda: SPECS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("build spec=web", "build spec=web"),
        ("build web", "build spec=web"),
        ("build --spec web", "build spec=web"),
        ("build --spec=web lock=keep", "build spec=web lock=keep"),
        ("spec=web", "spec=web"),
        ("--spec web", "spec=web"),
        ("-q build web", "build quiet=1 spec=web"),
        ("build web -v", "build spec=web verbose=1"),
        ("layer:app spec=web", "layer:app spec=web"),
        ("base layer spec=web", "base layer spec=web"),
        ("info image:/boot spec=web", "info image:/boot spec=web"),
        ("keys web,api format=json", "keys spec=web,api format=json"),
        ("build web --security-mirror http://x", "build spec=web security_mirror=http://x"),
        ("build web var.domain=a=b", "build spec=web var.domain=a=b"),
        ("build team/web", "build spec=team/web"),
        ("build nope", "build spec=nope"),
        ("base web", "base spec=web"),
    ],
)
def test_forms(words: str, expected: str) -> None:
    made, wanted = typed(words), expected.split()
    assert (made[0], sorted(made)) == (wanted[0], sorted(wanted))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("buld web", ["buld: there is no such command", "did you mean build?"]),
        ("web", ["web: there is no such command", "strata build web"]),
        ("frobnicate", ["there is no such command", "strata help"]),
        ("build spec=web spec=api", ["spec= is given twice", "spec=a,b"]),
        ("build web api", ["spec=web and 'api': two specs are named", "spec=web,api"]),
        ("build spec=web api", ["two specs are named"]),
        ("build sepc=web", ["unknown variable sepc=", "did you mean spec=?"]),
        ("build --sepc web", ["--sepc: there is no such option", "did you mean --spec?"]),
        ("build --spec", ["--spec: a value is missing", "spec=VALUE"]),
        ("build --spec -q", ["--spec: a value is missing"]),
        ("prune web", ["prune takes no 'web'", "strata help prune"]),
        ("auto", ["there is no such command"]),
        ("dumpdb", ["there is no such command"]),
    ],
)
def test_what_cannot_be_meant(words: str, parts: list[str]) -> None:
    with pytest.raises(BuildError) as caught:
        typed(words)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "words", ["", "help", "--help", "-h", "build -h", "help build", "--version"]
)
def test_what_is_answered_without_a_run(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRATA_PROGRAM", raising=False)
    text = answer(words.split(), lambda: SPECS) or ""
    if words == "--version":
        assert text.startswith("strata ")
    elif "build" in words:
        assert text.startswith("strata build spec=NAME")
        assert "lock" in text
    else:
        assert all(f"\n  {name} " in text for name in COMMANDS)
        assert all(name in text for name in VARIABLES)
        assert text.endswith("Specs here: api, web")


def test_each_command_is_a_task_or_the_lines_own() -> None:
    """The help names what there is, and all of it."""
    graph = (PROJECT / "tasks/graph.py").read_text()
    tasks = {
        line.partition("(")[0][9:] for line in graph.splitlines() if line.startswith("def task_")
    }
    own = {"list", "info", "clean", "forget", "completion", "help", "init"}
    assert set(COMMANDS) == tasks - {"base", "layer", "image"} | own
    for name, command in COMMANDS.items():
        assert usage.page("strata", name, VARIABLES)
        assert set(command.takes) <= set(VARIABLES)
    with pytest.raises(BuildError, match="did you mean build"):
        usage.page("strata", "buld", VARIABLES)


@pytest.mark.parametrize(
    ("line", "word", "expected"),
    [
        ("strata bu", "bu", "build"),
        ("strata build spec = w", "w", "web"),
        ("strata build lock = k", "k", "keep"),
        ("strata build lo", "lo", "lock="),
        ("strata build w", "w", "web"),
    ],
)
def test_bash_completes(tmp_path: object, line: str, word: str, expected: str) -> None:
    folder = str(tmp_path)
    subprocess.run(["mkdir", "-p", f"{folder}/specs/team"], check=True)
    subprocess.run(
        ["touch", f"{folder}/specs/web.yaml", f"{folder}/specs/team/api.yaml"], check=True
    )
    script = f"""
        compopt() {{ :; }}
        {usage.completion("bash", VARIABLES)}
        COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1}
        _strata
        echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, text=True, check=True, capture_output=True
    )
    assert done.stderr == ""
    assert expected in done.stdout.split()


def test_other_shells() -> None:
    assert "compdef _strata strata" in usage.completion("zsh", VARIABLES)
    assert "complete -c strata" in usage.completion("fish", VARIABLES)
    with pytest.raises(BuildError, match="expected one of bash, zsh, fish"):
        usage.completion("tcsh", VARIABLES)
