"""A spec: what the schema describes is what it allows, and what YAML says is what is built."""

from __future__ import annotations

import getopt
import hashlib
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import IMAGE, REPO, SCHEMA, load
from tasks.debian import deb822
from tasks.errors import BuildError
from tasks.formats import compress, options
from tasks.formats.table import FILESYSTEMS
from tasks.host import safe
from tasks.plan.containers import CONTAINER_TOOL, ENDING
from tasks.spec import document
from tasks.spec.images import Image
from tasks.spec.load import load_spec
from tasks.spec.model import File, Layer, Spec, address_secrets, masked
from tasks.spec.rules import VARIANTS

PROJECT = SCHEMA.parent.parent


DOCUMENT: dict[str, Any] = json.loads(SCHEMA.read_text())


# Each property of the schema once.
FULL: dict[str, Any] = {
    "arch": "arm64",
    "base": {"tool": "mmdebstrap", "variant": "-", "include": ["ca-certificates"],
             "debconf": ["a a/b string c"]},
    "repos": [
        {"name": "main", "type": "deb", "uri": "${mirror}", "suite": "stable", "section": "main",
         "priority": -1, "keyring": "keys/a.gpg", "trusted": True, "check_valid_until": False,
         "check_rollback": False, "snapshot": "2026-11-20", "pins": [{"packages": "linux-* alpha", "priority": 990}],
         "meta": {"anything": [1, None]}},
    ],
    "packages": ["hello"],
    "debs": ["debs/*.deb"],
    "layers": [
        {"name": "app", "packages": ["nginx"], "debs": ["b.deb"], "debconf": ["tzdata tzdata/Areas select Etc"],
         "files": {"/etc/motd": {"source": "motd", "owner": "root:adm", "mode": "0640"},
                   "/etc/issue": {"content": "hello\n"}},
         "groups": {"web": {"gid": 700, "system": True}},
         "users": {"www": {"uid": 700, "groups": ["web"], "comment": "x", "shell": "/bin/sh",
                           "home": "/srv/www", "hashed_password": "*", "sudo": "nopasswd",
                           "ssh_keys": ["ssh-ed25519 AAAA x"], "system": True}},
         "overlays": [{"source": "rootfs", "owner": "1:2", "modes": {"/a": "0755"}}],
         "units": ["hello.service"], "remove": ["/usr/share/doc/*"],
         "services": {"enable": ["a"], "disable": ["b"], "mask": ["c"]},
         "script": "app.sh", "reads": ["timezone"], "env": {"A": "${hostname}"},
         "scripts": [{"source": "b.sh", "env": {"B": 1}, "network": True}]},
    ],
    "allow_network": True,
    "docs": False,
    "remove": ["/usr/share/locale/*"],
    "reads": ["hostname"],
    "recommends": True,
    "debconf": ["a a/b string c"],
    "hostname": "host.example.org",
    "timezone": "Etc/UTC",
    "locale": "de_DE.UTF-8",
    "locales": ["en_US.UTF-8"],
    "fstab": True,
    "sbom": {"files": True},
    "provenance": True,
    "ssh_host_keys": "first-boot",
    "version": "1.0-rc1",
    "hashed_root_password": "$6$abc$def",
    "apt_sources": True,
    "proxies": {"http": "http://p:1", "https": "http://p:2", "direct": ["10.0.0.1"]},
    "images": {"/": {"file": "a.img.zst", "format": "ext4", "container": "zstd", "level": "best",
                     "pack": "direct", "label": "root", "options": "-m 1", "size": "2G",
                     "uuid": "00000000-0000-4000-8000-00000000ABCD", "max_size": "3G"},
               "/boot": {"file": "b.img", "format": "ext2", "free": "16M"}},
    "disks": {
        "web": {"size": "fit", "slack": "1G", "table": "gpt", "firmware": ["uefi"], "loader": "grub",
                "cmdline": "quiet", "sector": 4096, "verity": False,
                "partitions": [{"name": "esp", "size": "128M", "mount": "/efi"}, {"name": "boot", "mount": "/boot"},
                               {"name": "swap", "size": "1G", "format": "swap", "type": "swap"},
                               {"name": "root", "mount": "/", "size": "rest", "grow": True}],
                "files": {"web.raw.gz": {"format": "raw", "container": "gzip", "level": "best", "bmap": True}}},
    },
    "exports": {
        "web-oci": {"format": "oci", "container": "gzip", "level": "best",
                    "config": {"user": "www-data", "cmd": ["a"], "entrypoint": ["b"], "env": {"A": "b"},
                               "labels": {"a": "b"}, "workdir": "/srv", "ports": [80]}},
        "netboot": {"format": "netboot", "cmdline": "quiet"},
    },
    "tests": [{"script": "up.sh", "disk": "web", "firmware": ["uefi-secure"], "timeout": 9, "memory": "2G"}],
}  # fmt: skip


