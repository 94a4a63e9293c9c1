"""What a change redoes of disks, exports and boot tests, by keys alone; and who is made of what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.samples import REPO, record
from support.tops import FILES, IMAGE, KERNEL, PARTITIONS, Case, by_task, case_of, disk, names
from tasks.plan.stage import Plan


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return case_of(tmp_path, "grub").plan


# ---------------------------------------------------------------- changes

Change = Callable[[Case], Case]


def of_disk(**fields: Any) -> Change:
    return lambda case: of_spec(disks={"server": {**case.fields["disks"]["server"], **fields}})(
        case
    )


def of_spec(**fields: Any) -> Change:
    return lambda case: replace(case, fields={**case.fields, **fields})


def of_part(name: str, **fields: Any) -> Change:
    parts = [{**one, **(fields if one["name"] == name else {})} for one in PARTITIONS]
    return of_disk(partitions=parts)


def of_file(name: str, **fields: Any) -> Change:
    return of_disk(files={**FILES, name: {**FILES[name], **fields}})


def of_package(layer: str, package: str = "") -> Change:
    """The lock with the next version of one of a layer's packages, the first unless it is named."""

    def change(case: Case) -> Case:
        layers = []
        for one in case.lock.layers:
            rows = one.records
            which = package or rows[0].package
            if one.name == layer:
                assert which in {row.package for row in rows}
                rows = tuple(record(which, "2") if row.package == which else row for row in rows)
            layers.append(replace(one, records=rows))
        return replace(case, lock=replace(case.lock, layers=tuple(layers)))

    return change


def of_tool(name: str) -> Change:
    return lambda case: replace(case, host={**case.host, "tools": {name: "2"}})


def of_script(digest: str) -> Change:
    """Another content of the tests' script."""
    return lambda case: replace(case, host={**case.host, "script": digest})


def of_export(**fields: Any) -> Change:
    return of_spec(exports={"web-oci": {"format": "oci", **fields}})


def of_image(**fields: Any) -> Change:
    return of_spec(images={"/": {**IMAGE, "pack": "direct", **fields}})


def of_base(case: Case) -> Case:
    records = (record("base", "2"), *case.lock.base[1:])
    return replace(case, lock=replace(case.lock, base=records))


def changed(before: Plan, after: Plan) -> set[str]:
    """The tasks whose keys differ."""
    old, new = ({one.task: one.key for one in plan.stages} for plan in (before, after))
    assert old.keys() == new.keys()
    return {task for task in old if old[task] != new[task]}


def redone(words: str, loader: str) -> set[str]:
    """The tasks that such words stand for, of a disk with this loader.

    After a layer's name, `^` is all of the tree above it. What ends in `?` is only redone where
    the kernel or its command line is in it: in the ESP unless GRUB boots it, in the tree without
    verity, whose root cannot say what it is booted with.
    """
    verity, found = loader.endswith("+verity"), set[str]()
    for word in words.split():
        if word.endswith("?") and (loader == "grub" if word == "esp?" else verity):
            continue
        word = word.removesuffix("?")
        kind = word.partition(":")[0]
        above = TREE[TREE.index(kind.removesuffix("^")) :] if kind.removesuffix("^") in TREE else []
        for one in above:
            found |= {one if one == "base" else f"layer:{one}", f"blob:{one}.gzip"}
        found |= {
            "disk": {"disk:server"},
            "files": {"file:a.qcow2", "file:a.img.gz", "file:a.img.gz.bmap"},
            "filesystem": {"filesystem:/", "image:/"}
            | ({"verity:server", "esp:server"} if verity else set()),
            "esp": {"esp:server"},
            "bios": {"bios:server"} if loader == "grub" else set(),
            "oci": {"export:web-oci"},
            "tests": {"boot_test:server.uefi"}
            | ({"boot_test:server.bios"} if loader == "grub" else set()),
            "file": {word},
            "image": {word},
        }.get(kind, set())
    return found


TREE = ["base", "loader", "kernel", "app", "settings"]

OTHER = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"

