"""An image's size, and the options of its mkfs: what is permitted, what is refused, and what is said of it."""

from __future__ import annotations

import getopt
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import IMAGE, load
from tasks.errors import BuildError
from tasks.formats import options
from tasks.formats.table import FILESYSTEMS
from tasks.spec.images import Image


def image(folder: Path, **fields: Any) -> Image:
    return load(folder, images={"/": {**IMAGE, **fields}}).images[0]


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (1, 1),
        (4096, 4096),
        ("4096", 4096),
        ("4K", 4 << 10),
        ("300M", 300 << 20),
        ("2G", 2 << 30),
        ("1k", 1 << 10),
        ("1T", 1 << 40),
        ("512MiB", 512 << 20),
        ("4GB", 4 * 10**9),
        ("7kB", 7000),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
    ],
)
def test_size_is_in_bytes_or_units_of_1024(tmp_path: Path, given: str | int, size: int) -> None:
    assert image(tmp_path, size=given).size == size
    assert image(tmp_path, free=given).free == size


@pytest.mark.parametrize(
    "given",
    [
        0,
        -1,
        1.5,
        True,
        None,
        "",
        "0",
        "0M",
        "M",
        "-1",
        "1.5",
        "0.0G",
        ".5G",
        "1P",
        "1 G",
        "1G\n",
        "1iB",
        "1Mi",
        "0100",
        "0x10",
        "1e9",
        "0.0001K",
    ],
)
@pytest.mark.parametrize("name", ["size", "free"])
def test_other_sizes_are_refused(tmp_path: Path, name: str, given: object) -> None:
    with pytest.raises(BuildError, match=name):
        image(tmp_path, **{name: given})


def test_size_and_free_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="only one of size and free"):
        image(tmp_path, size="1G", free="1G")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("", ()),
        ([], ()),
        ("-m 1 -i 8192", ("-m", "1", "-i", "8192")),
        (["-m", "1", "-i", "8192"], ("-m", "1", "-i", "8192")),
        ("  -O  ^has_journal,uninit_bg ", ("-O", "^has_journal,uninit_bg")),
        ("-E stride=16,stripe_width=64", ("-E", "stride=16,stripe_width=64")),
    ],
)
def test_mkfs_options_are_a_string_or_a_list(
    tmp_path: Path, given: object, options: tuple[str, ...]
) -> None:
    assert image(tmp_path, options=given).options == options


@pytest.mark.parametrize("given", ["-m 1; reboot", "$(id)", "a\nb", "'-m 1'", "/dev/sda", ["-m 1"],
                                   [""], [1], {"-m": 1}])  # fmt: skip
def test_other_mkfs_options_are_refused(tmp_path: Path, given: object) -> None:
    with pytest.raises(BuildError, match="options"):
        image(tmp_path, options=given)


PERMITTED = {
    "ext4": [
        "-b4096 -O^64bit", "-b 1024 -I 128 -i 8192 -m 0.5 -N 1000 -r 1", "-C 65536 -O bigalloc",
        "-g 8192 -G 16 -e remount-ro -M mnt -o linux -T small,news", "-j", "-j -Jsize=4",
        "-J size=4,location=1M,fast_commit_size=256", "-E stride=2,stripe_width=4 -Elazy_itable_init",
        "-E root_owner=1:2,hash_seed=00000000-0000-4000-8000-000000000000", "-b-1024",
    ],
    "xfs": ["-b size=1024 -m crc=0,finobt=0 -K", "-d agcount=2,su=64k,sw=2 -i size=512,sparse=0",
            "-l internal,size=64m -n size=8192,ftype=1 -s size=512", "-bsize=1k -ssize=4k -dnoalign"],
    "btrfs": ["-n 16k -s 4096 -O no-holes -R free-space-tree -M -m dup -d single -K",
              "--nodesize=16k --sectorsize 4096 --features=^no-holes,extref --mixed",
              "--metadata=single --data single --csum=xxhash", "--checksum sha256 -n16384"],
    "vfat": ["-a -F 32 -s1 -S512 -r 512 -R 32 -f 1", "-A -b 6 -D 128 -h 63 -M 0xF8 -g 255/63",
             "--codepage=437 --variant standard --mbr"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "given"), [(k, v) for k, all_ in PERMITTED.items() for v in all_])
