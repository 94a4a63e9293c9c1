"""Exports of small stacked trees: the same bytes on any filesystem, small where the tree has holes."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.builder import Builder, Reach
from tasks.errors import BuildError
from tasks.formats import compress
from tasks.host.files import digest_of
from tasks.host.log import Log
from tasks.plan.containers import ENDING
from tasks.plan.keys import key
from tasks.plan.stage import Stage
from tasks.plan.top_jobs import BlobJob, ExportJob
from tasks.rootfs import clean, tarball
from tasks.rootfs.overlay import Trees
from tasks.spec.disks import Export
from tasks.stages import blob, export
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

EPOCH = 1_700_000_000

ODD = b"\xff\xc3\xa4 new\nline"

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *one)
    for one in ((1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF),
                (32, 4, 0xFFFFFFFF))
)  # fmt: skip
"""u::rw-,u:1000:r--,g::r--,m::r--,o::r-- (linux/posix_acl_xattr.h)."""

SEVERAL = {"user.c": b"3", "user.a": b"\0\xff", "user.b": b"12 path=evil\n"}


def base(tree: Path) -> None:
    """What lies below."""
    for name in ("etc/old.d", "etc/kept.d", "usr/bin", "var/gone", "srv"):
        (tree / name).mkdir(parents=True)
    for name in (
        "etc/old.d/hidden",
        "etc/kept.d/a",
        "etc/kept.d/removed",
        "var/gone/x",
        "srv/file",
    ):
        (tree / name).write_text(name)
    (tree / "usr/bin/tool").write_bytes(b"tool" * 5000)
    os.link(tree / "usr/bin/tool", tree / "usr/bin/link")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/tool").chmod(0o4755)
    os.chown(tree / "etc/kept.d/a", 1000, 70000)
    os.setxattr(tree / "srv/file", "user.one", b"1")
    os.setxattr(tree / "srv/file", "trusted.x", b"not for others")
    os.utime(tree / "srv/file", ns=(EPOCH * 10**9 - 123_456_789,) * 2)


def top(tree: Path, order: int = 1) -> None:
    """What lies on it, as overlayfs writes it down; attributes are given in an order or another."""
    for name in ("etc/old.d", "etc/kept.d", "etc/new.d", "var", "opt"):
        (tree / name).mkdir(parents=True)
    os.mknod(tree / "etc/kept.d/removed", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(tree / "var/gone", stat.S_IFCHR, os.makedev(0, 0))
    for name in ("etc/old.d", "etc/new.d"):
        os.setxattr(tree / name, "trusted.overlay.opaque", b"y")
    (tree / "etc/old.d/seen").write_text("seen")
    (tree / "etc/new.d/b").write_text("b")
    Path(os.fsdecode(os.fsencode(tree / "opt") + b"/" + ODD)).write_bytes(ODD)
    os.mkfifo(tree / "opt/fifo")
    os.mknod(tree / "opt/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for name, value in list(SEVERAL.items())[::order]:
        os.setxattr(tree / "etc/new.d/b", name, value)
    os.setxattr(tree / "etc/new.d/b", "system.posix_acl_access", ACL)
    with (tree / "opt/sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"middle")
        file.truncate(100 << 20)
    tree.chmod(0o751)


def packed(cache: Cache, stage: Stage, tree: Path) -> None:
    """A tree as a stage of the tree leaves it in the cache."""
    rare = clean.clamp_times(tree, EPOCH, EPOCH * 10**9 + 1)
    with cache.put(stage, {"epoch": EPOCH, "size": 1 << 20, "private": False}) as target:
        tarball.pack(tree, target, Log(None), rare=rare)


class Place:
    """A cache with two trees, one on the other, and a machine that makes stages of them."""

    def __init__(self, folder: Path, order: int = 1, scratch: Path | None = None) -> None:
        self.said: list[str] = []
        self.scratch = (scratch or folder) / "scratch"
        (self.scratch / "trees").mkdir(parents=True)
        self.cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
        self.below = tuple(
            Stage(kind=kind, name=kind, key=key(kind), inputs={}, suffix=".tar.zst")
            for kind in ("base", "layer")
        )
        for stage in self.below:
            tree = folder / stage.name
            tree.mkdir(mode=0o755)
            if stage.kind == "base":
                base(tree)
            else:
                top(tree, order)
            packed(self.cache, stage, tree)
        self.builder = self.machine()

    def machine(self) -> Builder:
        """One that has nothing at hand."""
        trees = Trees(self.scratch / "trees", self.cache)
        return Builder(
            cache=self.cache, scratch=self.scratch, trees=trees, log=Log(None),
            reach=Reach(arch="amd64"), state=self.scratch, say=self.said.append,
        )  # fmt: skip

    def stage(self, kind: str, name: str, suffix: str, **inputs: Any) -> Stage:
        inputs = {"name": name, **inputs}
        return Stage(kind=kind, name=name, key=key([kind, inputs]), inputs=inputs, suffix=suffix)

    def blobs(self, container: str = "gzip") -> tuple[Stage, ...]:
        made = []
        for number, tree in enumerate(self.below):
            stage = self.stage("blob", f"{tree.name}.{container}", f".tar{ENDING[container]}")
            blob.build(
                BlobJob(stage=stage, spec="specs/web.yaml", arch="amd64", tree=tree, level="default",
                        container=container, below=self.below[: number + 1]),
                self.builder,
            )  # fmt: skip
            made.append(stage)
        return tuple(made)

    def exported(self, form: str, suffix: str, **fields: Any) -> Path:
        """The file of an export, made."""
        blobs = fields.pop("blobs", ())
        made = Export(name=f"web.{form}", format=form, **{"container": "raw", **fields})
        stage = self.stage("export", made.name, suffix)
        export.build(
            ExportJob(stage=stage, spec="specs/web.yaml", arch="amd64", export=made, name="web",
                      blobs=blobs, made_of=blobs, below=() if blobs else self.below),
            self.builder,
        )  # fmt: skip
        return self.cache.file(stage)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


def test_no_name_leads_out_of_a_blob(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "escaped").write_text("x")
    with place.cache.put(place.below[1], {"epoch": EPOCH, "size": 1}) as target:
        packing = ["tar", "-cPf", str(target), "--no-recursion", "-C", str(tmp_path / "layer"), "."]
        subprocess.run([*packing, "../escaped"], check=True)
    with pytest.raises(BuildError) as told:
        place.blobs()
    assert "which leads out of it" in told.value.message
    assert not list(place.scratch.glob("blob-*"))


def test_the_holes_of_a_file_take_no_room_in_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer's tar is as large as its files, whatever of them is holes: 100 MiB here."""
    place = Place(tmp_path)
    taken: list[tuple[int, int]] = []

    def compressed(source: Path, target: Path, **options: Any) -> compress.Packed:
        info = source.stat()
        taken.append((info.st_size, info.st_blocks * 512))
        return packs(source, target, **options)

    packs = compress.compress
    monkeypatch.setattr(compress, "compress", compressed)
    place.blobs("zstd")
    assert taken[1][0] > 100 << 20
    assert taken[1][1] < 1 << 20


