"""docs/spec.md is the schema's; each field has an example that loads, and says what it rebuilds.

A new field needs nothing here: its `examples` and `x-rebuilds` in the schema are put to the test.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support import spec_tried
from support.samples import IMAGE, REPO, record
from support.spec_doc import COMMAND, DOC, REBUILDS, SCHEMA, Field, fields, page, resolved, slug
from support.spec_tried import changed, loaded
from tasks.plan.keys import resolution_inputs
from tasks.spec.model import Spec
from tasks.spec.schema import load_jsonschema

RULES: dict[str, Any] = json.loads(SCHEMA.read_text())

FIELDS = {one.path: one for one in fields(RULES)}

each_field = pytest.mark.parametrize("path", FIELDS)


def test_the_doc_is_made_of_the_schema() -> None:
    assert DOC.read_text() == page(RULES), f"docs/spec.md is not the schema's: run {COMMAND}"


def test_the_doc_has_every_field_and_its_links_lead_somewhere() -> None:
    text = DOC.read_text()
    headings = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = {slug(one) for one in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
    for name in re.findall(r"\]\(([a-z]+\.md)\)", text):
        assert (DOC.parent / name).is_file()
    top = {path for path in FIELDS if re.fullmatch(r"\w+", path)}
    assert top <= set(headings)
    for path in FIELDS.keys() - top:
        assert f"\n| `{FIELDS[path].name}` | " in text


@each_field
def test_field_says_what_it_means_with_an_example_and_what_it_rebuilds(path: str) -> None:
    rules = FIELDS[path].rules
    assert rules.get("description"), f"{path}: a description is missing in {SCHEMA.name}"
    assert rules.get("examples"), f"{path}: `examples` are missing beside its description"
    assert rules.get("x-rebuilds"), f"{path}: `x-rebuilds` is missing: some of {list(REBUILDS)}"
    assert set(rules["x-rebuilds"]) <= set(REBUILDS), path
    assert rules["examples"] != [rules.get("default")] or len(rules["enum"]) == 1, (
        f"{path}: its example says what holds without it"
    )
    load_jsonschema()
    import jsonschema

    for value in rules["examples"]:
        checker = jsonschema.Draft7Validator({**rules, "definitions": RULES["definitions"]})
        assert [one.message for one in checker.iter_errors(value)] == [], f"{path}: {value!r}"


# ---------------------------------------------------------------- what each rebuilds

LEAST: dict[str, Any] = {
    "repos": [{**REPO, "keyring": "keys/least.gpg"}],
    "base": {"include": ["zero"]},
    "packages": ["one"],
    "script": "scripts/least.sh",
    "allow_network": True,
    "fstab": False,
    # All three: with the first of them the lock begins to note what looks at them.
    "hostname": "least", "timezone": "UTC", "locale": "C.UTF-8",
    "layers": [{"name": "app", "packages": ["two"], "files": {"/etc/a": {"content": "a"}},
                "script": "scripts/least.sh"}],
    "images": {"/": IMAGE, "/boot": {"file": "b.img.gz", "format": "ext2"}},
}  # fmt: skip
"""A spec with a place for the fields of lists and mappings; others get their own example there."""

WHERE = {"sources": {"apt_sources": True}, "fstab": {"fstab": True}}
"""What a spec must have beside LEAST for a word of REBUILDS to be true."""

State = tuple[str, dict[str, str]]


PLANNED: dict[str, State | str] = {}
"""What was planned before, by the document: most fields are tried in the same ones."""


def planned(folder: Path, document: dict[str, Any]) -> State | str:
    """What the lock depends on, and each stage's key, by its place and not by its name."""
    text = json.dumps(document, sort_keys=True)
    if text not in PLANNED:
        PLANNED[text] = _planned(folder, document)
    return PLANNED[text]


def _planned(folder: Path, document: dict[str, Any]) -> State | str:
    base = [record(name) for name in ("apt", "openssh-server", "systemd")]
    made = spec_tried.planned(folder, document, lambda number: record(f"p{number}"), base)
    if isinstance(made, str):
        return made
    spec, plan = made
    keys = {f"layer {number}": stage.key for number, stage in enumerate(plan.layers)
            if stage.name != "settings"}  # fmt: skip
    keys |= {stage.name: stage.key for stage in plan.layers if stage.name == "settings"}
    keys |= {stage.task: stage.key for stage in (plan.base, *plan.images)}
    return resolution_inputs(spec), keys


