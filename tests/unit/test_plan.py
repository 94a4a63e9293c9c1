"""What changes each stage's key, and what does not: every row is a promise of what is redone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

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
from tasks.formats.options import check_options
from tasks.formats.table import FILESYSTEMS
from tasks.plan.cause import Made, Now
from tasks.plan.causes import causes, following
from tasks.plan.plan import make_plan
from tasks.spec.model import Services


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return plain_case(tmp_path)


ABOVE = {"layer:app", "layer:settings", "image:/", "image:/boot"}


LAST = {"layer:settings", "image:/", "image:/boot"}


def of_lock(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (case[0], replace(case[1], **fields), case[2])


def of_host(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (case[0], case[1], replace(case[2], **fields))


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


# ---------------------------------------------------------------- canonical JSON


# ---------------------------------------------------------------- the lock's inputs