def test_options_that_shape_the_filesystem_are_permitted(
    tmp_path: Path, kind: str, given: str
) -> None:
    words = given.split()
    for form in (given, words):
        assert image(tmp_path, format=kind, options=form).options == tuple(words)


# Each is what one mkfs takes for the name of a file, folder or device, then what Strata gives itself.
REFUSED = {
    "ext2": ["-J device=new.py", "-d .."],
    "ext3": ["-z undo.py", "-l bad"],
    "ext4": [
        "-d ..", "-d..", "-l bad", "-lbad", "-z undo.py", "-zundo.py", "-J device=new.py",
        "-Jdevice=new.py", "-J size=4,device=LABEL=x", "-J size=4,,device=x", "-jd ..", "-jzundo.py",
        "-O journal_dev", "-O ^64bit,journal_dev", "-E android_sparse", "-E stride=2,android_sparse", "-E offset=4096", "-R offset=4096",
        "4096", "-m 1 new.py", "new.py -m 1", "-j new.py", "-- new.py", "-", "--", "--help", "--bogus",
        "-F", "-q", "-v", "-V", "-n", "-S", "-c", "-D", "-K", "-t ext2", "-L x", "-U clear", "-sd ..",
    ],
    "xfs": [
        "-l file=1,name=new.py,size=70m", "-lname=new.py", "-l size=70m,name=new.py", "-l logdev=new.py",
        "-c options=new.py", "-coptions=new.py", "-p new.py", "-pnew.py", "-d name=new.py",
        "-d file,name=new.py,size=1g", "-dname=new.py", "-r name=new.py", "-r rtdev=new.py",
        "-r extsize=64k", "-d size=1g", "-m uuid=x", "-m crc=0,uuid=x", "-Kp new.py", "-b ,size=1k",
        "-L x", "-f", "-q", "-N", "-V", "new.py", "-K new.py", "--unsupported",
    ],
    "btrfs": [
        "-r ..", "-r..", "--rootdir ..", "--rootdir=..", "--root=..", "--r=..", "-Mr ..", "-M new.py",
        "--subvol=x", "--inode-flags=nodatacow:x", "--shrink", "--reflink", "-b 1g", "--byte-count=1g",
        "--node=16k", "--nodesize= new.py", "--mixed=1", "--mixed new.py", "-L x", "--label=x", "-U x",
        "--uuid=x", "-f", "--force", "-V", "new.py", "-n 16k new.py",
    ],
    "vfat": [
        "-l bad", "-lbad", "-m new.py", "-mnew.py", "-m-", "-C new.py", "-am new.py", "-c", "-I",
        "-i 12345678", "-n x", "-v", "--offset=8", "--offset 8", "--invariant", "--help", "--mbr=y",
        "2048", "-F 32 2048", "--code=437", "new.py",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "given"), [(k, v) for k, all_ in REFUSED.items() for v in all_])
def test_options_that_name_a_file_or_are_not_known_are_refused(
    tmp_path: Path, kind: str, given: str
) -> None:
    with pytest.raises(
        BuildError, match=r"images\./\.options: '\S.*' (is not one of|takes a value)"
    ):
        image(tmp_path, format=kind, options=given.split())


@pytest.mark.parametrize(
    ("kind", "given", "message", "hint"),
    [
        ("ext4", "-m 1 -d ..", "'-d' is not one of the options that mke2fs may be given",
         "-b, -C, -e, -G, -g, -I, -i, -M, -m, -N, -O, -o, -r, -T, -j, -J, -E may be given: "
         "nothing that names a file or a device"),
        ("xfs", "-n size=8k,log=3",
         "'-n log' is not one of the options that mkfs.xfs may be given",
         "of -n, ftype, parent, size, version may be given: nothing that names a file or a device"),
        ("btrfs", "--label=x", "'--label' is not one of the options that mkfs.btrfs may be given",
         "set the image's `label` instead"),
        ("vfat", "2048", "'2048' is not one of the options that mkfs.vfat may be given", "-b, -D"),
        ("ext2", "-m", "'-m' takes a value", "as the next word"),
        ("ext2", "-m -j", "'-m' takes a value", "in the same one if it begins with `-`"),
    ],
)  # fmt: skip
def test_what_is_said_of_an_option(
    tmp_path: Path, kind: str, given: str, message: str, hint: str
) -> None:
    with pytest.raises(BuildError) as caught:
        image(tmp_path, format=kind, options=given)
    assert caught.value.message == f"{tmp_path}/web.yaml: images./.options: {message}"
    assert hint in caught.value.hint


