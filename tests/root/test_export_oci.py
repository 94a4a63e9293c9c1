"""Exports as OCI images: what others unpack, marks of what is gone, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.export_trees import (
    OCI,
    base,
    export,
    made,
    said,
    text,
    unpacked,
)
from support.stacks import Stack, differing, listing, overlaid, stack
from tasks.errors import BuildError, DamagedEntry
from tasks.spec.disks import OciConfig


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return made(tmp_path_factory.mktemp("whole"))


def test_what_umoci_unpacks_is_the_tree(whole: Stack, tmp_path: Path) -> None:
    """With modes, owners, times, attributes, links, devices, names of any bytes, and what is gone."""
    layout = whole.layout(tmp_path / "oci", OCI)
    root = unpacked(layout, tmp_path / "bundle")
    with overlaid(whole, tmp_path / "tree") as tree:
        wanted = listing(tree)
        found = listing(root)
    assert not differing(found, wanted), differing(found, wanted)
    assert len(wanted) > 35
    assert os.fsencode("opt/gone/three") in wanted
    assert b"opt/gone/one" not in found
    assert (root / "sparse").stat().st_size == 9 << 20


def test_zstd_holds_the_same(whole: Stack, tmp_path: Path) -> None:
    layouts = [whole.layout(tmp_path / one, export("oci", one)) for one in ("gzip", "zstd")]
    diffs = [json.loads(said("skopeo", "inspect", "--config", f"oci:{one}:web"))["rootfs"]
             for one in layouts]  # fmt: skip
    assert diffs[0] == diffs[1]
    raw = json.loads(said("skopeo", "inspect", "--raw", f"oci:{layouts[1]}:web"))
    for layer, diff in zip(raw["layers"], diffs[0]["diff_ids"], strict=True):
        path = layouts[1] / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
        held = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
        assert f"sha256:{hashlib.sha256(held).hexdigest()}" == diff
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
        assert layer["size"] == path.stat().st_size


def test_marks_of_what_is_gone(whole: Stack) -> None:
    """Of a folder that nobody below has no mark is needed, though overlayfs makes one."""
    with tarfile.open(whole.cache.file(whole.blob(1))) as tar:
        names = {one.name: one for one in tar}
    marks = {name for name in names if ".wh." in name}
    assert marks == {"opt/.wh.gone", "etc/conf.d/.wh.one", "opt/hidden/.wh..wh..opq"}
    assert all((names[one].size, names[one].type) == (0, tarfile.REGTYPE) for one in marks)
    assert names["."].mode == 0o751
    assert not any("overlay" in key for one in names.values() for key in one.pax_headers)
    with tarfile.open(whole.cache.file(whole.blob(2))) as tar:
        assert {one.name for one in tar if ".wh." in one.name} == {
            ".wh.empty", "opt/gone/.wh..wh..opq"}  # fmt: skip


def test_the_papers_of_an_image(whole: Stack, tmp_path: Path) -> None:
    config = OciConfig(user="33", cmd=("/bin/tool", "a b"), entrypoint=("/bin/su",), workdir="/tmp",
                       env={"A": "1=2"}, labels={"b": "2", "a": "1"}, ports=("80/tcp", "53/udp"))  # fmt: skip
    layout = whole.layout(tmp_path / "oci", export("oci", "gzip", config=config), arch="armhf")
    told = json.loads(said("skopeo", "inspect", "--config", f"oci:{layout}:web"))
    assert told["config"] == {
        "User": "33", "Cmd": ["/bin/tool", "a b"], "Entrypoint": ["/bin/su"], "WorkingDir": "/tmp",
        "Env": ["A=1=2", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Labels": {"a": "1", "b": "2"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}}  # fmt: skip
    assert (told["os"], told["architecture"], told["variant"]) == ("linux", "arm", "v7")
    assert told["created"] == "2023-11-14T22:13:20Z"
    diffs = []
    for number in range(3):
        path = whole.cache.file(whole.blob(number))
        raw = subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout
        diffs.append(f"sha256:{hashlib.sha256(raw).hexdigest()}")
    assert told["rootfs"] == {"type": "layers", "diff_ids": diffs}
    for path in (layout / "blobs/sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    archive = tmp_path / "docker.tar"
    said(
        "skopeo",
        "--override-arch=arm",
        "copy",
        f"oci:{layout}:web",
        f"docker-archive:{archive}:web:1",
    )
    with tarfile.open(archive) as tar:
        assert "manifest.json" in tar.getnames()


@pytest.mark.parametrize("path", [".wh.x", "etc/.wh..wh..opq"])
def test_a_name_that_would_be_a_mark_is_refused(tmp_path: Path, path: str) -> None:
    made = stack(tmp_path, lambda tree: text(tree / path))
    with pytest.raises(
        BuildError, match=r"^specs/web\.yaml: exports: the tree has '.*\.wh\."
    ) as caught:
        made.blob(0)
    assert "rename or remove it" in caught.value.hint
    assert os.listdir(made.builder.scratch) == ["trees"]


def test_a_file_of_holes_that_nobody_could_take_is_refused(tmp_path: Path) -> None:
    def fill(tree: Path) -> None:
        base(tree)
        (tree / "var/log").mkdir(parents=True)
        with (tree / "var/log/lastlog").open("wb") as file:
            file.truncate(9 << 30)

    whole = stack(tmp_path, fill)
    with pytest.raises(BuildError, match=r"exports: /var/log/lastlog has 9 GiB, most of it holes"):
        whole.blob(0)
    assert os.listdir(whole.builder.scratch) == ["trees"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_tree_is_dropped(tmp_path: Path, number: int) -> None:
    """Whichever it is: what is below is read for the folders that it has."""
    whole = made(tmp_path)
    path = whole.cache.file(whole.below[number])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # As a disk loses a bit: nothing that is known of the file tells it.
    entry = whole.cache.get(whole.below[number])
    assert entry is not None
    whole.cache.memory.note(path, entry.sha256)
    with pytest.raises(DamagedEntry, match=path.name):
        whole.blob(1)
    assert not path.exists()
    assert list(whole.cache.root.glob("images/blob*")) == []
    assert os.listdir(whole.builder.scratch) == ["trees"]
