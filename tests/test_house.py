"""The house: imports go down only, and a build with nothing to do imports little."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT

FLOORS = {
    "errors": 0, "sandbox": 0, "seen": 0.1, "pax": 0, "holes": 0, "fat": 0, "vfat": 0.1, "etc": 0, "versions": 0,
    "signature": 0, "unsolved": 1, "rollback": 1.5, "complaint": 1.5,
    "given": 0, "zones": 0, "safe": 0.2,
    "room": 0.3, "strict": 0.3, "cachedir": 0.3, "host": 0.5, "apt": 1, "document": 1, "mkfs": 1,
    "trials": 1, "arches": 1, "reads": 1, "scripts": 1, "spec": 1.2, "lockfile": 1, "compress": 1, "ext": 1, "jks": 1,
    "ext_xattrs": 1.1,
    "plan": 2, "inputs": 2.2, "cache": 2.2, "identities": 2.3, "tree": 2.4, "debs": 2.4, "own": 2.5,
    "debconf": 2.5, "session": 2.6, "ask": 2.8, "lock": 3, "base": 3, "layer": 3, "image": 3, "publish": 3, "migrate": 3, "admin": 3.5,
    "report": 4, "reproduce": 4, "graph": 5,
}  # fmt: skip
"""Within floor 2, plan is below what uses it; admin's `import` task is the door to migrate."""


def imported(path: Path) -> set[str]:
    """The modules of tasks/ that a file imports, anywhere in it but for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tasks":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasks."):
            found.add((node.module or "").split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted((PROJECT / "tasks").glob("*.py")), ids=lambda p: p.stem)
def test_imports_go_down_only(path: Path) -> None:
    assert path.stem in FLOORS, f"{path.name} has no floor yet: give it one here and in the docs"
    below = imported(path)
    if path.stem == "session":
        below -= {"tree"} if FLOORS["tree"] < FLOORS["session"] else set()
    if path.stem == "report":
        below -= {"session"}
    above = {name for name in below if FLOORS[name] >= FLOORS[path.stem]}
    assert above == set()


def test_only_host_and_sandbox_start_processes() -> None:
    """And compress, whose processes host starts, and admin, whose `test` runs the linters."""
    users = {
        path.stem
        for path in (PROJECT / "tasks").glob("*.py")
        if "import subprocess" in path.read_text()
    }
    assert users <= {"host", "sandbox", "tree", "compress", "admin"}
    for name in ("tree", "compress"):
        text = (PROJECT / "tasks" / f"{name}.py").read_text()
        assert "subprocess.run" not in text
        assert "subprocess.Popen(" not in text


def test_nothing_slow_is_imported_at_load() -> None:
    code = (
        "import sys; sys.argv = ['doit', 'list']; import dodo;"
        "print(*sorted({'jsonschema', 'yaml', 'zlib_ng', 'isal', 'tarfile', 'tasks.layer', 'tasks.image'}"
        " & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, text=True,
                         capture_output=True).stdout  # fmt: skip
    assert out.strip() == ""


def test_each_promise_names_a_test_that_exists() -> None:
    text = (PROJECT / "docs/reliability.md").read_text()
    file, named = "", 0
    for name, test in re.findall(r"`(test_\w+\.py)?(?:::(test_\w+))?`", text):
        file = name or file
        if file:
            content = (PROJECT / "tests" / file).read_text()
            assert not test or f"\ndef {test}(" in content, f"{file}::{test}"
            named += 1
    assert named > 60