# (what changes, what is redone)
CHANGES: dict[str, tuple[Change, str]] = {
    "format of a file": (of_file("a.qcow2", format="vmdk"), "file:a.qcow2"),
    "container of a file": (of_file("a.img.gz", container="zstd"), "file:a.img.gz file:a.img.gz.bmap"),
    "level of a file": (of_file("a.img.gz", level="best"), "file:a.img.gz file:a.img.gz.bmap"),
    "qemu-img's version": (of_tool("qemu-img"), "file:a.qcow2"),
    "size of the disk": (of_disk(size="5G"), "disk files tests"),
    "a disk as small as can be": (of_disk(size="fit"), "disk files tests"),
    "size of a partition": (of_part("data", size="64M"), "disk files tests"),
    "size of a filesystem's partition": (of_part("root", size="2G"), "disk files tests"),
    "partition that takes the rest": (of_part("root", size="rest"), "disk files tests"),
    "type of a partition": (of_part("data", type=OTHER), "disk files tests"),
    "order of partitions": (of_disk(partitions=[*PARTITIONS[::2], PARTITIONS[1]]), "disk files tests"),
    "size of the ESP": (of_part("esp", size="300M"), "esp disk files tests"),
    "mkfs.vfat's version": (of_tool("mkfs.vfat"), "esp disk files tests"),
    "loader's package": (of_package("loader"), "loader^ filesystem esp bios disk files oci tests"),
    "kernel": (of_package("kernel", KERNEL), "kernel^ filesystem esp? disk files oci tests"),
    "package of the top layer": (of_package("app"), "app^ filesystem esp? disk files oci tests"),
    "package of the base": (of_base, "base^ filesystem esp bios disk files oci tests"),
    "command line": (of_disk(cmdline="splash"), "settings^? filesystem? esp? disk files oci? tests"),
    "a setting": (of_spec(hostname="b"), "settings^ filesystem esp? disk files oci tests"),
    "level of an image": (of_image(level="best"), "image:/"),
    "label of a filesystem": (of_image(label="root"), "filesystem disk files tests"),
    "mke2fs's version": (of_tool("mke2fs"), "filesystem disk files tests"),
    "what the image of OCI runs": (of_export(config={"cmd": ["sh"]}), "oci"),
    "test's script": (of_script("2" * 64), "tests"),
    "test's timeout": (of_spec(tests=[{"script": "t.sh", "timeout": 9}]), "tests"),
    "QEMU's version": (of_tool("qemu-system-x86_64"), "tests"),
    "version of a tool that is not used": (of_tool("mkfs.xfs"), ""),
    "mirror": (of_spec(repos=[{**REPO, "uri": "http://elsewhere.example.org"}]), ""),
}  # fmt: skip


