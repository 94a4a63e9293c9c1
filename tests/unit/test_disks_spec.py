"""Disks, exports and boot tests of a spec: what they become, and each fault with its place."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from support.samples import IMAGE, SCHEMA
from support.spec_of_disks import ESP, PLAIN, ROOT, disk, load, one
from tasks.errors import BuildError
from tasks.spec.compose import Given
from tasks.spec.disk_values import SLACK, left
from tasks.spec.disks import MIB, BootTest, Disk, DiskFile, Export, OciConfig, Partition
from tasks.spec.export_rules import CONTAINERS
from tasks.spec.load import spec_names
from tasks.spec.partitions import ESP_SIZE, TYPES
from tasks.spec.sizes import shown

GIB = 1 << 30


def names(disk: Disk) -> list[str]:
    return [partition.name for partition in disk.partitions]


# ---------------------------------------------------------------- what they become


def test_the_least_disk_has_an_esp_and_a_root_that_grows(tmp_path: Path) -> None:
    found = one(tmp_path)
    assert [(p.name, p.kind, p.mount, p.size, p.rest, p.grow) for p in found.partitions] == [
        ("esp", "esp", "/boot/efi", 64 * MIB, False, False),
        ("root", "filesystem", "/", None, True, True),
    ]
    root = found.partitions[1].image
    assert root is not None
    assert (root.mount, root.file, root.format, root.container, root.size) == (
        "/", "", "ext4", "raw", None,
    )  # fmt: skip
    assert found.firmware == ("uefi",)
    assert (found.size, found.slack) == (4 * GIB, 0)


def test_defaults_of_the_schema_are_those_of_the_dataclasses(tmp_path: Path) -> None:
    schema = json.loads(SCHEMA.read_text())["properties"]
    spec = load(
        tmp_path,
        disks={"web": disk(partitions=[ESP, PLAIN])},
        exports={"web.tar": {"format": "tar"}},
        tests=[{"script": "up.sh"}],
    )
    a_disk = schema["disks"]["additionalProperties"]["properties"]
    stated = {
        "disk": a_disk,
        "partition": a_disk["partitions"]["items"]["properties"],
        "file": a_disk["files"]["additionalProperties"]["properties"],
        "export": schema["exports"]["additionalProperties"]["properties"],
        "test": schema["tests"]["items"]["properties"],
    }
    made = {
        "disk": spec.disks[0], "partition": spec.disks[0].partitions[1],
        "file": spec.disks[0].files[0], "export": spec.exports[0], "test": spec.tests[0],
    }  # fmt: skip
    classes = {"disk": Disk, "partition": Partition, "file": DiskFile, "export": Export,
               "test": BootTest}  # fmt: skip
    counted = 0
    for what, rules in stated.items():
        own = {field.name: field.default for field in fields(classes[what])}
        for name, rule in rules.items():
            if "default" in rule:
                counted += 1
                assert rule["default"] == getattr(made[what], name) == own[name], (what, name)
    assert counted >= 12
    assert BootTest.memory == spec.tests[0].memory == GIB
    assert set(a_disk["files"]["additionalProperties"]["properties"]) == {
        field.name for field in fields(DiskFile)
    } - {"name"}
    config = schema["exports"]["additionalProperties"]["properties"]["config"]["properties"]
    assert set(config) == {field.name for field in fields(OciConfig)}


def test_choices_of_the_schema_are_those_of_the_code() -> None:
    schema = json.loads(SCHEMA.read_text())["properties"]
    a_disk = schema["disks"]["additionalProperties"]["properties"]
    assert set(a_disk["loader"]["enum"]) == set(ESP_SIZE)
    assert set(schema["exports"]["additionalProperties"]["properties"]["format"]["enum"]) == set(
        CONTAINERS
    )
    assert set(re.findall(r"[a-z]{3,}", a_disk["partitions"]["items"]["properties"]["type"]["pattern"])) == set(
        TYPES
    )  # fmt: skip


def test_a_bios_partition_comes_first_where_grub_needs_it(tmp_path: Path) -> None:
    both = one(tmp_path, firmware=["bios", "uefi"])
    assert names(both) == ["bios", "esp", "root"]
    assert both.firmware == ("uefi", "bios")  # the order of a list is no other disk
    assert (both.partitions[0].kind, both.partitions[0].size) == ("bios", MIB)
    assert names(one(tmp_path, firmware=["bios"])) == ["bios", "root"]
    assert names(one(tmp_path, firmware=["bios"], table="mbr")) == ["root"]
    own = [{"name": "grub", "type": "bios", "size": "2M"}, ROOT]
    written = one(tmp_path, firmware=["bios"], partitions=own)
    grub = written.partitions[0]
    assert (grub.name, grub.kind, grub.size, grub.type) == ("grub", "bios", 2 * MIB, "")


def test_verity_puts_its_tree_behind_the_root(tmp_path: Path) -> None:
    found = one(tmp_path, loader="uki", verity=True, size="fit")
    assert [(p.name, p.kind, p.size) for p in found.partitions] == [
        ("esp", "esp", 256 * MIB), ("root", "filesystem", None), ("root-verity", "verity", None),
    ]  # fmt: skip
    assert found.slack == 0
    assert not any(p.grow for p in found.partitions)


def test_verity_takes_an_image_that_is_the_same_each_time(tmp_path: Path) -> None:
    images = {"/": {**IMAGE, "format": "ext3", "pack": "direct"}}
    spec = load(tmp_path, images=images, disks={"web": disk(loader="uki", verity=True)})
    assert [one.kind for one in spec.disks[0].partitions] == ["esp", "filesystem", "verity"]


def test_a_fit_disk_has_slack_where_something_takes_it(tmp_path: Path) -> None:
    assert one(tmp_path, size="fit").slack == SLACK
    assert one(tmp_path, size="fit", slack="1G").slack == GIB
    assert one(tmp_path, size="fit", slack=0).slack == 0
    fixed = [ESP, {"name": "root", "mount": "/", "size": "2G"}]
    assert one(tmp_path, size="fit", partitions=fixed).slack == 0


def test_images_give_the_disk_their_filesystems_and_mount_points(tmp_path: Path) -> None:
    images = {
        "/": {**IMAGE, "format": "xfs", "label": "top"},
        "/var/lib": {"file": "b", "format": "ext4"},
    }
    found = one(tmp_path, images=images)
    assert names(found) == ["esp", "var-lib", "root"]
    spec = load(tmp_path, images=images, disks={"web": disk()})
    assert [p.image for p in spec.disks[0].filesystems] == list(spec.images)
    assert found.filesystems[0].mount == "/"
    with pytest.raises(
        BuildError, match=r"specs/web\.yaml: disks\.web\.partitions\.root\.format: the "
    ):
        one(tmp_path, images={"/": IMAGE}, partitions=[ESP, {**ROOT, "format": "ext4"}])


def test_kinds_types_and_sizes_of_partitions(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        partitions=[
            {"name": "EFI", "type": "esp", "size": "100M"},
            {"name": "swap", "format": "swap", "size": "1G"},
            {"name": "more swap", "type": "swap", "size": "1G"},
            {"name": "fw", "source": "firmware.bin", "type": "linux"},
            {"name": "later", "size": "16M", "type": "E6D6D379-F507-44C2-A23C-238F2A3DF928"},
            {"name": "data", "mount": "/srv", "size": "200M", "format": "btrfs", "label": "d",
             "uuid": "6BA7B810-9dad-11d1-80b4-00c04fd430c8", "options": "-m dup"},
            PLAIN,
        ],
    )  # fmt: skip
    by_name = {p.name: p for p in found.partitions}
    assert [p.kind for p in found.partitions] == [
        "esp", "swap", "swap", "source", "empty", "filesystem", "filesystem",
    ]  # fmt: skip
    assert by_name["EFI"].mount == "/boot/efi"
    assert by_name["fw"].source == tmp_path / "firmware.bin"
    assert by_name["fw"].type == "0fc63daf-8483-4772-8e79-3d69d8477de4"
    assert by_name["fw"].size is None
    assert by_name["later"].type == "e6d6d379-f507-44c2-a23c-238f2a3df928"
    data = by_name["data"].image
    assert data is not None
    # It takes its partition at boot, so that another size redoes no filesystem.
    assert (data.size, data.uuid) == (None, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert data.options == ("-m", "dup")
    mbr = one(tmp_path, table="mbr", firmware=["bios"],
              partitions=[{"name": "old", "size": "1M", "type": "linux"}, {"name": "x", "size": "1M", "type": "A5"},
                          PLAIN])  # fmt: skip
    assert [p.type for p in mbr.partitions] == ["83", "a5", ""]


def test_a_vfat_that_takes_the_rest_is_made_as_large(tmp_path: Path) -> None:
    """It cannot grow while it is mounted; all others do."""
    data = {"name": "data", "mount": "/srv", "format": "vfat", "size": "rest"}
    root = {"name": "root", "mount": "/", "size": "1G"}
    found = one(tmp_path, partitions=[ESP, root, data])
    sizes = {p.mount: p.image.size for p in found.partitions if p.image}
    assert sizes == {"/": None, "/srv": left(found)}
    assert left(found) == 3 * GIB - 2 * MIB - 64 * MIB
    esp = one(tmp_path, partitions=[root, {**ESP, "size": "rest"}])
    assert left(esp) == 3 * GIB - 2 * MIB
    unknown = one(tmp_path, partitions=[ESP, {"name": "var", "mount": "/var"}, PLAIN])
    assert left(unknown) is None
    assert [p.image.size for p in unknown.partitions if p.image] == [None, None]
    assert left(one(tmp_path, size="fit")) is None


def test_exports_and_their_defaults(tmp_path: Path) -> None:
    config = {"user": "a:b", "cmd": ["x"], "entrypoint": ["y"], "env": {"B": True, "A": 1},
              "labels": {"b": "c"}, "workdir": "/srv", "ports": [80, "53/udp", "81"]}  # fmt: skip
    spec = load(tmp_path, exports={
        "oci": {"format": "oci", "config": config}, "zoci": {"format": "oci", "container": "zstd"},
        "a.tar": {"format": "tar"}, "a.tar.xz": {"format": "tar", "container": "xz", "level": "best"},
        "nb": {"format": "netboot", "cmdline": "quiet  debug"}, "sq": {"format": "squashfs"},
    })  # fmt: skip
    found = {export.name: export for export in spec.exports}
    assert list(found) == sorted(found)
    assert {name: one.container for name, one in found.items()} == {
        "oci": "gzip", "zoci": "zstd", "a.tar": "raw", "a.tar.xz": "xz", "nb": "raw", "sq": "raw",
    }  # fmt: skip
    assert found["oci"].config == OciConfig(
        user="a:b", cmd=("x",), entrypoint=("y",), env={"A": "1", "B": "true"}, labels={"b": "c"},
        workdir="/srv", ports=("80/tcp", "53/udp", "81/tcp"),
    )  # fmt: skip
    assert found["nb"].cmdline == "quiet debug"
    assert [name for name, one in found.items() if one.folder] == ["nb", "oci", "zoci"]
    assert spec.images == ()


def test_a_test_without_a_disk_is_one_of_each_that_fits(tmp_path: Path) -> None:
    disks = {"a": disk(files={"a": {"format": "raw"}}),
             "b": disk(files={"b": {"format": "raw"}}, firmware=["bios", "uefi"])}  # fmt: skip

    def machines(**test: Any) -> list[tuple[str, tuple[str, ...]]]:
        found = load(tmp_path, disks=disks, tests=[{"script": "up.sh", **test}]).tests
        return [(one.disk, one.firmware) for one in found]

    assert machines() == [("a", ("uefi",)), ("b", ("uefi", "bios"))]
    assert machines(firmware=["bios"]) == [("b", ("bios",))]
    assert machines(firmware=["bios", "uefi-secure"]) == [
        ("a", ("uefi-secure",)), ("b", ("uefi-secure", "bios")),
    ]  # fmt: skip
    assert machines(disk="b") == [("b", ("uefi", "bios"))]
    made = load(tmp_path, disks=disks, tests=[{"script": "up.sh", "timeout": 7, "memory": "128M"}])
    assert (made.tests[0].script, made.tests[0].timeout) == (tmp_path / "up.sh", 7)
    assert made.tests[0].memory == 128 * MIB


def test_a_variant_merges_disks_and_their_partitions_by_name(tmp_path: Path) -> None:
    variants = {
        "big": {
            "disks": {
                "web": {
                    "size": "8G",
                    "firmware": ["uefi", "bios"],
                    "partitions": [
                        {"name": "root", "format": "xfs"},
                        {"name": "var", "mount": "/var", "size": "1G"},
                    ],
                    "files": {"web.img": {"format": "raw"}},
                }
            },
            "exports": {"web.tar": {"container": "zstd"}},
        }
    }
    plain: dict[str, Any] = {"disks": {"web": disk(partitions=[ESP, PLAIN])}, "variants": variants,
             "exports": {"web.tar": {"format": "tar"}}}  # fmt: skip
    assert names(load(tmp_path, **plain).disks[0]) == ["esp", "root"]
    spec = load(tmp_path, given=Given(variant="big"), **plain)
    found = spec.disks[0]
    assert names(found) == ["bios", "esp", "root", "var"]
    assert [p.image.format for p in found.filesystems if p.image] == ["xfs", "ext4"]
    assert (found.size, [one.name for one in found.files]) == (8 * GIB, ["web.img", "web.qcow2"])
    assert spec.exports[0].container == "zstd"


def test_names_stand_for_values_in_disks_and_in_a_containers_environment(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        vars={"tty": "ttyS1", "who": "me"},
        disks={"web": disk(cmdline="console=${tty}", files={"${who}.img": {"format": "raw"}})},
        exports={"env": {"format": "oci", "config": {"env": {"WHO": "${who}"}}}},
    )
    assert spec.disks[0].cmdline == "console=ttyS1"
    assert spec.disks[0].files[0].name == "me.img"
    assert spec.exports[0].config.env == {"WHO": "me"}


def test_a_file_below_specs_with_disks_or_exports_alone_is_a_spec(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    for name, text in {"a": "disks: {}", "b": "exports: {}", "c": "tests: []"}.items():
        (tmp_path / f"team/{name}.yaml").write_text(text + "\n")
    assert spec_names(tmp_path) == ["team/a", "team/b"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (8 * GIB, "8G"),
        (MIB, "1M"),
        (1025, "1025"),
        (3 << 40, "3T"),
        (1536 * MIB, "1536M"),
        (0, "0"),
    ],
)
def test_sizes_are_shown_as_a_spec_has_them(size: int, text: str) -> None:
    assert shown(size) == text


# ---------------------------------------------------------------- what is refused
