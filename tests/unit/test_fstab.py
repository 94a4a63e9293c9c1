"""/etc/fstab: its lines, the UUIDs that it names, and what a change of either redoes."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.made import told
from support.samples import record
from tasks.errors import BuildError
from tasks.plan import fstab, job_json
from tasks.plan.entries import layer_entries
from tasks.plan.job import ImageJob
from tasks.plan.jobs import job_of, settings_job
from tasks.plan.plan import make_plan
from tasks.plan.settings import settings_identity
from tasks.plan.stage import Plan
from tasks.spec.model import Spec

IMAGES: dict[str, Any] = {
    "/": {"file": "a.img", "format": "ext4"},
    "/boot": {"file": "b.img", "format": "ext2"},
    "/boot/efi": {"file": "e.img", "format": "vfat"},
    "/my data": {"file": "d.img", "format": "xfs"},
    "/var": {"file": "v.img", "format": "btrfs", "uuid": "AAAAAAAA-0000-4000-8000-00000000000A"},
}


MIRRORS = {"mirror": "http://mirror.invalid"}


LAST = {"layer:settings", *(f"image:{mount}" for mount in IMAGES)}


def planned(folder: Path, *, version: str = "1", **fields: Any) -> tuple[Spec, Plan]:
    spec = samples.load(folder, **{"images": IMAGES, **fields})
    layers = {layer.name: [record("one", version)] for layer in spec.layers}
    lock = samples.lock([record("base")], layers)
    files = {layer.name: [one.identity() for one in layer_entries(layer, spec)]
             for layer in spec.layers}  # fmt: skip
    settings = settings_identity(spec, lock, MIRRORS)
    host = samples.host(spec, files=files, settings=settings)
    return spec, make_plan(spec, lock, host)


def text_of(plan: Plan) -> str:
    """The file that a plan's settings write, "" for none."""
    return str(
        plan.stages[len(plan.layers)].inputs.get("settings", {}).get("fstab", {}).get("text", "")
    )


def rows(plan: Plan) -> list[list[str]]:
    return [line.split("\t") for line in text_of(plan).splitlines() if not line.startswith("#")]


def changed(before: Plan, after: Plan) -> set[str]:
    old, new = ({stage.task: stage.key for stage in one.stages} for one in (before, after))
    return {task for task in old.keys() | new.keys() if old.get(task) != new.get(task)}


def test_a_line_for_each_image(tmp_path: Path) -> None:
    _spec, plan = planned(tmp_path)
    found = rows(plan)
    assert [row[1:] for row in found] == [
        ["/", "ext4", "errors=remount-ro", "0", "1"],
        ["/boot", "ext2", "defaults", "0", "2"],
        ["/boot/efi", "vfat", "umask=0077", "0", "2"],
        [r"/my\040data", "xfs", "defaults", "0", "0"],
        ["/var", "btrfs", "defaults", "0", "0"],
    ]
    # udev's link of a vfat has large digits, others have small ones.
    assert re.fullmatch(r"UUID=[0-9A-F]{4}-[0-9A-F]{4}", found[2][0])
    assert found[4][0] == "UUID=aaaaaaaa-0000-4000-8000-00000000000a"
    for row in found[:2]:
        assert str(uuid.UUID(row[0].removeprefix("UUID="))) == row[0].removeprefix("UUID=")
    assert len({row[0] for row in found}) == 5
    assert text_of(plan).endswith("\n")


def test_a_root_of_xfs_is_never_checked(tmp_path: Path) -> None:
    _spec, plan = planned(tmp_path, images={"/": {"file": "a", "format": "xfs"}}, fstab=True)
    assert [row[1:] for row in rows(plan)] == [["/", "xfs", "defaults", "0", "0"]]


