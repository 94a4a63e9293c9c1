"""Exports: their stages and keys, an image's papers, what iPXE runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.export_cases import ALL, OCI, Case, case
from support.samples import record
from tasks.errors import BuildError
from tasks.plan.exports import export_stages
from tasks.plan.plan import make_plan
from tasks.spec.disks import OciConfig
from tasks.stages import oci
from tasks.stages.export import netboot_script


def keys(of: Case) -> dict[str, str]:
    return {one.task: one.key for one in make_plan(*of).stages}


def changed(before: Case, after: Case) -> set[str]:
    old, new = keys(before), keys(after)
    return {task for task in old.keys() | new.keys() if old.get(task) != new.get(task)}


# ---------------------------------------------------------------- stages and keys


def test_the_stages(tmp_path: Path) -> None:
    """A blob for each tree, which the export stands on; the others on the trees themselves."""
    plan = make_plan(*case(tmp_path))
    tree = [one.task for one in plan.tree]
    blobs = [one for one in plan.stages if one.kind == "blob"]
    assert [one.name for one in blobs] == [f"{one.name}.gzip" for one in plan.tree]
    assert [one.on for one in blobs] == [tuple(tree[: at + 1]) for at in range(len(tree))]
    named = {one.name: one for one in plan.stages if one.kind == "export"}
    assert named["web-oci"].on == tuple(one.task for one in blobs)
    assert named["web.squashfs"].on == tuple(tree)
    assert [(one.name, one.folder) for one in plan.products] == [
        ("web-oci", True), ("web.squashfs", False), ("web.tar.zst", False)]  # fmt: skip
    assert {one.suffix for one in blobs} == {".tar.gz"}
    assert [named[one].suffix for one in ALL] == [".tar", ".tar.zst", ".squashfs"]
    assert {one.task for one in plan.ends} == {one.task for one in (*blobs, *named.values())}


def of_lock(layers: dict[str, list[Any]]) -> Callable[[Case], Case]:
    return lambda one: (one[0], samples.lock([record("apt")], layers), one[2])


def of_export(name: str, **fields: Any) -> Callable[[Case], Case]:
    def change(one: Case) -> Case:
        made = tuple(replace(each, **fields) if each.name == name else each
                     for each in one[0].exports)  # fmt: skip
        return replace(one[0], exports=made), one[1], one[2]

    return change


def of_tool(name: str) -> Callable[[Case], Case]:
    return lambda one: (one[0], one[1], replace(one[2], tools={**one[2].tools, name: "2"}))


EXPORTS = {"export:web-oci", "export:web.tar.zst", "export:web.squashfs"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (of_lock({"packages": [record("one")], "app": [record("three", "2")]}),
         {"layer:app", "blob:app.gzip", *EXPORTS}),
        (of_lock({"packages": [record("one", "2")], "app": [record("three")]}),
         {"layer:packages", "layer:app", "blob:packages.gzip", "blob:app.gzip", *EXPORTS}),
        (of_export("web-oci", config=OciConfig(cmd=("x",))), {"export:web-oci"}),
        (of_export("web-oci", config=OciConfig(env={"A": "b"})), {"export:web-oci"}),
        (of_export("web.tar.zst", level="best"), {"export:web.tar.zst"}),
        (of_tool("mksquashfs"), {"export:web.squashfs"}),
        (of_tool("zstd"), {"export:web.tar.zst"}),
        (lambda one: (replace(one[0], name="other"), one[1], one[2]), {"export:web-oci"}),
    ],
)  # fmt: skip
def test_what_changes_which_key(
    tmp_path: Path, change: Callable[[Case], Case], expected: set[str]
) -> None:
    before = case(tmp_path)
    assert changed(before, change(before)) == expected


def test_an_export_that_is_added_leaves_the_others(tmp_path: Path) -> None:
    few, more = case(tmp_path / "a", OCI), case(tmp_path / "b")
    assert changed(few, more) == {"export:web.tar.zst", "export:web.squashfs"}
    plan = make_plan(
        *case(tmp_path / "c", {**OCI, "again": {"format": "oci", "config": {"user": "1"}}})
    )
    assert len([one for one in plan.stages if one.kind == "blob"]) == len(plan.tree)


def test_two_specs_with_one_base_share_its_blobs(tmp_path: Path) -> None:
    one = keys(case(tmp_path / "a"))
    fields: dict[str, Any] = {"layers": [{"name": "app", "packages": ["four"]}]}
    spec, _lock, host = case(tmp_path / "b", name="api", **fields)
    lock = samples.lock([record("apt")], {"packages": [record("one")], "app": [record("four")]})
    other = keys((spec, lock, host))
    same = {task for task in one if one[task] == other.get(task)}
    assert same == {"base", "layer:packages", "blob:base.gzip", "blob:packages.gzip"}


def test_zstd_and_gzip_are_blobs_of_their_own(tmp_path: Path) -> None:
    two = {**OCI, "web-zstd": {"format": "oci", "container": "zstd"}}
    plan = make_plan(*case(tmp_path, two))
    names = [one.name for one in plan.stages if one.kind == "blob"]
    assert len(names) == len(set(names)) == 2 * len(plan.tree)
    assert {one.rpartition(".")[2] for one in names} == {"gzip", "zstd"}


def test_netboot_needs_an_initramfs_that_finds_its_root(tmp_path: Path) -> None:
    spec, lock, host = case(tmp_path, {"net": {"format": "netboot"}})
    host = replace(host, tools={**host.tools, "mksquashfs": "1"})
    with pytest.raises(BuildError) as caught:
        make_plan(spec, lock, host)
    assert str(caught.value) == (
        f"{spec.path}: exports.net: netboot needs live-boot in the tree, whose "
        "initramfs takes its root from a server\n  add to packages: live-boot"
    )
    there = samples.lock([record("apt"), record("live-boot")],
                         {"packages": [record("one")], "app": [record("three")]})  # fmt: skip
    tree = make_plan(replace(spec, exports=()), there, host).tree
    (made,) = export_stages(spec, there, tree, host)
    assert made.inputs["live"] == "live-boot"


# ---------------------------------------------------------------- an image's papers


LAYER = oci.Layer(name="base", diff_id="1" * 64, sha256="2" * 64, size=7)


def papers(**fields: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """index, manifest and config."""
    known: dict[str, Any] = {"name": "web", "arch": "amd64", "created": 1_700_000_000,
                             "config": OciConfig(), "container": "gzip", "layers": (LAYER,)}  # fmt: skip
    files = oci.layout(oci.Image(**{**known, **fields}))
    index = json.loads(files["index.json"])
    for path, content in files.items():
        if path.startswith("blobs/"):
            assert path == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"

    def blob(one: dict[str, Any]) -> bytes:
        return files["blobs/" + one["digest"].replace(":", "/")]

    (described,) = index["manifests"]
    manifest = json.loads(blob(described))
    assert described["size"] == len(blob(described))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    return index, manifest, json.loads(blob(manifest["config"]))


def test_a_config_says_no_more_than_the_spec() -> None:
    index, manifest, config = papers()
    assert config["config"] == {"Env": [f"PATH={oci.SEARCHED}"]}
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert config["rootfs"] == {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}
    assert manifest["layers"] == [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                                   "digest": "sha256:" + "2" * 64, "size": 7}]  # fmt: skip
    (described,) = index["manifests"]
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "web"}
    assert described["platform"] == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize(
    ("arch", "expected"),
    [("arm64", ("arm64", "v8")), ("armhf", ("arm", "v7")), ("i386", ("386", "")),
     ("ppc64el", ("ppc64le", "")), ("loong64", ("loong64", ""))],
)  # fmt: skip
def test_an_architectures_name_is_gos(arch: str, expected: tuple[str, str]) -> None:
    index, _manifest, config = papers(arch=arch)
    for one in (index["manifests"][0]["platform"], config):
        assert (one["architecture"], one.get("variant", "")) == expected


def test_a_config_with_everything() -> None:
    given = OciConfig(user="a:b", cmd=("c", "d e"), entrypoint=("/f",), workdir="/w",
                      env={"Z": "1", "PATH": "/mine"}, labels={"l": "ü"}, ports=("53/udp",))  # fmt: skip
    _index, manifest, config = papers(config=given, container="zstd")
    assert config["config"] == {
        "User": "a:b", "Cmd": ["c", "d e"], "Entrypoint": ["/f"], "WorkingDir": "/w",
        "Env": ["PATH=/mine", "Z=1"], "Labels": {"l": "ü"}, "ExposedPorts": {"53/udp": {}}}  # fmt: skip
    assert manifest["layers"][0]["mediaType"].endswith("tar+zstd")


# ---------------------------------------------------------------- netboot


@pytest.mark.parametrize(
    ("live", "root"),
    [("live-boot", "boot=live components fetch=${base}root.squashfs")],
)  # fmt: skip
def test_what_ipxe_runs(live: str, root: str) -> None:
    script = netboot_script(live, "console=ttyS0\tquiet")
    lines = script.splitlines()
    assert lines[0] == "#!ipxe"
    assert f"kernel vmlinuz initrd=initrd {root} console=ttyS0 quiet" in lines
    assert lines[-2:] == ["initrd initrd", "boot"]
    assert "isset ${base} || set base ${cwduri}" in lines
    assert netboot_script(live, "") == script.replace(" console=ttyS0 quiet", "")