# ---------------------------------------------------------------- schema


def objects(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part of a schema that describes an object with fields, and where it stands."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield where, schema
        for name, value in schema.items():
            yield from objects(value, f"{where}/{name}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{where}/{number}")


PROPERTIES = {f"{where}/{name}": value for where, schema in objects(DOCUMENT)
              for name, value in schema["properties"].items()}  # fmt: skip

TREE = {where: value for where, value in PROPERTIES.items()
        if not re.match("/properties/(disks|exports|tests)/", where)}  # fmt: skip
"""Those but for what is made of the tree beside images: see test_disks_spec.py."""


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_is_described(name: str) -> None:
    description = PROPERTIES[name].get("description", "")
    assert len(description) > 8
    assert description.endswith(".")


@pytest.mark.parametrize(("where", "schema"), list(objects(DOCUMENT)))
def test_no_object_allows_unknown_properties(where: str, schema: dict[str, Any]) -> None:
    # A user of whom nothing is said is `admin:`, which YAML reads as null.
    assert schema["type"] in ("object", ["object", "null"])
    assert schema["additionalProperties"] is False


MAPS = [(name,) for name in ("files", "images", "users", "groups", "env", "modes", "disks",
                             "exports", "labels")]  # fmt: skip
"""Fields whose own fields are names."""


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in FULL objects with fixed fields stand: not the maps of paths, not `meta`."""
    if where[-1:] == ("meta",):
        return
    if isinstance(value, dict) and where[-1:] not in MAPS:
        yield where
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in pairs:
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*where, step))


@pytest.mark.parametrize("where", list(places(FULL)), ids=lambda where: ".".join(map(str, where)))
def test_unknown_property_is_refused(tmp_path: Path, where: tuple[Any, ...]) -> None:
    document = json.loads(json.dumps(FULL))
    inner = document
    for step in where:
        inner = inner[step]
    inner["surprise"] = "x"
    with pytest.raises(BuildError, match=r"surprise|not valid under any of the given schemas"):
        load(tmp_path, json.dumps(document))


def test_full_document_has_every_property_of_the_schema() -> None:
    known = {name.rpartition("/")[2] for name in PROPERTIES}
    used = {key for where in places(FULL) for key in at(FULL, where)}
    # One excludes hashed_root_password; of several files and names: test_compose.py; debconf_file
    # needs a file: test_debconf_file.py.
    assert known - used == {
        "root_password",
        "vars",
        "variants",
        "template",
        "debconf_file",
        "password",
    }


def at(value: Any, where: tuple[Any, ...]) -> Any:
    for step in where:
        value = value[step]
    return value


def test_full_document_loads(tmp_path: Path) -> None:
    (tmp_path / "up.sh").write_text("true\n")
    full = load(tmp_path, json.dumps(FULL))
    assert [layer.name for layer in full.layers] == ["packages", "app"]
    assert full.layers[0].debconf == ("a a/b string c",)
    assert full.repos[0].meta == {"anything": [1, None]}
    assert full.images[0].uuid == "00000000-0000-4000-8000-00000000abcd"
    assert full.layers[1].files[1].mode == 0o640
    assert full.proxies == {"http": "http://p:1", "https": "http://p:2"}


@pytest.mark.parametrize("path", sorted((PROJECT / "specs").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_spec_loads_and_names_its_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=spec.schema.json"
    loaded = load_spec(path, schema=SCHEMA)
    assert loaded.name == path.stem
    for layer in loaded.layers:
        for source in (
            *(run.path for run in layer.scripts),
            *(file.source for file in layer.files),
        ):
            assert source is None or source.exists()


def test_defaults_of_the_schema_are_those_of_the_code(tmp_path: Path) -> None:
    layer = {"name": "app", "files": {"/a": {"content": ""}}, "users": {"a": None},
             "groups": {"a": None}, "script": "a.sh"}  # fmt: skip
    least = load(tmp_path, layers=[layer])
    found = {
        "arch": least.arch, "recommends": least.recommends, "tool": least.base.tool,
        "variant": least.base.variant, "section": "", "trusted": least.repos[0].trusted,
        "check_valid_until": least.repos[0].check_valid_until, "type": "deb",
        "check_rollback": least.repos[0].check_rollback,
        "owner": least.layers[0].files[0].owner, "apt_sources": least.settings.apt_sources,
        "container": least.images[0].container, "level": least.images[0].level,
        "pack": least.images[0].pack, "allow_network": least.allow_network,
        "sbom": bool(least.sbom), "files": least.sbom == "files", "provenance": least.provenance,
        "docs": least.settings.docs,
        "network": least.layers[0].scripts[0].network, "sudo": bool(least.layers[0].users[0].sudo),
        "system": least.layers[0].users[0].system and least.layers[0].groups[0].system,
    }  # fmt: skip
    stated = {name.rpartition("/")[2]: value["default"]
              for name, value in TREE.items() if "default" in value}  # fmt: skip
    assert stated == found


def test_the_least_spec_sets_nothing_else(tmp_path: Path) -> None:
    least = load(tmp_path)
    assert least.layers == ()
    assert not least.settings
    assert (least.proxies, least.direct, least.secrets, least.foreign) == ({}, (), (), ())
    assert least.images[0].size is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("variant", set(deb822.VARIANTS)),
        ("variant", {name for names in VARIANTS.values() for name in names}),
        ("tool", set(VARIANTS)),
        ("format", set(FILESYSTEMS)),
        ("container", set(compress.CONTAINERS)),
        ("container", set(ENDING)),
        ("container", set(CONTAINER_TOOL)),
        ("level", set(compress.LEVELS)),
    ],
)
def test_choices_of_the_schema_are_those_of_the_code(name: str, values: set[str]) -> None:
    (found,) = (value["enum"] for where, value in TREE.items() if where.endswith("/" + name))
    assert set(found) == values


# ---------------------------------------------------------------- images


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


def test_the_schema_says_which_options_are_permitted() -> None:
    text = DOCUMENT["properties"]["images"]["additionalProperties"]["properties"]["options"]
    rows = {row.tool: row.permitted for row in FILESYSTEMS.values()}
    for tool, permitted in rows.items():
        said = re.search(rf"{re.escape(tool)}: ([^.]*)\.", text["description"])
        assert said is not None
        assert sorted(said[1].split()) == sorted(permitted), tool


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://host/debian", "http://host/debian"),
        ("http://user:secret@host/debian", "http://***@host/debian"),
        ("https://token@host:8443", "https://***@host:8443"),
        ("http://user:p%40ss:word@host/x@y", "http://***@host/x@y"),
        ("http://user:@host/", "http://***@host/"),
        ("file:///srv/user@host", "file:///srv/user@host"),
        ("http://user:p@ss@host/", "http://***@host/"),
        ("HTTP://user:pass@host/", "HTTP://***@host/"),
        ("s3://KEY:secret@bucket/x", "s3://***@bucket/x"),
        ("a oci+http://user:secret@host/x", "a oci+http://***@host/x"),
    ],
)
def test_user_and_password_of_an_address_are_masked(uri: str, shown: str) -> None:
    assert masked(f"E: '{uri}' failed") == f"E: '{shown}' failed"
    assert masked(uri, tuple(address_secrets(uri))) == shown


def test_secrets_of_a_spec_are_its_passwords_and_users(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        root_password="rooty",
        repos=[{**REPO, "uri": "https://me:lookhere@host/debian"}],
        proxies={"http": "http://proxyuser@proxy:3128"},
    )
    assert set(loaded.secrets) == {"rooty", "me:lookhere", "lookhere", "proxyuser"}
    text = masked("login me password lookhere, rooty:$6$, by proxyuser", loaded.secrets)
    assert text == "login me password ***, ***:$6$, by ***"


def test_a_secret_within_another_leaves_no_part_of_it(tmp_path: Path) -> None:
    loaded = load(tmp_path, root_password="abc",
                  repos=[{**REPO, "uri": "http://user:xabcx@host/debian"}])  # fmt: skip
    assert masked("xabcx", loaded.secrets) == "***"


# ---------------------------------------------------------------- packages and files


@pytest.mark.parametrize(
    ("package", "foreign"),
    [
        ("wine32:i386", ("i386",)),
        ("libc6:i386=2.36-9", ("i386",)),
        ("libc6:i386-", ("i386",)),
        ("libc6:armhf/stable", ("armhf",)),
        ("libc6:amd64", ()),
        ("python3:any", ()),
        ("tzdata:all", ()),
        ("gcc:native", ()),
        ("g++", ()),
        ("libc6=1:2.3-4", ()),
    ],
)
def test_foreign_architectures_are_those_asked_for(
    tmp_path: Path, package: str, foreign: tuple[str, ...]
) -> None:
    assert load(tmp_path, packages=[package]).foreign == foreign
    assert load(tmp_path, base={"include": [package]}).foreign == foreign


def test_foreign_architectures_are_sorted_and_once_each(tmp_path: Path) -> None:
    names = ["bb:i386", "aa:armhf", "aa:i386", "cc:arm64"]
    assert load(tmp_path, arch="arm64", packages=names).foreign == ("armhf", "i386")


def test_sources_are_beside_the_spec_then_in_the_project(tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    for path in (specs / "both", tmp_path / "both", tmp_path / "project"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = {"/1": "both", "/2": "project", "/3": "nowhere", "/4": "/etc/hostname"}
    (layer,) = load(specs, layers=[{"name": "app", "files": names}]).layers
    assert [file.source for file in layer.files] == [
        specs / "both", tmp_path / "project", specs / "nowhere", Path("/etc/hostname"),
    ]  # fmt: skip


# ---------------------------------------------------------------- YAML

PLAIN = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main}
layers:
  - name: app
    packages: [one, two]
    files: {/etc/motd: {content: "Grüße\\n"}}
images:
  /: {file: a.img.gz, format: ext4}
  /boot: {file: b.img.gz, format: ext2}
"""


SAME = {
    "other order": """\
images: {/boot: {format: ext2, file: b.img.gz}, /: {format: ext4, file: a.img.gz}}
layers: [{packages: [one, two], name: app, files: {/etc/motd: {content: "Grüße\\n"}}}]
repos: [{section: main, suite: stable, uri: '${mirror}', name: main}]
""",
    "anchors": PLAIN.replace("packages: [one, two]", "packages: &list [one, two]").replace(
        "- name: app", "- &app\n    name: app"
    ),
    "block scalar": PLAIN.replace('{/etc/motd: {content: "Grüße\\n"}}',
                                  "\n      /etc/motd:\n        content: |\n          Grüße"),
    "markers and comments": "%YAML 1.1\n---\n# a comment\n" + PLAIN + "...\n",
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "slash after the address": PLAIN.replace("${mirror}", "${mirror}/"),
    "JSON": json.dumps(
        {
            "repos": [REPO],
            "layers": [{"name": "app", "packages": ["one", "two"],
                        "files": {"/etc/motd": {"content": "Grüße\n"}}}],
            "images": {"/": IMAGE, "/boot": {"file": "b.img.gz", "format": "ext2"}},
        },
        indent=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_ways_to_write_the_same_spec(tmp_path: Path, name: str) -> None:
    expected = load(tmp_path, PLAIN)
    assert expected.layers == (
        Layer(name="app", packages=("one", "two"),
              files=(File(target="/etc/motd", source=None, content="Grüße\n", owner="root:root",
                          mode=None),)),
    )  # fmt: skip
    assert load(tmp_path, SAME[name]) == expected


def test_alias_stands_for_what_its_anchor_names(tmp_path: Path) -> None:
    text = PLAIN.replace("[one, two]", "&list [one, two]").replace(
        "images:", "  - {name: next, packages: *list}\nimages:"
    )
    assert [layer.packages for layer in load(tmp_path, text).layers] == [("one", "two")] * 2


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ('["no", "on", "1e3"]', ("no", "on", "1e3")),
        ("[7zip, 0ad, 2to3]", ("7zip", "0ad", "2to3")),
        ("[g++, libstdc++6, 'nano-', vim=2:9.0.1378-2+deb12u2]",
         ("g++", "libstdc++6", "nano-", "vim=2:9.0.1378-2+deb12u2")),
        ("[]", ()),
    ],
)  # fmt: skip
def test_package_names_that_yaml_might_misread(
    tmp_path: Path, text: str, packages: tuple[str, ...]
) -> None:
    (layer,) = load(tmp_path, PLAIN.replace("[one, two]", text)).layers
    assert layer.packages == packages


@pytest.mark.parametrize("text", ["[no]", "[1]", "[2024-01-01]", "[~]", "[1.5]"])
def test_what_yaml_reads_as_something_else_than_a_name_is_refused(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(BuildError, match=r"layers\[0\]\.packages\[0\]"):
        load(tmp_path, PLAIN.replace("[one, two]", text))


def test_aliases_of_aliases_are_counted_before_they_are_written_out(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    with pytest.raises(BuildError, match="more than 100000 values"):
        load(tmp_path, bomb + PLAIN)


# ---------------------------------------------------------------- the schema's memory


def test_a_text_is_validated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def validate(given: document.Document, schema: bytes, *, where: Path) -> None:
        seen.append(schema)

    monkeypatch.setattr("tasks.spec.load.validate", validate)
    schema = tmp_path / "schema.json"
    schema.write_bytes(SCHEMA.read_bytes())
    path = tmp_path / "web.yaml"

    def again(text: str) -> Spec:
        path.write_text(text)
        return load_spec(path, schema=schema, validated=tmp_path / "validated")

    assert again(PLAIN) == again(PLAIN)
    assert len(seen) == 1
    again(PLAIN + "# changed\n")
    assert len(seen) == 2
    schema.write_bytes(SCHEMA.read_bytes() + b"\n")
    again(PLAIN)
    assert len(seen) == 3


def test_a_bad_text_stays_bad(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(PLAIN + "surprise: 1\n")
    for _attempt in range(2):
        with pytest.raises(BuildError, match="surprise"):
            load_spec(path, schema=SCHEMA, validated=tmp_path / "validated")


@pytest.mark.parametrize("kind", ["file", "executable", "link", "folder", "fifo"])
def test_what_a_commit_brings_counts_for_no_validation(tmp_path: Path, kind: str) -> None:
    path, validated = tmp_path / "web.yaml", tmp_path / "validated"
    path.write_text(PLAIN)
    load_spec(path, schema=SCHEMA, validated=validated)
    (stamp,) = validated.iterdir()
    assert safe.noted(stamp)
    path.write_text(PLAIN + "surprise: 1\n")
    text = path.read_bytes() + b"\0" + SCHEMA.read_bytes()
    planted = validated / hashlib.sha256(text).hexdigest()
    if kind in ("file", "executable"):
        planted.touch()
        planted.chmod(0o644 if kind == "file" else 0o700)
    elif kind == "link":
        planted.symlink_to(stamp)
    elif kind == "folder":
        planted.mkdir(mode=0o500)
    else:
        os.mkfifo(planted, 0o400)
    with pytest.raises(BuildError, match="surprise"):
        load_spec(path, schema=SCHEMA, validated=validated)
    assert not safe.noted(planted)
    assert not safe.noted(validated / "missing" / "stamp")


def test_a_stamp_that_a_commit_brought_is_made_anew(tmp_path: Path) -> None:
    path, validated = tmp_path / "web.yaml", tmp_path / "validated"
    path.write_text(PLAIN)
    load_spec(path, schema=SCHEMA, validated=validated)
    (stamp,) = validated.iterdir()
    stamp.chmod(0o644)
    load_spec(path, schema=SCHEMA, validated=validated)
    assert safe.noted(stamp)