# What each program tells getopt(3) and getopt_long(3): e2fsprogs 1.47, xfsprogs 6.1, btrfs-progs
# 6.17, dosfstools 4.2.
GETOPT: dict[str, tuple[str, list[str]]] = {
    "mke2fs": ("b:cd:e:g:i:jl:m:no:qr:s:t:vC:DE:FG:I:J:KL:M:N:O:R:ST:U:Vz:", []),
    "mkfs.xfs": ("b:c:d:i:l:L:m:n:KNp:qr:s:CfV", []),
    "mkfs.btrfs": ("A:b:fl:n:s:m:d:L:R:O:r:U:VvMKqu:", [
        "byte-count=", "csum=", "checksum=", "force", "label=", "metadata=", "mixed", "nodesize=",
        "sectorsize=", "data=", "version", "rootdir=", "subvol=", "inode-flags=", "nodiscard",
        "features=", "runtime-features=", "uuid=", "device-uuid=", "quiet", "verbose", "shrink",
        "compress=", "reflink", "help",
    ]),
    "mkfs.vfat": ("aAb:cCf:D:F:g:Ii:l:m:M:n:r:R:s:S:h:v", [
        "codepage=", "invariant", "mbr", "offset=", "variant=", "help",
    ]),
}  # fmt: skip


ROUNDS = 20_000 if os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1" else 1_500
"""How many lines of options are drawn, the same ones in each run."""


@pytest.mark.parametrize("kind", sorted(FILESYSTEMS))
def test_mkfs_reads_the_permitted_words_as_the_spec_did(tmp_path: Path, kind: str) -> None:
    """Whatever words come together: the image is the one bare word, and no other option is seen."""
    draw = random.Random(kind)
    row = FILESYSTEMS[kind]
    tool = row.tool
    short, long = GETOPT[tool]
    known = {f"-{letter}" for letter in short if letter != ":"} | {
        f"--{name.rstrip('=')}" for name in long
    }
    subs = [f"{sub}=1" for takes in row.permitted.values() if isinstance(takes, tuple)
            for sub in takes]  # fmt: skip
    names = [*known, *row.permitted, *row.permitted]
    making = samples.making(tmp_path, kind)
    accepted = 0
    for _round in range(ROUNDS):
        words = []
        for _word in range(draw.randint(1, 4)):
            value = draw.choice([*subs, "1", "1", "new.py", "-d", "-Ex", "", "--", "-j"])
            name = draw.choice(names)
            words += draw.choice(
                [[name], [name, value], [name + value], [f"{name}={value}"], [value]]
            )
        words = [word for word in words if word]  # as the schema wants it
        try:
            options.check_options(words, row, "x")
        except BuildError:
            continue
        accepted += 1
        fill = "tree" if tool == "mke2fs" else ""
        argv = row.argv(replace(making, options=tuple(words)), fill)
        found, bare = getopt.gnu_getopt(argv[1:], short, long)
        assert bare == [str(making.raw)], argv
        own = {"mke2fs": "-q -F -t -U -d", "mkfs.xfs": "-q -f", "mkfs.btrfs": "-q -f -U",
               "mkfs.vfat": "--invariant -i"}[tool].split()  # fmt: skip
        assert {name for name, _value in found} <= {*own, *row.permitted}, argv
        for name, value in found:
            assert name != "-d" or tool != "mke2fs" or value == "tree", argv
            takes = row.permitted.get(name)
            if isinstance(takes, tuple) and value != "uuid=id":
                assert {part.partition("=")[0] for part in value.split(",")} <= set(takes), argv
    assert accepted > ROUNDS / 70