@pytest.mark.parametrize("loader", ["grub", "systemd-boot", "uki", "uki+verity"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_redoes(tmp_path: Path, name: str, loader: str) -> None:
    change, words = CHANGES[name]
    before = case_of(tmp_path, loader)
    old, after = before.plan, change(before)
    assert after != before
    assert changed(old, after.plan) == redone(words, loader)


@pytest.mark.parametrize("loader", ["grub", "uki+verity"])
def test_names_are_kept_when_sizes_and_content_change(tmp_path: Path, loader: str) -> None:
    """What is on machines out there finds its disks: GUIDs are of names alone."""
    before = case_of(tmp_path, loader)
    old = by_task(before.plan)["disk:server"].inputs
    case = of_disk(size="9G", cmdline="x")(of_package("app")(before))
    new = by_task(case.plan)["disk:server"].inputs
    assert old["guid"] == new["guid"]
    assert [one["guid"] for one in old["partitions"]] == [one["guid"] for one in new["partitions"]]
    renamed = of_spec(disks={"other": before.fields["disks"]["server"]})(before).plan
    assert by_task(renamed)["disk:other"].inputs["guid"] != old["guid"]
    assert by_task(renamed)["filesystem:/"].key == by_task(before.plan)["filesystem:/"].key


# ---------------------------------------------------------------- what is made of what


VERITY_PARTS = ["filesystem:/", "verity:server", "esp:server"]


def test_a_disk_stands_on_its_parts_and_a_file_on_the_disk(plan: Plan) -> None:
    found = by_task(plan)
    parts = ["filesystem:/", "esp:server", "bios:server"]
    assert sorted(names(plan.below(found["disk:server"]))) == sorted(parts)
    assert names(plan.below(found["file:a.qcow2"])) == ["disk:server"]
    # A map has digests of what is in that very file.
    assert names(plan.below(found["file:a.img.gz.bmap"])) == ["file:a.img.gz"]
    # The cache keeps no disk: who makes a file of it needs the parts.
    assert sorted(names(plan.parts(found["file:a.qcow2"]))) == sorted(parts)
    assert names(plan.below(found["boot_test:server.bios"])) == ["file:a.qcow2"]
    assert names(plan.parts(found["image:/"])) == ["filesystem:/"]
    assert [one.kept for one in (found["disk:server"], found["esp:server"])] == [False, True]


def test_grubs_parts_stand_on_the_loaders_layer_and_filesystems_on_the_whole_tree(
    plan: Plan,
) -> None:
    found = by_task(plan)
    lower = ["base", "layer:loader"]
    assert names(plan.below(found["esp:server"])) == lower
    assert names(plan.below(found["bios:server"])) == lower
    assert names(plan.below(found["filesystem:/"])) == names(plan.tree)
    assert found["esp:server"].tree == found["layer:loader"].key
    assert found["filesystem:/"].tree == plan.layers[-1].key


def test_of_verity_the_esp_knows_the_hash_and_the_disk_has_all(tmp_path: Path) -> None:
    plan = case_of(tmp_path, "uki+verity").plan
    found = by_task(plan)
    assert names(plan.below(found["esp:server"])) == [*names(plan.tree), "verity:server"]
    assert names(plan.below(found["verity:server"])) == ["filesystem:/"]
    assert sorted(names(plan.below(found["disk:server"]))) == sorted(VERITY_PARTS)


def test_all_that_something_is_made_of_stands_before_it(tmp_path: Path) -> None:
    for loader in ("grub", "systemd-boot", "uki", "uki+verity"):
        plan = case_of(tmp_path, loader).plan
        order = names(plan.stages)
        assert len({*order}) == len(order)
        for one in plan.stages:
            closure = plan.closure([one])
            assert closure[-1] == one
            assert names(closure) == sorted(names(closure), key=order.index)
            assert {*names(plan.below(one)), *names(plan.parts(one))} <= {*names(closure)}
        assert plan.closure(plan.ends) == plan.stages, "nothing is planned that nobody wants"


def test_a_build_ends_with_what_is_published_and_tested(plan: Plan) -> None:
    blobs = [f"blob:{one}.gzip" for one in TREE]
    ends = names(plan.ends)
    assert ends[: len(blobs)] == blobs
    files = ["file:a.img.gz", "file:a.img.gz.bmap", "file:a.qcow2"]
    assert ends[len(blobs) :] == ["image:/", *files, "export:web-oci", *names(plan.tests)]
    assert sorted(names(plan.tests)) == ["boot_test:server.bios", "boot_test:server.uefi"]
    published = [(one.name, one.folder) for one in plan.products]
    assert published == [
        ("root.img.gz", False), ("a.img.gz", False), ("a.img.gz.bmap", False), ("a.qcow2", False),
        ("web-oci", True)]  # fmt: skip


def test_two_disks_share_the_filesystem_and_have_parts_of_their_own(tmp_path: Path) -> None:
    first = disk("grub")
    second = {**first, "size": "5G", "files": {"b.qcow2": {"format": "qcow2"}}}
    plan = case_of(tmp_path, "grub", disks={"server": first, "other": second}).plan
    found = by_task(plan)
    kinds = sorted(one.partition(":")[0] for one in found if ":" in one)
    assert [kinds.count(kind) for kind in ("filesystem", "esp", "bios", "disk")] == [1, 2, 2, 2]
    # One /etc/fstab serves whichever of them is booted.
    assert found["esp:server"].key == found["esp:other"].key
    assert found["bios:server"].key == found["bios:other"].key


# ---------------------------------------------------------------- order and forecast
