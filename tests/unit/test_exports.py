"""Exports: their stages and keys, an image's papers, bundles, what iPXE runs, where a push goes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import disks, samples
from support.entries import DIGESTS
from support.samples import record
from tasks.builder import Builder
from tasks.commands.push_oci import CAUSES, Place, chosen, explained, place, published
from tasks.errors import BuildError, CommandFailed, DamagedEntry
from tasks.formats import bundle
from tasks.host import strict
from tasks.plan.exports import export_stages
from tasks.plan.lockfile import Lock
from tasks.plan.plan import make_plan
from tasks.plan.stage import Host, Plan, Product, Stage
from tasks.spec.disks import Export, OciConfig
from tasks.spec.model import Spec
from tasks.stages import items, oci
from tasks.stages.export import netboot_script

Case = tuple[Spec, Lock, Host]

OCI = {"web-oci": {"format": "oci"}}

ALL: dict[str, Any] = {
    **OCI, "web.tar.zst": {"format": "tar", "container": "zstd"},
    "web.squashfs": {"format": "squashfs"},
}  # fmt: skip


def case(folder: Path, exports: dict[str, Any] = ALL, name: str = "web", **fields: Any) -> Case:
    spec = samples.load(folder, **{
        "packages": ["one"], "layers": [{"name": "app", "packages": ["three"]}],
        "fstab": False, "images": {"/": samples.IMAGE}, "exports": exports, **fields})  # fmt: skip
    spec = replace(spec, name=name, images=())
    lock = samples.lock([record("apt")], {"packages": [record("one")], "app": [record("three")]})
    return spec, lock, samples.host(spec)


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


# ---------------------------------------------------------------- bundles

FILES: dict[str, bytes | Path] = {"index.json": b"{}", "blobs/sha256/ab": b"x" * 3000, "empty": b""}


def test_a_bundle_holds_its_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"of a file" * 1000)
    files = {**FILES, "vmlinuz": tmp_path / "from"}
    found = bundle.write(tmp_path / "one", files)
    again = bundle.write(tmp_path / "two", dict(reversed(files.items())))
    assert found == again
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    listed = bundle.listed(json.loads(json.dumps(found)))
    for name, (sha256, size) in listed.items():
        with (tmp_path / "one").open("rb") as file:
            content = bundle.reader(file, name).read()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, size)
    assert listed.keys() == files.keys()
    with tarfile.open(tmp_path / "one") as tar:
        assert {(one.mtime, one.uid, one.uname, one.mode) for one in tar} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"../x": ["0" * 64, 1]}, "no plain name: '../x'"),
        ({"/etc/passwd": ["0" * 64, 1]}, "no plain name"),
        ({"a/../b": ["0" * 64, 1]}, "no plain name"),
        ({"a//b": ["0" * 64, 1]}, "no plain name"),
        ({".hidden": ["0" * 64, 1]}, "no plain name"),
        ({"a\nb": ["0" * 64, 1]}, "no plain name"),
        ({"": ["0" * 64, 1]}, "no plain name"),
        ({"a/b/c/d/e/f": ["0" * 64, 1]}, "no plain name"),
        ({"a" * 101: ["0" * 64, 1]}, "no plain name"),
        ({"a": ["0" * 63, 1]}, "sha256 is malformed"),
        ({"a": ["0" * 64, -1]}, "size is malformed"),
        ({"a": ["0" * 64, True]}, "size is malformed"),
        ({"a": ["0" * 64]}, "expected a digest and a size"),
        ({"a": "0" * 64}, "expected a list"),
        ({"a": ["0" * 64, 1], "a/b": ["0" * 64, 1]}, "as a file and as a folder"),
        ([], "expected a mapping"),
        (None, "expected a mapping"),
    ],
)
def test_what_no_bundle_lists(files: Any, part: str) -> None:
    with pytest.raises(strict.Damaged, match=r"^its file") as caught:
        bundle.listed(files)
    assert part in str(caught.value)


def hostile(kind: bytes, name: str = "index.json") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    return raw.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar" * 1000, bytes(10240), hostile(tarfile.SYMTYPE), hostile(tarfile.LNKTYPE),
     hostile(tarfile.DIRTYPE), hostile(tarfile.CHRTYPE), hostile(tarfile.REGTYPE, "../index.json"),
     hostile(tarfile.REGTYPE, "/index.json")],
)  # fmt: skip
def test_a_bundle_without_the_file(content: bytes) -> None:
    with pytest.raises(strict.Damaged, match=r"^the bundle "):
        bundle.reader(io.BytesIO(content), "index.json")


@pytest.mark.parametrize("at", range(0, 512, 37))
def test_a_bundles_first_header_has_a_sum(tmp_path: Path, at: int) -> None:
    bundle.write(tmp_path / "one", FILES)
    content = bytearray((tmp_path / "one").read_bytes())
    for bit in (1, 64, 128):
        content[at] ^= bit
        for name in FILES:
            with pytest.raises(strict.Damaged):
                bundle.reader(io.BytesIO(bytes(content)), name)
        content[at] ^= bit


# ---------------------------------------------------------------- what is published of them


def published_bundle(tmp_path: Path, files: Any = ...) -> tuple[Builder, Plan, Stage]:
    """A cache that has the bundle of an export, with these facts of it."""
    builder = disks.builder(tmp_path / "build")
    spec, lock, host = case(tmp_path / "spec", {"net": {"format": "squashfs"}})
    plan = make_plan(spec, lock, host)
    (stage,) = [one for one in plan.stages if one.kind == "export"]
    facts: dict[str, Any] = {"raw": DIGESTS, "packed": DIGESTS}
    with builder.cache.put(stage, facts) as target:
        facts["files"] = bundle.write(target, FILES)
        facts["files"] = facts["files"] if files is ... else files
    product = Product(name="net", stage=stage, folder=True)
    return builder, replace(plan, products=(product,), tops=(stage,)), stage


def test_each_file_of_a_bundle_is_published_by_its_path(tmp_path: Path) -> None:
    builder, plan, _stage = published_bundle(tmp_path)
    found = list(items.items(plan, items.entries(plan, builder.cache)))
    assert [one.path for one in found] == ["net/blobs/sha256/ab", "net/empty", "net/index.json"]
    for one in found:
        items.copy(one, tmp_path / "copy", builder.cache, lambda _text: None)
        assert (tmp_path / "copy").read_bytes() == FILES[one.member]


@pytest.mark.parametrize("files", [{"../../x": ["0" * 64, 1]}, None, [], {"a": 1}])
def test_a_record_with_hostile_files_is_dropped(tmp_path: Path, files: Any) -> None:
    builder, plan, stage = published_bundle(tmp_path, files)
    with pytest.raises(DamagedEntry, match=rf"{stage.entry}\.json: .*; it is dropped"):
        items.entries(plan, builder.cache)
    assert builder.cache.get(stage) is None


def copied(found: Sequence[items.Item], to: Path, builder: Builder) -> None:
    for one in found:
        items.copy(one, to, builder.cache, lambda _text: None)


@pytest.mark.parametrize("at", [0, 600, 1100, -1])
def test_a_damaged_bundle_is_dropped_when_it_is_copied(tmp_path: Path, at: int) -> None:
    builder, plan, stage = published_bundle(tmp_path)
    found = list(items.items(plan, items.entries(plan, builder.cache)))
    path = builder.cache.file(stage)
    content = bytearray(path.read_bytes())
    content = content[:600] if at < 0 else content
    for byte in range(at, min(at + 200, len(content))) if at >= 0 else ():
        content[byte] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DamagedEntry, match="it is dropped"):
        copied(found, tmp_path / "copy", builder)
    assert builder.cache.get(stage) is None


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


# ---------------------------------------------------------------- push-oci


@pytest.mark.parametrize(
    ("text", "expected", "plain"),
    [
        ("registry.example.org/team/web:1.0", "registry.example.org/team/web:1.0", False),
        ("docker://registry.example.org/web", "registry.example.org/web:latest", False),
        ("127.0.0.1:5000/a/b:x_1", "127.0.0.1:5000/a/b:x_1", True),
        ("localhost/web:1", "localhost/web:1", True),
        ("localhost:5000/web", "localhost:5000/web:latest", True),
        ("[::1]:5000/web:1", "[::1]:5000/web:1", True),
        ("127.0.0.1.example.org/web:1", "127.0.0.1.example.org/web:1", False),
        ("registry:5000/web:1", "registry:5000/web:1", False),
    ],
)
def test_where_a_push_goes(text: str, expected: str, plain: bool) -> None:
    found = place(text)
    assert (str(found), found.plain) == (expected, plain)


@pytest.mark.parametrize(
    "text",
    ["web:1.0", "team/web:1.0", "registry.example.org", "registry.example.org/Web:1", "h.org/web:",
     "h.org/web:-x", "https://h.org/web", "h.org//web", "h.org/web:1 --foo", "-h.org:x/web",
     "h.org:0/web", "h.org:70000/web", "h.org/../web", "h.org/web\n", "h.org/" + "a" * 600,
     "oci:/etc/passwd"],
)  # fmt: skip
def test_what_is_no_place_in_a_registry(text: str) -> None:
    with pytest.raises(BuildError, match="no place in a registry") as caught:
        place(text)
    assert "registry.example.org/team/web:1.0" in caught.value.hint
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["user:s3cret@h.org/web:1", "h.org/web@sha256:" + "0" * 64])
def test_a_login_or_a_digest_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(BuildError, match="neither a login nor a digest") as caught:
        place(text)
    assert text not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_to_is_needed() -> None:
    with pytest.raises(BuildError, match="push-oci: where is it to go"):
        place("")


def test_which_export_is_meant(tmp_path: Path) -> None:
    spec = case(tmp_path)[0]
    assert chosen(spec, "").name == chosen(spec, "web-oci").name == "web-oci"
    for name, part in (("web.squashfs", "in another format than oci"), ("x", "has no such export")):
        with pytest.raises(BuildError, match=part) as caught:
            chosen(spec, name)
        assert caught.value.hint == "it has web-oci"
    two = replace(spec, exports=(*spec.exports, Export(name="b", format="oci", container="gzip")))
    with pytest.raises(BuildError, match="several OCI exports") as caught:
        chosen(two, "")
    assert caught.value.hint == "export= one of web-oci, b"
    with pytest.raises(BuildError, match="there is no export with format: oci"):
        chosen(replace(spec, exports=spec.exports[1:]), "")


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "nothing is published there yet"), (b"", "no image's index"), (b"[]", "no image's index"),
     (b'{"manifests": []}', "no image's index"), (b'{"manifests": [{"digest": "x"}]}', "no image's index"),
     (b'{"manifests": [{}]}', "no image's index"), (b"\xff", "no image's index")],
)  # fmt: skip
def test_nothing_that_could_be_pushed(tmp_path: Path, content: bytes | None, part: str) -> None:
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(BuildError, match=f"^out/web/oci.*{part}") as caught:
        published(tmp_path, "out/web/oci", "web")
    assert caught.value.hint == "strata build spec=web publishes it"


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("unauthorized: authentication required", "it wants a login"),
        ("denied: requested access to the resource is denied", "may not write team/web"),
        ("dial tcp: lookup h.org on 1.2.3.4:53: no such host", "no such host is known"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "nobody listens there"),
        ("http: server gave HTTP response to HTTPS client", "it speaks HTTP"),
        ("x509: certificate signed by unknown authority", "is not believed here"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "it does not answer"),
    ],
)
def test_what_skopeo_says_is_told_in_a_line(said: str, part: str) -> None:
    error = CommandFailed("pushing failed", status=1, output=f'level=fatal msg="{said}"')
    told = explained(error, Place(host="h.org", name="team/web", tag="1"), "web")
    assert told.message.startswith("h.org/team/web:1: ")
    assert part in told.message
    assert told.hint
    assert "{" not in str(told)
    assert len(CAUSES) > 7


def test_what_nobody_knows_is_told_in_skopeos_words() -> None:
    error = CommandFailed("pushing failed", status=1, output="something new")
    assert explained(error, Place(host="h.org", name="web", tag="1"), "web") is error
