"""Each spec, or part of one, in the docs is one that Strata takes."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.samples import IMAGE, REPO, SCHEMA
from support.world import PROJECT
from tasks.commands.init import SPEC
from tasks.spec.load import load_spec

FIELDS = set(json.loads(SCHEMA.read_text())["properties"])


def parts(name: str) -> list[dict[str, Any]]:
    """The indented blocks of a page that are fields of a spec."""
    text = (PROJECT / name).read_text()
    found = []
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE):
        try:
            value = yaml.safe_load(textwrap.dedent(block))
        except yaml.YAMLError:
            continue  # a transcript, or commands
        if isinstance(value, dict) and set(value) <= FIELDS:
            found.append(value)
    return found


PARTS = [(name, part) for name in ("docs/cookbook.md", "README.md") for part in parts(name)]


@pytest.mark.parametrize(("name", "part"), PARTS, ids=[str(number) for number in range(len(PARTS))])
def test_a_part_of_the_docs_is_one_of_a_spec(
    tmp_path: Path, name: str, part: dict[str, Any]
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/agent.debconf").write_text("agent agent/server string x\n")
    variables = {"name": "x", "options": "-m 1", "address": "x", "domain": "example.org"}
    document = {"repos": [REPO], "images": {"/": IMAGE}, **part,
                "vars": {**variables, **part.get("vars", {})}}  # fmt: skip
    # What is included has a test of its own; a template's names are the file's.
    document.pop("include", None)
    (tmp_path / "web.yaml").write_text(json.dumps(document, default=str))
    spec = load_spec(tmp_path / "web.yaml", schema=SCHEMA)
    assert spec.images


def test_what_init_leaves_commented_is_a_spec_too(tmp_path: Path) -> None:
    text = re.sub(
        r"^# (?=layers:|  |timezone:|locale:)", "", SPEC.format(name="web"), flags=re.MULTILINE
    )
    (tmp_path / "web.yaml").write_text(text)
    spec = load_spec(tmp_path / "web.yaml", schema=SCHEMA)
    assert spec.layers[-1].users[0].sudo == "nopasswd"
    assert spec.settings.locale == "de_DE.UTF-8"


def test_they_were_found() -> None:
    assert len(PARTS) >= 12