def test_a_squashfs_by_a_tar_is_the_tree(place: Place, tmp_path: Path) -> None:
    """Where a file has several attributes, mksquashfs reads a tar, whose root it leaves out."""
    made = place.exported("squashfs", ".squashfs")
    said = subprocess.run(["unsquashfs", "-no-progress", "-d", tmp_path / "out", made], check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert "created 1 fifo" in said.stdout
    root = tmp_path / "out"
    info = root.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, int(info.st_mtime)) == (0o751, 0, EPOCH)
    found = root / "etc/new.d/b"
    assert {name: os.getxattr(found, name) for name in os.listxattr(found)} == SEVERAL
    assert sorted(os.listxattr(root / "srv/file")) == ["trusted.x", "user.one"]
    sparse = (root / "opt/sparse").stat()
    assert (sparse.st_size, sparse.st_blocks * 512 < 1 << 20) == (100 << 20, True)
    with (root / "opt/sparse").open("rb") as file:
        file.seek(64 << 20)
        assert file.read(8) == b"middle\0\0"
    assert os.path.samefile(root / "usr/bin/link", root / "usr/bin/tool")
    assert ODD in os.listdir(os.fsencode(root / "opt"))
    assert not (root / "var/gone").exists()
    assert os.listdir(root / "etc/old.d") == ["seen"]


FORMS = {"tar": ".tar", "squashfs": ".squashfs", "erofs": ".erofs", "cpio": ".cpio"}


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder on a tmpfs, whose attributes and names come in another order."""
    folder = tmp_path / "tmpfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256M", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.nightly
def test_the_same_bytes_on_another_filesystem(
    place: Place, tmp_path: Path, in_memory: Path
) -> None:
    other = Place(tmp_path, order=-1, scratch=in_memory / "scratch")
    for form, suffix in FORMS.items():
        made = [one.exported(form, suffix) for one in (place, other)]
        same = digest_of(made[0].open("rb")) == digest_of(made[1].open("rb"))
        told = all(any("another order" in line for line in one.said) for one in (place, other))
        assert same or (form == "erofs" and told), form
        assert made[0].stat().st_blocks * 512 < 1 << 20, form
    first, second = ([one.cache.require(blob).sha256 for blob in one.blobs()]
                     for one in (place, other))  # fmt: skip
    assert first == second
