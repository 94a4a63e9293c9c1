"""What keys are made of: canonical JSON, stages, and what makes a lock stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support import samples
from support.plan_changes import (
    ALL,
    IMAGES,
    Case,
    changed,
    of_base,
    of_image,
    of_layer,
    of_repo,
    of_spec,
    plain_case,
)
from support.samples import record
from tasks.plan.keys import canonical, key, resolution_inputs
from tasks.plan.plan import make_plan
from tasks.plan.recipes import RECIPES
from tasks.spec.model import File, Group, Layer, Run, Services


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return plain_case(tmp_path)


def test_each_stage_stands_on_the_one_before_and_images_on_the_last_layer(case: Case) -> None:
    made = make_plan(*case)
    assert [stage.task for stage in made.stages] == [
        "base", "layer:packages", "layer:app", "layer:settings", "image:/", "image:/boot",
    ]  # fmt: skip
    assert "parent" not in made.base.inputs
    for below, above in zip(made.tree, made.layers, strict=False):
        assert above.inputs["parent"] == below.key
    assert {image.inputs["parent"] for image in made.images} == {made.layers[-1].key}
    assert {image.tree for image in made.images} == {made.layers[-1].tree}
    assert len({stage.tree for stage in made.tree}) == len(made.tree)


def test_stage_holds_all_that_its_key_is_made_of(case: Case) -> None:
    for stage in make_plan(*case).stages:
        assert stage.key == key(json.loads(json.dumps(stage.inputs)))
        assert (stage.inputs["stage"], stage.inputs["recipe"]) == (
            stage.kind,
            RECIPES[stage.kind],
        )
        assert stage.entry == f"{stage.kind}-{stage.key}"


def test_recipe_of_a_kind_changes_the_keys_of_that_kind_and_above(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_plan(*case)
    monkeypatch.setitem(RECIPES, "image", 1000)
    assert changed(before, make_plan(*case)) == IMAGES
    monkeypatch.setitem(RECIPES, "layer", 1000)
    assert changed(before, make_plan(*case)) == ALL - {"base"}


def test_spec_without_settings_has_no_such_layer(tmp_path: Path) -> None:
    spec = samples.load(tmp_path)
    made = make_plan(spec, samples.lock([record("apt")]), samples.host(spec))
    assert made.layers == ()
    assert made.images[0].inputs["parent"] == made.base.key


def test_layers_that_are_alike_share_a_key_only_on_the_same_parent(case: Case) -> None:
    spec, lock, host = case
    twins = tuple(Layer(name=name) for name in ("a", "b"))
    locked = samples.lock(lock.base, {"a": [], "b": []})
    hosts = replace(host, files={"a": [], "b": []}, debconf={"a": [], "b": []})
    one = make_plan(replace(spec, layers=twins[:1]), locked, hosts)
    both = make_plan(replace(spec, layers=twins), locked, hosts)
    other = make_plan(replace(spec, layers=twins[1:]), locked, hosts)
    assert one.layers[0].key == other.layers[0].key == both.layers[0].key
    assert both.layers[1].key != both.layers[0].key


@pytest.mark.parametrize(
    ("mount", "log"),
    [("/", "image-root.log"), ("/boot", "image-boot.log"), ("/var/log", "image-var-log.log")],
)
def test_log_of_an_image(case: Case, mount: str, log: str) -> None:
    spec = replace(case[0], images=(replace(case[0].images[0], mount=mount),))
    assert make_plan(spec, *case[1:]).images[0].log == log


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (("x", 1), '["x",1]'),
        ("ü\n", r'"\u00fc\n"'),
        ({}, "{}"),
    ],
)
def test_canonical_json(value: object, text: str) -> None:
    assert canonical(value) == text


def test_key_is_32_hex_digits_and_stays_what_it_was() -> None:
    """Another value here means that every cache in the world is cold."""
    assert (
        key({"b": 1, "a": ["x"]}) == key({"a": ["x"], "b": 1}) == "de764f4c09b07652a31775db966a1ea3"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a,b"], ["a", "b"]),
        (['a","b'], ["a", "b"]),
        ({"a": None}, {}),
        ({"a": "1"}, {"a": 1}),
        ({"a": 1}, {"a": True}),
        ({"label": "x", "uuid": ""}, {"label": "", "uuid": "x"}),
        ([["a"], []], [[], ["a"]]),
    ],
)
def test_values_that_only_look_alike_have_other_keys(one: object, other: object) -> None:
    assert key(one) != key(other)


RESOLVED: dict[str, tuple[Callable[[Case], Case], bool]] = {
    "arch": (of_spec(arch="arm64"), True),
    "tool": (of_base(tool="debootstrap"), True),
    "variant": (of_base(variant="apt"), True),
    "include": (of_base(include=("x",)), True),
    "suite": (of_repo(suite="sid"), True),
    "section": (of_repo(section="main contrib"), True),
    "priority": (of_repo(priority=900), True),
    "order of repositories": (
        lambda case: (replace(case[0], repos=case[0].repos[::-1]), *case[1:]), True),
    "packages": (of_layer("app", packages=("x",)), True),
    "recommends": (of_spec(recommends=True), True),
    "mirror": (of_repo(uri="http://elsewhere"), False),
    "proxies": (of_spec(proxies={"http": "http://p:1"}), False),
    "order of packages": (of_layer("packages", packages=("two", "one", "one")), False),
    "files": (of_layer("app", files=(File(target="/a", source=None, content="", owner="0:0",
                                          mode=None),)), False),
    "script": (of_layer("app", scripts=(Run(path=Path("/x")),)), False),
    "accounts": (of_layer("app", groups=(Group(name="a", gid=None, system=False),)), False),
    "services": (of_layer("app", services=Services(enable=("a.service",))), False),
    "removed": (of_layer("app", remove=("/a",)), False),
    "debconf": (of_layer("app", debconf=()), False),
    "images": (of_image("/", format="xfs"), False),
}  # fmt: skip


@pytest.mark.parametrize("name", RESOLVED)
def test_what_makes_a_lock_stale(case: Case, name: str) -> None:
    change, stale = RESOLVED[name]
    after = change(case)
    assert after[0] != case[0]
    assert (resolution_inputs(case[0]) != resolution_inputs(after[0])) is stale
