"""What is typed: forms, options, mistyped words, help, completion."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from support import forks, samples
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.graph import GROUPS, NEEDS_ROOT
from tasks.host import process
from tasks.line import usage
from tasks.line.commands import COMMANDS, EXITS, STAGES
from tasks.line.main import answer
from tasks.line.words import arranged
from tasks.session.variables import VARIABLES

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
        ("build web.yaml", "build spec=web"),
        ("build specs/web.yaml", "build spec=web"),
        ("build ./specs/web.yaml,api.yaml", "build spec=web,api"),
        ("build spec=specs/web.yaml", "build spec=web"),
        ("check nope.yaml", "check spec=nope.yaml"),
        ("build all", "build spec=all"),
        ("build -- web", "build spec=web"),
        ("shell web layer=app", "shell spec=web layer=app"),
        ("boot web ssh=2222 timeout=5", "boot spec=web ssh=2222 timeout=5"),
        ("build spec=", "build spec="),
        ("build spec=wêb", "build spec=wêb"),
        ("info web", "info spec=web"),
        ("info app spec=web", "info app spec=web"),
        ("test --fast", "test fast=1"),
        ("lock spec=all -q", "lock spec=all quiet=1"),
        ("why web lock=keep", "why spec=web lock=keep"),
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
        ("strata buld web", ["strata: there is no such command", "leave it out: strata buld web"]),
        ("web.yaml", ["web.yaml: there is no such command", "strata build web"]),
        ("build spec = web", ["=: no variable's name is before it", "without a space: spec=web"]),
        ("build =web", ["=web: no variable's name", "spec=web"]),
        ("build spec= web", ["spec= and 'web': the name is apart", "write spec=web in one word"]),
        ("build spec web", ["spec: a value is missing", "write spec=VALUE in one word"]),
        ("build web web", ["two specs are named", "name it once"]),
        ("build web var.domain", ["var.domain: a value is missing", "var.domain=VALUE"]),
        (
            "build web lock=latset",
            ["lock=latset: expected one of latest, keep, frozen", "did you mean lock=latest?"],
        ),
        ("build web quiet=0", ["quiet=0: expected 1, or nothing"]),
        ("keys web format=xml", ["format=xml: expected one of text, json"]),
        ("build web format=json", ["build takes no format=", "strata lock, "]),
        ("list --all", ["list takes no all=", "strata test"]),
        ("info base web lock", ["it tells of one stage at a time"]),
        ("build -n 4 web", ["-n: there is no such option"]),
        ("BUILD web", ["BUILD: there is no such command", "did you mean build?"]),
        ("-x build web", ["-x: there is no such option"]),
        ("build web lock=keep --lock frozen", ["lock= is given twice"]),
        ("build web var.a=1 var.a=2", ["var.a= is given twice"]),
        ("build web Spec=x", ["unknown variable Spec=", "did you mean spec=?"]),
        ("x" * 5_000, ["there is no such command"]),
        ("build web " + "y" * 5_000 + "=1", ["unknown variable yyy"]),
        ("build web --" + "z" * 5_000, ["there is no such option"]),
        ("build web lock=" + "z" * 5_000, ["expected one of"]),
        ("b\x1b[2Juild", ["b?[2Juild: there is no such command"]),
    ],
)
def test_what_cannot_be_meant(words: str, parts: list[str]) -> None:
    with pytest.raises(BuildError) as caught:
        typed(words)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert str(caught.value).replace("\n", "").isprintable()


def test_an_empty_word_is_no_command() -> None:
    with pytest.raises(BuildError, match="'': a command is missing"):
        arranged(["", "spec=web"], variables=VARIABLES, specs=lambda: SPECS)
    assert arranged(["build", ""], variables=VARIABLES, specs=lambda: SPECS) == ["build", "spec="]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program in a folder; whatever is typed, no traceback comes, and one message at most."""
    code, out, err = forks.run(words, folder, os.environ, program="strata")
    done = subprocess.CompletedProcess(words, code, out, err)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("ERROR: ") == (done.returncode in (1, 3)), done.stderr
    return done


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "specs").mkdir()
    shutil.copy(samples.SCHEMA, tmp_path / "specs")
    samples.load(tmp_path / "specs", layers=[{"name": "app"}], hostname="web1")
    return tmp_path


LONG = "n" * 5_000


