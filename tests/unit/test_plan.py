"""What changes each stage's key, and what does not: every row is a promise of what is redone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import IMAGE, REPO, record
from tasks.formats.options import check_options
from tasks.formats.table import FILESYSTEMS
from tasks.plan.cause import Made, Now
from tasks.plan.causes import causes, following
from tasks.plan.keys import canonical, key, resolution_inputs
from tasks.plan.lockfile import Lock
from tasks.plan.plan import make_plan
from tasks.plan.recipes import RECIPES
from tasks.plan.stage import Host, Plan
from tasks.spec.model import File, Group, Layer, Run, Services, Spec

Case = tuple[Spec, Lock, Host]


SPEC: dict[str, Any] = {
    "repos": [REPO, {**REPO, "name": "other", "suite": "other"}],
    "packages": ["one", "two"],
    "layers": [{"name": "app", "packages": ["three"], "debconf": ["a a/b string c"]}],
    "hostname": "host",
    "fstab": False,  # with one, most of an image is in the settings, too: test_fstab.py
    "images": {"/": IMAGE, "/boot": {"file": "b.img.gz", "format": "ext2"}},
}


ALL = {"base", "layer:packages", "layer:app", "layer:settings", "image:/", "image:/boot"}


ABOVE = {"layer:app", "layer:settings", "image:/", "image:/boot"}


LAST = {"layer:settings", "image:/", "image:/boot"}


IMAGES = {"image:/", "image:/boot"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    spec = samples.load(tmp_path, **SPEC)
    lock = samples.lock(
        [record("apt"), record("dpkg")],
        {"packages": [record("one"), record("two")], "app": [record("three")]},
    )
    return spec, lock, samples.host(spec, settings={"hostname": "host"})


def changed(before: Plan, after: Plan) -> set[str]:
    """The tasks whose keys differ."""
    old, new = ({stage.task: stage.key for stage in one.stages} for one in (before, after))
    assert old.keys() == new.keys()
    return {task for task in old if old[task] != new[task]}


def of_spec(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (replace(case[0], **fields), case[1], case[2])


def of_lock(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (case[0], replace(case[1], **fields), case[2])


def of_host(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (case[0], case[1], replace(case[2], **fields))


def of_layer(name: str, **fields: Any) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        layers = tuple(replace(layer, **fields) if layer.name == name else layer
                       for layer in case[0].layers)  # fmt: skip
        return replace(case[0], layers=layers), case[1], case[2]

    return change


def of_image(mount: str, **fields: Any) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        images = tuple(replace(image, **fields) if image.mount == mount else image
                       for image in case[0].images)  # fmt: skip
        return replace(case[0], images=images), case[1], case[2]

    return change


def of_base(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (replace(case[0], base=replace(case[0].base, **fields)), *case[1:])


def of_repo(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (
        replace(case[0], repos=tuple(replace(repo, **fields) for repo in case[0].repos)), *case[1:]
    )  # fmt: skip


def of_records(where: str, **fields: Any) -> Callable[[Case], Case]:
    """The last record of the base or a layer, with other fields."""

    def change(case: Case) -> Case:
        spec, lock, host = case
        if where == "base":
            records = (*lock.base[:-1], replace(lock.base[-1], **fields))
            return spec, replace(lock, base=records), host
        layers = tuple(
            replace(layer, records=(*layer.records[:-1], replace(layer.records[-1], **fields)))
            if layer.name == where else layer
            for layer in lock.layers
        )  # fmt: skip
        return spec, replace(lock, layers=layers), host

    return change


def of_removes(case: Case) -> Case:
    layers = tuple(replace(layer, removes=("nano",)) for layer in case[1].layers[1:])
    return case[0], replace(case[1], layers=(case[1].layers[0], *layers)), case[2]


def of_manual(name: str, *packages: str) -> Callable[[Case], Case]:
    """A lock in which this layer asked for these packages."""

    def change(case: Case) -> Case:
        layers = tuple(replace(layer, manual=packages) if layer.name == name else layer
                       for layer in case[1].layers)  # fmt: skip
        return case[0], replace(case[1], layers=layers), case[2]

    return change


def of_tool(name: str) -> Callable[[Case], Case]:
    return lambda case: (*case[:2], replace(case[2], tools={**case[2].tools, name: "2"}))


CHANGES: dict[str, tuple[Callable[[Case], Case], set[str]]] = {
    # base
    "arch": (of_spec(arch="arm64"), ALL),
    "variant that only unpacks": (of_base(variant="extract"), ALL),
    "bootstrap tool's version": (of_tool("mmdebstrap"), ALL),
    "base's answers": (of_base(debconf=("a a/b string c",)), ALL),
    "base package's version": (of_records("base", version="2"), ALL),
    "base package's bytes": (of_records("base", sha256="0" * 64), ALL),
    "base package's architecture": (of_records("base", architecture="all"), ALL),
    "base package gone": (of_lock(base=(record("apt"),)), ALL),
    "SOURCE_DATE_EPOCH": (of_host(epoch=1), ALL),
    "foreign architecture": (of_layer("app", packages=("three:i386",)), ALL),
    # layers
    "mark of a package": (of_manual("packages", "one"), ALL - {"base"}),
    "mark of a package below": (of_manual("app", "one"), ABOVE),
    "mark of a package of the base": (of_lock(manual=("apt",)), ALL),
    "package's version": (of_records("packages", version="2"), ALL - {"base"}),
    "package's bytes": (of_records("app", sha256="0" * 64), ABOVE),
    "what the layer removes": (of_removes, ABOVE),
    "preseeding": (of_host(debconf={"packages": [], "app": ["a a/b string d"]}), ABOVE),
    "file": (of_host(files={"packages": [], "app": [["/etc/motd", "file", "x", 420, "0:0"]]}),
             ABOVE),
    "script": (of_host(scripts={"app": "digest"}), ABOVE),
    "several scripts": (of_host(scripts={"app": [["digest", {"A": "b"}, False]]}), ABOVE),
    "accounts": (of_host(accounts={"app": [["group", "a", None, False]]}), ABOVE),
    "services": (of_layer("app", services=Services(mask=("a.service",))), ABOVE),
    "removed": (of_layer("app", remove=("/a", "/b")), ABOVE),
    "settings": (of_host(settings={"hostname": "other"}), LAST),
    # images
    "format": (of_image("/boot", format="ext3"), {"image:/boot"}),
    "container": (of_image("/boot", container="raw"), {"image:/boot"}),
    "level": (of_image("/boot", level="best"), {"image:/boot"}),
    "pack": (of_image("/boot", pack="direct"), {"image:/boot"}),
    "label": (of_image("/boot", label="boot"), {"image:/boot"}),
    "uuid": (of_image("/boot", uuid="0"), {"image:/boot"}),
    "mkfs options": (of_image("/boot", options=("-m", "1")), {"image:/boot"}),
    "size": (of_image("/boot", size=1 << 30), {"image:/boot"}),
    "free": (of_image("/boot", free=1 << 20), {"image:/boot"}),
    "filesystem tool's version": (of_tool("mke2fs"), IMAGES),
    "compressor's version": (of_tool("isal"), IMAGES),
    # no content
    "variant that selects the same": (of_base(variant="apt"), set()),
    "packages asked for in another way": (
        of_layer("packages", packages=("one=1", "two/stable")), set()),
    "recommends, of which nothing came": (of_spec(recommends=True), set()),
    "base.include of which nothing came": (of_base(include=("apt",)), set()),
    "name of the output": (of_image("/", file="renamed.img.gz"), set()),
    "size that it may have": (of_image("/", max_size=1 << 30), set()),
    "name of the spec": (of_spec(name="other", path=Path("/elsewhere/other.yaml")), set()),
    "mirror": (of_repo(uri="http://elsewhere.example.org/debian"), set()),
    "proxies": (of_spec(proxies={"http": "http://p:1"}, direct=("a",)), set()),
    "keyring": (of_repo(keyring=Path("/k.gpg"), check_valid_until=False, trusted=True), set()),
    "meta": (of_repo(meta={"a": 1}), set()),
    "order of requested packages": (of_layer("packages", packages=("two", "one")), set()),
    "package requested twice": (of_layer("packages", packages=("one", "two", "one")), set()),
    "place of a package": (of_records("app", path="x", repository="other", size=9), set()),
    "order of records": (of_lock(base=(record("dpkg"), record("apt"))), set()),
    "Release": (of_lock(inputs="f" * 32, repos=()), set()),
    "tool that is not used": (of_tool("mkfs.xfs"), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_redoes(case: Case, name: str) -> None:
    change, expected = CHANGES[name]
    after = change(case)
    assert after != case
    assert changed(make_plan(*case), make_plan(*after)) == expected


@pytest.mark.parametrize("name", [name for name, (_change, redone) in CHANGES.items() if redone])
def test_the_cause_of_what_is_redone_is_the_change_that_was_made(case: Case, name: str) -> None:
    """Once, where it was made: what only stands on that has no cause of its own."""
    before, after = (make_plan(*one) for one in (case, CHANGES[name][0](case)))
    told: dict[str, list[str]] = {}
    for old, new in zip(before.stages, after.stages, strict=True):
        if old.key != new.key:
            sides: dict[str, Any] = {"name": new.name, "notes": {}}
            now = Now(inputs=new.inputs, known={}, passwords={}, **sides)
            moved = old.inputs.get("parent") != new.inputs.get("parent")
            below = {text for texts in told.values() for text in texts}
            found = following(causes(Made(inputs=old.inputs, **sides), now), below, moved=moved)
            told |= {new.task: [one.text for one in found]} if found else {}
    own = CHANGES[name][1] if name in ("filesystem tool's version", "compressor's version") else {
        next(stage.task for stage in after.stages if stage.task in CHANGES[name][1])}  # fmt: skip
    assert set(told) == own
    assert len({text for texts in told.values() for text in texts}) == 1, told


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("ext4", "-m 0", "-m0", True),
        ("ext4", "-m 0 -I 256", "-m0 -I256", True),
        ("ext4", "-m 0", "-m 1", False),
        ("ext4", "-b 1024", "-m 1024", False),
        ("ext4", "-E stride=4,resize=9", "-E stride=4 -Eresize=9", True),
        ("ext4", "-E stride=4,stride=8", "-E stride=8,stride=4", False),
        ("ext4", "-O quota,^64bit", "-O ^64bit -O quota", True),
        ("ext4", "-O quota,quota", "-O quota", True),
        ("ext4", "-O quota,^quota", "-O ^quota,quota", False),
        ("ext4", "-O none,quota", "-O quota,none", False),
        ("ext4", "-O uninit_bg,^gdt_csum", "-O ^gdt_csum,uninit_bg", False),
        ("ext4", "-O quota", "-O ^quota", False),
        ("ext4", "-O has_journal", "", True),
        ("ext4", "-O ^has_journal", "", False),
        ("ext2", "-j", "-O has_journal", True),
        ("ext2", "-j", "", False),
        ("ext4", "-J size=4", "-J size=8", False),
        ("xfs", "-bsize=1024", "-b size=1024", True),
        ("xfs", "-b size=1024", "-s size=1024", False),
        ("xfs", "-K -b size=1024", "-b size=1024", False),
        ("btrfs", "--nodesize=16384", "--nodesize 16384", True),
        ("btrfs", "-n16384 -M", "-n 16384 -M", True),
        ("btrfs", "-n 16384 -M", "-n 16384", False),
        ("vfat", "-F32 -a", "-F 32 -a", True),
        ("vfat", "-F 32", "-F 16", False),
    ],
)
def test_options_that_mean_the_same_are_one_key(
    case: Case, kind: str, one: str, other: str, same: bool
) -> None:
    host = replace(case[2], tools={**case[2].tools, **dict.fromkeys((row.tool for row in FILESYSTEMS.values()), "1"),
                                   "mcopy": "1"})  # fmt: skip

    def key_of(options: str) -> str:
        check_options(options.split(), FILESYSTEMS[kind], "x")
        of = of_image("/boot", format=kind, options=tuple(options.split()))
        return make_plan(*of((case[0], case[1], host))[:2], host).images[1].key

    assert (key_of(one) == key_of(other)) is same


def test_level_is_in_the_key_of_what_is_compressed(case: Case) -> None:
    for container, keys in (("raw", 1), ("gzip", 3), ("zstd", 3), ("xz", 3)):
        host = replace(case[2], tools=dict.fromkeys([*case[2].tools, "zstd", "xz", "isal",
                                                     "zlib-ng"], "1"))  # fmt: skip
        found = {
            make_plan(*of_image("/boot", container=container, level=level)(case)[:2], host)
            .images[1]
            .key
            for level in ("fast", "default", "best")
        }
        assert len(found) == keys, container


def test_every_option_of_an_image_that_is_content_is_in_its_key(case: Case) -> None:
    seen = make_plan(*case).images[0].inputs
    known = {field.name for field in fields(case[0].images[0])}
    assert known - {"file", "max_size"} <= seen.keys()


def test_debootstrap_runs_a_script_for_the_suite_so_its_key_has_it(case: Case) -> None:
    spec = replace(case[0], base=replace(case[0].base, tool="debootstrap"))
    before = make_plan(spec, case[1], samples.host(spec))
    other = replace(spec, repos=tuple(replace(repo, suite="sid") for repo in spec.repos))
    assert "base" in changed(before, make_plan(other, case[1], samples.host(spec)))
    assert make_plan(*case).base.inputs["suite"] is None


def test_mount_point_below_changes_the_image_above_it_only(case: Case) -> None:
    spec, lock, host = case
    image = replace(spec.images[1], mount="/boot/efi", file="c.img.gz")
    before = {stage.name: stage.key for stage in make_plan(*case).images}
    after = {stage.name: stage.key
             for stage in make_plan(replace(spec, images=(*spec.images, image)), lock, host).images}  # fmt: skip
    assert {name for name in before if before[name] != after[name]} == {"/", "/boot"}
    beside = replace(image, mount="/bootstrap")
    found = make_plan(replace(spec, images=(*spec.images, beside)), lock, host).images
    assert found[1].key == before["/boot"]


# ---------------------------------------------------------------- stages


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


# ---------------------------------------------------------------- canonical JSON


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


# ---------------------------------------------------------------- the lock's inputs

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
