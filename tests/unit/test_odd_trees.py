"""Names that are syntax elsewhere, attributes of any bytes, holes: in the image as in the tree."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from support.filesystems import make, shown
from support.trees import mounted
from support.world import World
from tasks.formats import ext_bytes, ext_xattrs
from tasks.host import holes
from tasks.host.log import Log
from tasks.rootfs import clean, measure, tarball

pytestmark = pytest.mark.starts

NAMES = ["<2>", "<11>", "-rf", " lead", "trail ", "new\nline", 'quo"te', "it's", "tab\tx", "\\", "@x",
         "a,b=c:d", "#", "%41", "$(x)", "*", "[a]", "~", "ä", "\udcff", ".", "x" * 255]  # fmt: skip
NAMES.remove(".")


ATTRIBUTES = {
    "user.b": b"\n13 size=100000\n", "user.a": b"", "user.x=y": b"12 path=evil\n", "user.%3D": b"%",
    "user.new\nline": b"\0\xff", "user.ä": b"1", "user.<2>": b"v" * 90, 'user."q" z': b"w" * 300,
}  # fmt: skip


SCRIPT = """\
#!/usr/bin/perl
use strict;
for my $top ("/srv", "/opt") {
    mkdir "$top/d"; mkdir "$top/<2>.d";
    for my $hex (qw(%s)) {
        my $name = pack("H*", $hex);
        for my $path ("$top/d/$name", "$top/<2>.d") {
            unless (-d $path) { open(my $file, ">", $path) or die "$path: $!"; print $file $name; }
            for my $pair (qw(%s)) {
                my ($key, $value) = map { pack("H*", $_) } split(/:/, $pair);
                syscall(188, $path, my $k = $key, my $v = $value, length($value), 0) == 0
                    or die "$path: $key: $!";
            }
        }
    }
    open(my $big, ">", "$top/big") or die; truncate($big, 90 << 30);
    seek($big, 5 << 30, 0); print $big "middle\\n"; close($big);
    open(my $swap, ">", "$top/swap") or die; print $swap "\\0" x (1 << 20); close($swap);
}
mkdir "/boot"; open(my $kernel, ">", "/boot/kernel"); print $kernel "k";
"""


def script() -> str:
    pairs = [f"{name.encode().hex()}:{value.hex()}" for name, value in ATTRIBUTES.items()]
    return SCRIPT % (" ".join(os.fsencode(name).hex() for name in NAMES), " ".join(pairs))


def attributes(path: Path) -> dict[str, bytes]:
    """All that a file has."""
    return {name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)}  # fmt: skip


@pytest.mark.root
def test_odd_names_attributes_and_holes_are_in_the_image(built: World, tmp_path: Path) -> None:
    """Of a base with 90 GB of nothing in it: within seconds, and small at each step."""
    built.write("scripts/app.sh", script(), 0o755)
    spec = (built.root / "specs/web.yaml").read_text().partition("images:")[0]
    built.write("odd.yaml", spec + "images:\n"
        "  /: {file: root.img.gz, format: ext2}\n"
        "  /srv: {file: srv.img, format: ext4, container: raw}\n"
        "  /opt: {file: opt.img, format: ext4, container: raw, pack: direct, size: 200M}\n")  # fmt: skip
    began = time.monotonic()
    built.build(spec="odd")
    assert time.monotonic() - began < 120
    for mount, name in (("/srv", "srv.img"), ("/opt", "opt.img")):
        raw = built.root / "out/odd" / name
        assert raw.stat().st_size <= 200 << 20
        assert subprocess.run(["e2fsck", "-fn", raw], check=False).returncode == 0
        with mounted(raw, tmp_path / "m") as point:
            assert sorted(os.listdir(point / "d")) == sorted(NAMES)
            for path in [point / "<2>.d", *(point / "d" / name for name in NAMES)]:
                assert attributes(path) == ATTRIBUTES, path
                assert path.is_dir() or path.read_bytes() == os.fsencode(path.name)
            assert attributes(point) == attributes(point / "d") == {}
            info = (point / "big").stat()
            assert (info.st_size, info.st_blocks) == (90 << 30, 8)
            with (point / "big").open("rb") as file:
                file.seek((5 << 30) - 2)
                assert file.read(10) == b"\0\0middle\n\0"
            # A swap file may have no hole; mke2fs -d leaves one for each block of zeros.
            assert holes.sparse((point / "swap").stat()) is (mount == "/opt")
        (tmp_path / "m").rmdir()
    # What is published has the holes that the image has, and what is told of it is what it takes.
    opt = built.root / "out/odd/opt.img"
    assert opt.stat().st_size == 200 << 20
    assert holes.used(opt) < 40 << 20
    told = {stage["name"]: stage["bytes"] for stage in built.json("odd")["stages"]}
    assert told["/opt"] < 40 << 20
    images = yaml.safe_load((built.root / "out/odd/odd.yaml").read_text())["images"]
    assert [one["raw_size"] for one in images if one["mount"] == "/opt"] == [200 << 20]
    # From a tarball, and made anew, on another filesystem: the same bytes.
    first = {name: (built.root / "out/odd" / name).read_bytes() for name in ("srv.img", "opt.img")}
    layers = {path.name: path.read_bytes() for path in built.root.glob("cache/layers/*.zst")}
    app = next(stage["key"] for stage in built.json("odd")["stages"] if stage["name"] == "app")
    (tmp_path / "on disk, a=b: c").mkdir()
    elsewhere = {"STRATA_SCRATCH": str(tmp_path / "on disk, a=b: c")}
    for gone in ("cache/images/image-*", f"cache/l*/layer-{app}*"):
        for pattern in ("cache/images/image-*", gone):
            for path in built.root.glob(pattern):
                path.unlink()
        built.build("lock=keep", spec="odd", **elsewhere)
        again = {name: (built.root / "out/odd" / name).read_bytes() for name in first}
        assert again == first
    again = {path.name: path.read_bytes() for path in built.root.glob("cache/layers/*.zst")}
    assert {name: again.get(name) == layers[name] for name in layers} == dict.fromkeys(layers, True)


BESIDE = """\
#!/usr/bin/perl
my $path = "/srv/x"; mkdir "/boot"; mkdir "/srv"; open(my $file, ">", $path);
for my $name ("user.a", "user.b") {
    my ($key, $value) = ($name, "v" x 5000);
    syscall(188, $path, $key, $value, length($value), 0) == 0 or die "$key: $!";
}
"""


@pytest.mark.root
def test_attributes_that_no_order_holds_are_told(built: World) -> None:
    """Values in inodes of their own: mke2fs -d numbers these as it comes to them."""
    built.write("scripts/app.sh", BESIDE, 0o755)
    built.edit("format: ext4}", "format: ext4, pack: direct, options: [-O, ea_inode]}")
    built.edit("  /boot: {file: web-boot.img.gz, format: ext2}\n", "")
    built.refused("specs/web.yaml: images./.pack: direct cannot lay out", "use pack: loop")


# ---------------------------------------------------------------- attributes


@pytest.mark.parametrize(
    "options", [(), ("-I", "128"), ("-I", "1024"), ("-O", "inline_data"), ("-b", "1024")]
)
def test_attributes_are_laid_out_by_name(tmp_path: Path, options: Sequence[str]) -> None:
    found: set[bytes] = set()
    for number, names in enumerate((sorted(ATTRIBUTES), sorted(ATTRIBUTES, reverse=True))):
        top = tmp_path / str(number)
        top.mkdir()
        for name in ("<2>", "new\nline", "one", "none"):
            (top / name).write_text("x")
            for key in {"none": [], "one": ["user.a"]}.get(name, names):
                os.setxattr(top / name, key, ATTRIBUTES[key])
            os.utime(top / name, (5, 5))
        os.utime(top, (5, 5))
        raw = tmp_path / f"{number}.raw"
        groups = make(raw, top, *options)
        count = 3 if "inline_data" in options else 2  # its content is one of them
        assert ext_xattrs.order(raw, groups) == count
        before = raw.read_bytes()
        assert ext_xattrs.order(raw, groups) == count
        assert raw.read_bytes() == before
        ext_bytes.settle(raw, groups, 1_000_000_000)
        check = subprocess.run(["e2fsck", "-fn", raw], check=False, capture_output=True, text=True)
        assert check.returncode == 0, check.stdout
        inode = (
            shown(raw, "debugfs", "-R", "ls -p /")
            .split("/<2>/")[0]
            .rpartition("\n")[2]
            .split("/")[1]
        )
        for key, value in ATTRIBUTES.items():
            if '"' not in key and "\n" not in key:
                got = tmp_path / "value"
                got.unlink(missing_ok=True)
                shown(raw, "debugfs", "-R", f"ea_get -f {got} <{inode}> {key}")
                assert got.read_bytes() == value
        found.add(raw.read_bytes())
    assert len(found) == 1


def test_attributes_share_the_inode_and_the_block_by_name_alone() -> None:
    made = [ext_xattrs.Attribute(index=1, name=name, value=b"x" * size)
            for name, size in ((b"a", 40), (b"b", 10), (b"c", 60), (b"d", 1))]  # fmt: skip
    made.append(ext_xattrs.Attribute(index=7, name=b"data", value=b"inline"))
    results = {
        tuple(tuple(one.name for one in part) for part in ext_xattrs.share(order, 100, 200))
        for order in itertools.permutations(made)
    }
    assert results == {((b"data", b"a"), (b"b", b"c", b"d"))}
    with pytest.raises(ext_xattrs.Unordered):
        ext_xattrs.share(made, 10, 50)


# ---------------------------------------------------------------- holes


def test_holes_are_those_of_any_filesystem(tmp_path: Path) -> None:
    def settled(
        name: str, size: int, *parts: tuple[int, bytes]
    ) -> tuple[bool, list[tuple[int, int]]]:
        path = tmp_path / name
        with path.open("wb") as file:
            for at, content in parts:
                file.seek(at)
                file.write(content)
            file.truncate(size)
        before = path.read_bytes() if size < 1 << 24 else b""
        os.sync()
        found = holes.settle(os.fspath(path), path.stat())
        assert before == (path.read_bytes() if before else b"")
        with path.open("rb") as file:
            return found, list(holes.data(file.fileno(), size))

    mib = 1 << 20
    # Written zeros beside a hole are one; without any hole they are content.
    assert settled("mixed", 4 * mib, (0, b"x" * mib + bytes(mib))) == (True, [(0, mib)])
    assert settled("zeros", 4 * mib, (0, bytes(4 * mib))) == (False, [(0, 4 * mib)])
    assert settled("none", 90 << 30) == (True, [])
    # One that is not worth it is filled.
    assert settled("small", 100_000, (0, b"x" * 40_000), (50_000 + 4096, b"y" * 40_000))[0] is False
    assert not holes.sparse((tmp_path / "small").stat())
    assert holes.taken(os.fspath(tmp_path / "mixed"), (tmp_path / "mixed").stat()) == mib


@pytest.mark.root
@pytest.mark.parametrize("size", [8192, 1 << 20])  # filled, and punched
def test_settling_holes_takes_no_capability_or_mode(tmp_path: Path, size: int) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service+ep
    path = tmp_path / "ping"
    with path.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(size)
    os.sync()
    path.chmod(0o6755)
    os.setxattr(path, "security.capability", capability)
    os.setxattr(path, "user.mine", b"1")
    assert holes.settle(os.fspath(path), path.stat()) is (size > holes.LEAST)
    assert os.getxattr(path, "security.capability") == capability
    assert os.getxattr(path, "user.mine") == b"1"
    assert path.stat().st_mode & 0o7777 == 0o6755


def test_blocks_that_touch_are_no_list(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(b"x" * (8 << 20))
        file.truncate(16 << 20)
    os.sync()
    tracemalloc.start()
    assert holes.settle(os.fspath(path), path.stat())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A list of 2048 ranges would take more than a quarter of a MiB beside the two chunks.
    assert peak < (2 << 20) + (128 << 10)
    with path.open("rb") as file:
        assert list(holes.data(file.fileno(), 16 << 20)) == [(0, 8 << 20)]


def test_a_tarball_keeps_holes_and_depends_on_content_alone(tmp_path: Path) -> None:
    made: set[bytes] = set()
    for number, zeros in enumerate((True, False)):
        top = tmp_path / str(number)
        top.mkdir()
        with (top / "big").open("wb") as file:
            file.write(b"begin")
            file.seek(1 << 20)
            file.write(bytes(8192) if zeros else b"")
            file.truncate(20 << 30)
        rare = clean.clamp_times(top, 1000, clean.begun(tmp_path))
        assert rare == clean.Rare(several_xattrs=False, sparse=True)
        assert (top / "big").stat().st_mtime == 1000
        assert measure.measured(top) == (4096, False)
        target = tmp_path / f"{number}.tar.zst"
        with Log(None) as log:
            tarball.pack(top, target, log, rare=rare)
        made.add(target.read_bytes())
        assert target.stat().st_size < 4096
    assert len(made) == 1
    subprocess.run(["tar", "-C", tmp_path, "-xf", target, "./big"], check=True)
    assert ((tmp_path / "big").stat().st_size, holes.used(tmp_path / "big")) == (20 << 30, 4096)


# ---------------------------------------------------------------- vfat