@pytest.mark.starts
@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["check", "web"], 0, "specs/web.yaml: right"),
        (["check", "specs/web.yaml"], 0, "specs/web.yaml: right"),
        (["list"], 0, "web"),
        (["why", "web"], 2, "specs/web.lock is missing"),
        (["why", "spec=all"], 2, "specs/web.lock is missing"),
        (["check", ""], 1, "no spec is named"),
        (["check", "wéb"], 1, "did you mean spec=web?"),
        (["check", LONG], 1, "there is no such spec"),
        (["check", f"spec={'n/' * 3_000}x"], 1, "there is no such spec"),
        (["check", "web", f"variant={LONG}"], 1, "there is no such variant"),
        (["check", "web", f"var.{LONG}={LONG}"], 1, "the spec's vars have no"),
        (["check", f"spec=web,{LONG}"], 3, "is no spec here"),
        (["check", f"{LONG},web"], 3, "is no spec here"),
        (["check", "\udcff"], 1, "there is no such spec"),
        (["check", "web", "STRATA_CACHE=x"], 3, "unknown variable STRATA_CACHE="),
        (["bild", "web"], 3, "did you mean build?"),
        (["clean", "nosuch"], 1, "specs/nosuch.yaml: there is no such spec"),
        (["clean", "web"], 0, ""),
        (["clean", "web", "variant=../../specs"], 3, "variant=../../specs: expected a name"),
        (["forget", "nosuch"], 1, "specs/nosuch.yaml: there is no such spec"),
        (["forget", "web"], 0, ""),
        (["info", "web"], 0, "layer settings"),
        (["info", "layer:app", "web"], 0, "stands on  base"),
        (["info", "layer", "web"], 0, "layer:settings of web"),
        (["info", "image", "web"], 0, "stands on  layer:settings"),
        (["info", "build", "web"], 0, "stands on  image:/"),
        (["info", "lock", "web"], 0, "state      missing"),
        (["info", "why"], 0, "what a build would redo, and why"),
        (["info", "layer:ap", "web"], 1, "did you mean layer:app?"),
        (["info", "base"], 1, "no spec is named"),
        (["--version"], 0, "strata "),
        (["-V"], 0, "strata "),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_run_ends_with_its_status(
    project: Path, words: list[str], code: int, part: str
) -> None:
    done = run(project, *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert part in done.stdout + done.stderr
    assert not re.search(r"0x[0-9a-f]{6}|lambda|function", done.stdout)
    assert code in EXITS


def test_words_after_two_dashes_are_a_shells_command() -> None:
    words = arranged(["shell", "web", "--", "sh", "-c", "echo $1; ls"], variables=VARIABLES,
                     specs=lambda: SPECS)  # fmt: skip
    assert words == ["shell", "command=sh -c 'echo $1; ls'", "spec=web"]
    with pytest.raises(BuildError, match="command= is given twice"):
        typed("shell web command=ls -- ls")
    with pytest.raises(BuildError, match="build takes no layer="):
        typed("build web layer=app")


@pytest.mark.starts
def test_the_table_of_exit_codes_is_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 to 3 are those above, 124 is `boot`'s; a signal's is 128 and its number, of several specs the worst."""
    assert set(EXITS) == {0, 1, 2, 3, 124, 130}
    text = answer(["help"], lambda: SPECS) or ""
    assert all(f"  {code:<3}  {told}" in text for code, told in EXITS.items())
    for name in ("_starting", "_closing"):
        monkeypatch.setattr(process, name, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        monkeypatch.setattr(process, "_signal", 0)
        with pytest.raises(SystemExit) as caught:
            process.on_signal(number, None)
        assert caught.value.code == 128 + number
    monkeypatch.setattr(process, "_signal", 0)
    (project / "specs/api.yaml").write_text("images: {}\n")
    assert run(project, "why", "spec=all").returncode == 1


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
    graph = "".join((PROJECT / f"tasks/{name}.py").read_text() for name in ("graph", "beside"))
    tasks = {
        line.partition("(")[0][9:] for line in graph.splitlines() if line.startswith("def task_")
    }
    tasks = tasks - {"push_oci"} | {"push-oci"}  # doit's name of it; Python's has no dash
    own = {"list", "info", "clean", "forget", "completion", "help", "init"}
    assert set(COMMANDS) == tasks - set(STAGES) | own
    assert set(STAGES) == {"base", "layer", *GROUPS}
    for name, command in COMMANDS.items():
        assert usage.page("strata", name, VARIABLES)
        assert set(command.takes) <= set(VARIABLES)
    with pytest.raises(BuildError, match="did you mean build"):
        usage.page("strata", "buld", VARIABLES)


def test_the_wrapper_knows_what_needs_root() -> None:
    """It asks before anything is installed, so it cannot ask Python."""
    text = (PROJECT / "doit").read_text()
    case = re.search(r"^ +(build \| reproduce .*?)\)$", text, re.MULTILINE | re.DOTALL)
    assert case
    words = set(case[1].replace("\\", " ").split()) - {"|"}
    single = {one for one in words if not one.endswith(":*")}
    assert single == {*NEEDS_ROOT, "reproduce", "shell", "bench"}
    assert {one[:-2] for one in words - single} == {*GROUPS, "layer"}


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
