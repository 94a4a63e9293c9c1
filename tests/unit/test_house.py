"""The house: imports go down only, and a build with nothing to do imports little."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from support.world import PROJECT


def test_only_the_host_room_starts_processes() -> None:
    """And `doit test` and `doit bench`, whose programs are no part of a build."""
    users = {
        str(path.relative_to(PROJECT / "tasks"))
        for path in (PROJECT / "tasks").rglob("*.py")
        if re.search(r"^ *(import|from) subprocess", path.read_text(), re.MULTILINE)
    }
    assert users == {"host/process.py", "host/files.py", "host/scratch.py", "host/sandbox_init.py",
                     "host/sandbox_mounts.py", "commands/develop.py"}  # fmt: skip


@pytest.mark.starts
def test_nothing_slow_is_imported_at_load() -> None:
    code = (
        "import sys; sys.argv = ['doit', 'list']; import dodo;"
        "print(*sorted({'jsonschema', 'yaml', 'zlib_ng', 'isal', 'tarfile', 'rich', 'tasks.stages.layer', 'tasks.stages.image',"
        " 'tasks.plan.job', 'tasks.plan.boot_tests', 'tasks.host.qemu', 'tasks.formats.gpt'}"
        " & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, text=True,
                         capture_output=True).stdout  # fmt: skip
    assert out.strip() == ""


@pytest.mark.starts
def test_a_specs_check_loads_none_of_the_grammars_that_others_bring() -> None:
    """And hides them from nobody: who wants them later finds them."""
    code = (
        "import sys; from tasks.spec.schema import load_jsonschema; load_jsonschema();"
        "print('jsonschema' in sys.modules, 'lark' in sys.modules, 'rfc3987_syntax' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, text=True,
                         capture_output=True).stdout  # fmt: skip
    assert out.split() == ["True", "False", "False"]


def test_each_promise_names_a_test_that_exists() -> None:
    text = (PROJECT / "docs/reliability.md").read_text()
    file, named = "", 0
    for name, test in re.findall(r"`(test_\w+\.py)?(?:::(test_\w+))?`", text):
        file = name or file
        if file:
            (path,) = (PROJECT / "tests").glob(f"*/{file}")
            content = path.read_text()
            assert not test or f"\ndef {test}(" in content, f"{file}::{test}"
            named += 1
    assert named > 60


def test_the_docs_name_each_file_and_none_that_is_not_there() -> None:
    text = (PROJECT / "docs/design.md").read_text()
    for path in re.findall(r"tasks/[a-z_/]+\.(?:py|sh)", text):
        assert (PROJECT / path).is_file(), path
    house = text.partition("\n## The house\n")[2].partition("\n## ")[0]
    modules = [path for path in (PROJECT / "tasks").rglob("*.py") if path.name != "__init__.py"]
    assert [str(path) for path in modules if f"`{path.stem}`" not in house
            and f"{path.stem}.py" not in house] == []  # fmt: skip
    assert len(modules) > 80


def test_what_is_named_as_a_modules_is_defined_there() -> None:
    """In the docs as `module.NAME`; and no text of the code names a file that is not there."""
    modules: dict[str, str] = {}
    for path in (PROJECT / "tasks").rglob("*.py"):
        text = path.read_text()
        modules[path.stem] = modules.get(path.stem, "") + text
        for named in re.findall(r"tasks/[a-z_/]+\.(?:py|sh)", text):
            assert (PROJECT / named).is_file(), f"{path}: {named}"
    names = re.findall(
        r"`([a-z_]+)\.([A-Za-z_]+)(?:\.([a-z_]+))?`", (PROJECT / "docs/design.md").read_text()
    )
    files, fields = {"conf", "json", "py", "log"}, {("base", "include"), ("trusted", "overlay")}
    named = [one for one in names if one[1] not in files and one[:2] not in fields]
    for module, *rest in named:
        assert module in modules, f"{module}: {rest}"
        for name in filter(None, rest):
            defined = rf"^ *(?:(?:def|class) {name}\b|{name}\b.*=)"
            assert re.search(defined, modules[module], re.MULTILINE), f"{module}.{name}"
    assert len(named) > 15


def test_each_room_says_what_it_is_for() -> None:
    for path in (PROJECT / "tasks").rglob("__init__.py"):
        (only,) = ast.parse(path.read_text()).body
        assert isinstance(only, ast.Expr)
        assert isinstance(only.value, ast.Constant)
        assert str(only.value.value).rstrip().endswith("."), path
