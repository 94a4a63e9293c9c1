"""Which files are specs and their schema, and what is said of one that is not there or is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.samples import PLAIN
from tasks.errors import BuildError
from tasks.spec import document
from tasks.spec.load import find_spec, spec_names
from tasks.spec.schema import validate


def test_a_schema_that_is_gone_is_told(tmp_path: Path) -> None:
    from tasks.spec.load import load_spec

    (tmp_path / "web.yaml").write_text(PLAIN)
    for content in (None, "{"):
        schema = tmp_path / "spec.schema.json"
        if content:
            schema.write_text(content)
        with pytest.raises(BuildError, match=r"spec\.schema\.json: (cannot be read|no JSON)"):
            load_spec(tmp_path / "web.yaml", schema=schema)


def test_names_of_specs(tmp_path: Path) -> None:
    names = ["web.v1", "My Web", "größe", "-x", "WEB"]
    for name in [*names, ".web", ".#web"]:
        (tmp_path / f"{name}.yaml").write_text(PLAIN)
    assert spec_names(tmp_path) == sorted(names)
    for name in names:
        assert find_spec(tmp_path, name) == tmp_path / f"{name}.yaml"


@pytest.mark.parametrize(
    ("given", "hint"),
    [("web.yaml", "spec=web?"), ("specs/web.yaml", "spec=web?"), ("specs/web", "spec=web?"),
     ("web.lock", "spec=web?"), ("wbe", "spec=web?"), ("Web", "spec=web?"),
     ("old", "old.yml is there: rename it to old.yaml"), ("nothing", "specs here: web"),
     ("../web", "spec=web?")],
)  # fmt: skip
def test_a_spec_that_is_not_there(tmp_path: Path, given: str, hint: str) -> None:
    (tmp_path / "web.yaml").write_text(PLAIN)
    (tmp_path / "old.yml").write_text(PLAIN)
    with pytest.raises(BuildError, match="there is no such spec") as caught:
        find_spec(tmp_path, given)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "schema",
    ["[" * 100_000, "{" * 10, "[]", "1", '{"$ref": "#"}', '{"$ref": "#/definitions/none"}',
     '{"type": "nothing"}', '{"type": 5}', '{"properties": 5}', '{"required": 5}',
     '{"properties": {"a": {"pattern": "("}}}',
     '{"additionalProperties": ' + '{"not": ' * 5000 + "{}" + "}" * 5001],
    ids=lambda text: str(text)[:40],
)  # fmt: skip
def test_a_schema_that_is_none_is_told(tmp_path: Path, schema: str) -> None:
    given = document.parse(tmp_path / "web.yaml", b"a: b\n")
    where = tmp_path / "schema.json"
    with pytest.raises(BuildError) as caught:
        validate(given, schema.encode(), where=where)
    assert caught.value.message.startswith(f"{where}: ")
    assert "restore it" in caught.value.hint
