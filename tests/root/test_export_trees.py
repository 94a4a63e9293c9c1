"""Exports of small trees that have all that a tree may have: other tools read the same in each."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from support import stacks
from support.export_trees import (
    CAPABILITY,
    OCI,
    base,
    export,
    made,
    said,
    text,
    unpacked,
)
from support.stacks import Stack, differing, listing, newc, overlaid, stack
from support.trees import mounted
from tasks.errors import BuildError

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, number)
    for tag, rights, number in ((1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (8, 5, 4),
                                (16, 5, 2**32 - 1), (32, 5, 2**32 - 1))
)  # fmt: skip
"""u::rwx g::r-x g:4:r-x m::r-x o::r-x (acl(5), as the kernel stores it)."""


FORMATS = ("tar", "cpio", "squashfs", "erofs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return made(tmp_path_factory.mktemp("whole"))


# ---------------------------------------------------------------- OCI


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