def observed(before: State, after: State) -> set[str]:
    """In the words of REBUILDS: the lowest stage that is made anew, and whether the lock is."""
    (lock, old), (other_lock, new) = before, after
    differs = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    found = {"lock"} if lock != other_lock else set()
    for word, begins in (("base", "base"), ("layer", "layer "), ("settings", "settings"),
                         ("image", "image:")):  # fmt: skip
        if any(name.startswith(begins) for name in differs):
            return {*found, word}
    return found


def tried(folder: Path, least: dict[str, Any], field: Field) -> set[str]:
    """What each example of a field changes in a spec that has what it is in."""
    found: set[str] = set()
    for value in field.rules["examples"]:
        told: list[str] = []
        for one, other in changed(least, field.path, value):
            before, after = planned(folder, one), planned(folder, other)
            if not isinstance(before, str) and not isinstance(after, str):
                found |= observed(before, after)
                break
            told += [text for text in (before, after) if isinstance(text, str)]
        else:
            raise AssertionError(f"{field.path}: planning alone cannot try it: {told[0]}")
    return found


FRAMES = {path for path, one in FIELDS.items() if "fields" in one.rules["x-rebuilds"]}
"""Fields of which what is in them is tried by itself."""

ELSEWHERE = {"debs", "layers[].debs"}
"""Whose files are looked into by what makes the lock: test_own_debs.py."""

LATER = {path for path in FIELDS if re.match(r"(disks|exports|tests)\b", path)}
"""What stands above the tree: test_spec_doc_above.py."""


@pytest.mark.parametrize("path", sorted(FIELDS.keys() - FRAMES - ELSEWHERE - LATER))
def test_what_a_field_rebuilds(planning: Path, path: str) -> None:
    field = FIELDS[path]
    words = set(field.rules["x-rebuilds"])
    found = tried(planning, LEAST, field)
    assert found == words & {"lock", "base", "layer", "settings", "image"}
    for word, more in WHERE.items():
        also = tried(planning, {**LEAST, **more}, field) - found
        if path not in more:
            assert also == ({"settings"} if word in words else set())
    if "lock" not in words and "reads" not in path:
        app = {**LEAST["layers"][0], "reads": ["hostname", "timezone", "locale"]}
        looking = tried(planning, {**LEAST, "layers": [app]}, field) - found
        assert looking == ({"layer"} if "readers" in words else set())


def test_every_field_but_these_is_tried() -> None:
    """What is a mere frame of others, and what brings other fields: tests/unit/test_compose.py."""
    assert {"include", "vars", "variants"} <= FRAMES
    for path in FRAMES:
        assert FIELDS[path].rules["x-rebuilds"] == ["fields"]
        assert FIELDS[path].rules.get("type") in ("array", "object")
    for path in FRAMES - {"include", "vars", "variants"}:
        assert any(re.match(re.escape(path) + r"[.\[]", other) for other in FIELDS), path


@pytest.mark.parametrize("path", [path for path in FIELDS if re.fullmatch(r"\w+", path)])
def test_example_of_a_field_is_one_of_a_spec(tmp_path: Path, path: str) -> None:
    for value in FIELDS[path].rules["examples"]:
        document = {"packages": ["one"], "script": "scripts/least.sh", "hostname": "least",
                    "repos": [REPO], "images": {"/": IMAGE}, path: value}  # fmt: skip
        if path == "tests":
            document["disks"] = FIELDS["disks"].rules["examples"][0]
        if path == "include":
            for name in value:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text("{}")
        found = loaded(tmp_path, document)
        assert isinstance(found, Spec), found


def test_what_a_reference_says_of_itself_is_told_once() -> None:
    assert resolved(RULES, {"$ref": "#/definitions/path"}) == RULES["definitions"]["path"]
    assert "general" in FIELDS["reads"].rules