def test_images_have_the_uuids_that_it_names(tmp_path: Path) -> None:
    spec, plan = planned(tmp_path)
    for number, row in enumerate(rows(plan)):
        named = row[0].removeprefix("UUID=").lower()
        assert plan.images[number].inputs["uuid"] == named
        made = job_of(plan.images[number], spec, plan, MIRRORS)
        assert isinstance(made, ImageJob)
        assert made.image.uuid == named
    entries = {entry.target: entry for entry in settings_job(spec, plan, MIRRORS).entries}
    assert entries["/etc/fstab"].content.decode() == text_of(plan)
    assert settings_job(spec, plan, MIRRORS).yields == ("/etc/fstab",)


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, True),
        ({"fstab": False}, False),
        ({"fstab": True}, True),
        ({"images": {"/": samples.IMAGE}}, False),
        ({"images": {"/": samples.IMAGE}, "fstab": True}, True),
        ({"base": {"variant": "extract", "include": ["base"]}}, False),
        ({"base": {"variant": "extract", "include": ["base"]}, "fstab": True}, True),
        ({"layers": [{"name": "a", "files": {"/etc/fstab": {"content": "x"}}}]}, False),
        ({"layers": [{"name": "a", "files": {"/etc/fstab.d": {"content": "x"}}}]}, True),
        ({"layers": [{"name": "a", "files": {"/etc": "etc"}}]}, False),
    ],
)
def test_where_it_is_made(tmp_path: Path, fields: dict[str, Any], there: bool) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text("mine\n")
    spec, plan = planned(tmp_path, **fields)
    assert bool(text_of(plan)) is there
    # Without it an image's UUID is made of its content, as ever.
    assert all(bool(stage.inputs["uuid"]) is (there or stage.name == "/var")
               for stage in plan.images)  # fmt: skip
    if not there:
        assert "settings" not in {stage.name for stage in plan.layers}
    elif fields.get("fstab"):
        assert settings_job(spec, plan, MIRRORS).yields == ()


@pytest.mark.parametrize("files", [{"/etc/fstab": {"content": "x"}}, {"/etc": "etc"}])
def test_asked_for_beside_a_file_of_ones_own_is_refused(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    os.makedirs(tmp_path / "etc")
    (tmp_path / "etc/fstab").write_text("mine\n")
    with pytest.raises(BuildError) as caught:
        planned(tmp_path, fstab=True, layers=[{"name": "a", "files": files}])
    assert "layers.a.files: '/etc/fstab' is what fstab makes, too" in caught.value.message
    assert caught.value.hint == "leave one of the two out: fstab or the file"


def other(**fields: Any) -> dict[str, Any]:
    """The images, /boot with other fields."""
    return {"images": {**IMAGES, "/boot": {**IMAGES["/boot"], **fields}}}


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "file's name": (other(file="other.img"), set()),
    "label": (other(label="x"), {"image:/boot"}),
    "container": (other(container="raw"), {"image:/boot"}),
    "size": (other(size="1G"), {"image:/boot"}),
    "max_size": (other(max_size="1G"), set()),
    "format": (other(format="ext3"), LAST),
    "uuid": (other(uuid="00000000-0000-4000-8000-00000000000b"), LAST),
    "hostname": ({"hostname": "b"}, LAST),
    "package below": ({"version": "2"}, LAST | {"layer:app"}),
    # Then a script that makes one, too, is an error.
    "the spec asks for what it has": ({"fstab": True}, LAST),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_redoes(tmp_path: Path, name: str) -> None:
    fields, redone = CHANGES[name]
    least = {"hostname": "a", "layers": [{"name": "app", "packages": ["one"]}]}
    (_, before), (_, after) = (planned(tmp_path, **one) for one in (least, {**least, **fields}))
    assert changed(before, after) == redone


def test_uuids_are_of_the_tree_and_the_mount_point_alone(tmp_path: Path) -> None:
    """Not of an image's options or of other images: else each change would be one of all."""

    def uuids(**fields: Any) -> dict[str, str]:
        _spec, plan = planned(tmp_path, **fields)
        return {stage.name: stage.inputs["uuid"] for stage in plan.images}

    before = uuids(hostname="a")
    assert uuids(hostname="a", **other(format="ext3", label="y")) == before
    assert uuids(hostname="a", images={one: IMAGES[one] for one in ("/", "/var")}) == {
        one: before[one] for one in ("/", "/var")
    }
    assert not {*uuids(hostname="b").values()} & {*before.values()} - {before["/var"]}
    assert uuids(hostname="a") == uuids(hostname="a", fstab=True) == before


def test_a_uuid_is_one_of_rfc_9562() -> None:
    made = uuid.UUID(fstab.uuid_of("x"))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert fstab.short_of(str(made)) == f"{made.hex[:4]}-{made.hex[4:8]}"


def test_why_tells_the_setting_that_differs() -> None:
    old = {"settings": {"hostname": "a", "password": "1", "fstab": {"text": "x", "asked": False}}}
    new = {"settings": {"hostname": "b", "password": "2", "os_release": ["web", "1"]}}
    assert told(old, new) == [
        "settings: hostname a → b", "settings: version none → 1",
        "settings: root's password is another", "settings: fstab is gone"]  # fmt: skip


def test_a_job_of_it_is_the_same_as_json(tmp_path: Path) -> None:
    spec, plan = planned(tmp_path, hostname="a", locales=["pl_PL"])
    for made in (settings_job(spec, plan, MIRRORS), job_of(plan.images[0], spec, plan, MIRRORS)):
        assert job_json.load(json.loads(json.dumps(job_json.dump(made)))) == made
