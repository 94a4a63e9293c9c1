"""Exports of small trees that have all that a tree may have: other tools read the same in each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support import stacks
from support.stacks import Stack, differing, gone, listing, newc, opaque, overlaid, stack
from support.trees import mounted
from tasks.errors import BuildError, DamagedEntry
from tasks.spec.disks import Export, OciConfig

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
"""cap_net_raw=ep (capabilities(7), vfs_cap_data of revision 2)."""

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, number)
    for tag, rights, number in ((1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (8, 5, 4),
                                (16, 5, 2**32 - 1), (32, 5, 2**32 - 1))
)  # fmt: skip
"""u::rwx g::r-x g:4:r-x m::r-x o::r-x (acl(5), as the kernel stores it)."""

ODD = os.fsdecode(b"caf\xe9 \n\\x")

FORMATS = ("tar", "cpio", "squashfs", "erofs")


def text(path: Path, content: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(content or f"{path.name}\n"))
    path.chmod(mode)
    return path


def base(tree: Path) -> None:
    tool = text(tree / "usr/bin/tool", mode=0o755)
    os.setxattr(tool, "security.capability", CAPABILITY)
    os.setxattr(text(tree / "usr/bin/ping", mode=0o755), "security.capability", CAPABILITY)
    text(tree / "usr/bin/su", mode=0o4755)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "dangling").symlink_to("/no/such/ö")
    os.link(text(tree / "usr/share/a"), tree / "usr/share/b")
    os.link(tree / "usr/share/a", tree / "opened")
    text(tree / "usr/share" / ODD)
    text(tree / ("long-" * 30) / ("name-" * 30) / ("ü" * 100))
    with (tree / "sparse").open("wb") as file:
        file.seek(4 << 20)
        file.write(b"x" * 5000)
        file.truncate(9 << 20)
    os.mkfifo(tree / "usr/fifo", 0o640)
    os.mknod(tree / "usr/null", 0o20666, os.makedev(1, 3))
    os.chown(text(tree / "var/www/page", mode=0o600), 33, 70_000)
    os.setxattr(tree / "var/www/page", "user.note", b"a\0b=c\n")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    for name in ("one", "two"):
        text(tree / "etc/conf.d" / name)
        text(tree / "opt/gone" / name)
        text(tree / "opt/hidden" / name)
    text(tree / "srv/file")
    (tree / "lib").symlink_to("usr")
    old = text(tree / "old")
    os.utime(old, ns=(0, 1_234_567_890_123_456_789))
    os.utime(tree / "dangling", (0, -7.0), follow_symlinks=False)
    (tree / "empty").touch()


def middle(tree: Path) -> None:
    (tree / "opt").mkdir()
    gone(tree / "opt/gone")
    (tree / "etc/conf.d").mkdir(parents=True)
    gone(tree / "etc/conf.d/one")
    text(opaque(tree / "opt/hidden") / "new")
    text(opaque(opaque(tree / "fresh") / "below") / "file")
    text(tree / "srv", "a file now\n")
    text(opaque(tree / "lib") / "a-folder-now")
    text(tree / "usr/bin/tool", "another\n", 0o700)
    tree.chmod(0o751)


def top(tree: Path) -> None:
    (tree / "opt").mkdir()
    text(opaque(tree / "opt/gone") / "three")
    text(tree / "usr/top")
    gone(tree / "empty")
    tree.chmod(0o755)


def made(folder: Path, **how: Any) -> Stack:
    return stack(folder, base, middle, top, **how)


def export(format: str, container: str = "raw", **fields: Any) -> Export:
    return Export(name=f"web.{format}", format=format, container=container, **fields)


OCI = export("oci", "gzip", config=OciConfig(user="33", cmd=("/bin/tool",), ports=("80/tcp",)))


def said(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, check=False)
    told = done.stdout.decode(errors="replace")
    assert done.returncode == 0, told + done.stderr.decode(errors="replace")
    return told


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return made(tmp_path_factory.mktemp("whole"))


def unpacked(layout: Path, to: Path, name: str = "web") -> Path:
    """The root of an image, as umoci unpacks it."""
    said("umoci", "unpack", "--image", f"{layout}:{name}", to)
    return to / "rootfs"


# ---------------------------------------------------------------- OCI


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


# ---------------------------------------------------------------- files


def test_a_tar_is_the_tree(whole: Stack, tmp_path: Path) -> None:
    path = whole.export(export("tar", "zstd"))
    root = tmp_path / "root"
    root.mkdir()
    said("tar", "--extract", "--zstd", "--file", path, "--directory", root, "--numeric-owner",
         "--same-permissions", "--xattrs", "--xattrs-include=*", "--delay-directory-restore")  # fmt: skip
    with overlaid(whole, tmp_path / "tree") as tree:
        assert differing(listing(root), listing(tree)) == {}
    assert (root / "sparse").stat().st_blocks * 512 < 1 << 20


def test_a_squashfs_is_the_tree_but_for_acls(whole: Stack, tmp_path: Path) -> None:
    path = whole.export(export("squashfs"))
    said("unsquashfs", "-quiet", "-no-progress", "-dest", tmp_path / "root", path)
    with overlaid(whole, tmp_path / "tree") as tree:
        wanted = listing(tree, mtime="s")
        found = listing(tmp_path / "root", mtime="s")
    wanted[b"dangling"] = found[b"dangling"]  # its times are from 1970 on
    assert not differing(found, wanted), differing(found, wanted)


def test_an_erofs_is_the_tree(whole: Stack, tmp_path: Path) -> None:
    """As the kernel shows it: what this fsck.erofs unpacks has neither attributes nor links."""
    path = whole.export(export("erofs"))
    said("fsck.erofs", path)
    with overlaid(whole, tmp_path / "tree") as tree, mounted(path, tmp_path / "erofs") as root:
        wanted = listing(tree)
        found = listing(root)
    wanted[b"dangling"] = found[b"dangling"]  # its times are from 1970 on
    assert not differing(found, wanted), differing(found, wanted)


def test_a_cpio_is_the_tree_but_for_attributes(whole: Stack, tmp_path: Path) -> None:
    path = whole.export(export("cpio", "gzip"))
    raw = subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout
    with overlaid(whole, tmp_path / "tree") as tree:
        wanted = listing(tree, mtime="s", without=["user.", "security."])
    found = newc(raw)
    wanted[b"dangling"] = found[b"dangling"]  # its times are from 1970 on
    assert not differing(found, wanted), differing(found, wanted)


@pytest.mark.parametrize("format", [*FORMATS, "oci"])
def test_the_same_bytes_elsewhere_in_another_order(
    whole: Stack, tmp_path: Path, fast_scratch: dict[str, str], format: str
) -> None:
    """The second time from a tmpfs, whose folders and attributes are listed in another order."""
    one = export(format, "gzip" if format == "oci" else "raw")
    scratch = Path(fast_scratch.get("STRATA_SCRATCH", tmp_path)) / f"exports-{format}"
    other = made(tmp_path / "other", scratch=scratch)
    try:
        found = [made_of.export(one).read_bytes() for made_of in (whole, other)]
        assert found[0] == found[1]
        assert len(found[0]) > 2_000
        assert sorted(os.listdir(scratch)) == (["trees"])
    finally:
        shutil.rmtree(scratch)


# ---------------------------------------------------------------- what a form has no place for


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    def fill(tree: Path) -> None:
        journal = tree / "var/log/journal"
        journal.mkdir(parents=True)
        os.setxattr(journal, "system.posix_acl_access", ACL)
        os.setxattr(text(tree / "ping"), "security.capability", CAPABILITY)
        os.setxattr(tree / "ping", "user.x", b"1")

    whole = stack(tmp_path, fill)
    for format in FORMATS:
        whole.said.clear()
        path = whole.export(export(format))
        said_of = " ".join(whole.said)
        if format == "tar":
            assert said_of == ""
        elif format == "cpio":
            assert said_of == (
                "warning: exports.web.cpio: cpio does not hold security.capability, "
                "system.posix_acl_access, user.x, which /ping and 1 more have"
            )
        else:
            other = "erofs may hold the extended attributes in another order"
            assert (other in said_of) == (format == "erofs")
            assert ("/ping has: not the same bytes" in said_of) == (format == "erofs")
            acls = "squashfs does not hold system.posix_acl_access, which /var/log/journal has"
            assert (acls in said_of) == (format == "squashfs")
        if format == "tar":
            with tarfile.open(path) as tar:
                held = {one.name: one.pax_headers for one in tar}
            assert "SCHILY.xattr.system.posix_acl_access" in held["./var/log/journal"]
    layout = whole.layout(tmp_path / "oci", OCI)
    root = unpacked(layout, tmp_path / "bundle")
    assert os.getxattr(root / "var/log/journal", "system.posix_acl_access") == ACL


def test_a_file_too_large_for_a_cpio_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(tree: Path) -> None:
        with (tree / "large").open("wb") as file:
            file.truncate(1 << 32)

    whole = stack(tmp_path, fill)
    with pytest.raises(BuildError) as caught:
        whole.export(export("cpio"))
    assert str(caught.value) == (
        "specs/web.yaml: exports.web.cpio: /large has 4.0 GiB, and a cpio holds files of less than "
        "4 GiB\n  take another format: tar, squashfs or erofs"
    )
    assert os.listdir(whole.builder.scratch) == ["trees"]


def test_something_private_below_is_private_above(tmp_path: Path) -> None:
    for private in (False, True):
        whole = made(tmp_path / str(private), private=private)
        job = whole.job(OCI)
        whole.export(OCI)
        entry = whole.cache.require(job.stage)
        assert entry.facts["private"] is private
        assert whole.cache.require(job.blobs[0]).facts["private"] is private
        assert {"format", "container", "files", "raw", "packed"} <= entry.facts.keys()


# ---------------------------------------------------------------- booted over a network


def test_netboot_has_kernel_initrd_root_and_script(tmp_path: Path) -> None:
    def fill(tree: Path) -> None:
        base(tree)
        for name in ("vmlinuz-6.1.0-9-amd64", "initrd.img-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64",
                     "initrd.img-6.1.0-10-amd64"):  # fmt: skip
            text(tree / "boot" / name)

    whole = stack(tmp_path, fill)
    one = export("netboot", cmdline="console=ttyS0  quiet")
    job = whole.job(one)
    whole.export(one)
    entry = whole.cache.require(job.stage)
    stacks.unbundled(entry.path, entry.facts, tmp_path / "net")
    assert sorted(os.listdir(tmp_path / "net")) == [
        "boot.ipxe",
        "initrd",
        "root.squashfs",
        "vmlinuz",
    ]
    assert (tmp_path / "net/vmlinuz").read_text() == "vmlinuz-6.1.0-10-amd64\n"
    assert (tmp_path / "net/initrd").read_text() == "initrd.img-6.1.0-10-amd64\n"
    assert "usr/bin/tool" in said("unsquashfs", "-l", tmp_path / "net/root.squashfs")
    script = (tmp_path / "net/boot.ipxe").read_text()
    assert script.startswith("#!ipxe\n")
    assert "fetch=${base}root.squashfs console=ttyS0 quiet\n" in script
    bare = stack(tmp_path / "bare", base)
    with pytest.raises(BuildError, match=r"exports\.web\.netboot: the tree has no kernel"):
        bare.export(one)
