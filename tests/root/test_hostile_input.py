"""Hostile specs: each value in each field is refused in one message, or is only characters."""

from __future__ import annotations

import copy
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.hostile import CANARY, NUMBERS, STRINGS, Path_, leaves, put
from support.samples import SCHEMA
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.plan.keys import resolution_inputs
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

# ---------------------------------------------------------------- every field of the schema

FULL: dict[str, Any] = {
    "arch": "amd64",
    "base": {"tool": "mmdebstrap", "variant": "apt", "include": ["alpha"]},
    "repos": [{
        "name": "main", "type": "deb", "uri": "${mirror}", "suite": "stable", "section": "main",
        "priority": 500, "keyring": "keys/test.gpg", "trusted": False, "check_valid_until": True,
        "check_rollback": True, "snapshot": "2026-11-20", "pins": [{"packages": "linux-* alpha", "priority": 990}],
        "meta": {"any": "thing"},
    }],
    "packages": ["alpha"],
    "debs": ["debs/*.deb"],
    "layers": [{
        "name": "app", "packages": ["beta"], "debs": ["own.deb"], "debconf": ["beta beta/x string y"],
        "files": {"/etc/motd": "files/motd",
                  "/etc/a": {"source": "files/motd", "owner": "root:root", "mode": "0644"},
                  "/etc/b": {"content": "text"}},
        "script": "scripts/app.sh", "reads": ["hostname"],
    }],
    "reads": ["timezone"],
    "recommends": False,
    "debconf": ["alpha alpha/x string y"],
    "hostname": "web.example.org",
    "timezone": "Europe/Berlin",
    "locale": "de_DE.UTF-8",
    "root_password": "secret",
    "apt_sources": True,
    "proxies": {"http": "http://proxy:1", "https": "http://proxy:2", "direct": ["10.0.0.1"]},
    "images": {
        "/": {"file": "a.img", "format": "ext4", "container": "gzip", "level": "fast",
              "pack": "loop", "label": "root", "uuid": "0b5de6c8-0000-4000-8000-000000000000",
              "options": "-m 1", "size": "1G"},
        "/boot": {"file": "b.img", "format": "ext2", "options": ["-m", "1"], "free": 4096},
    },
}  # fmt: skip
"""A spec that has every field; a test holds that it lacks none of the schema's."""

FULL["layers"][0]["files"]["/etc/c"] = {"template": "files/motd"}
FULL |= {"include": ["part.yaml"], "vars": {"v": "x"}, "variants": {"staging": {"hostname": "x"}},
         "allow_network": True, "locales": ["de_DE.UTF-8"], "fstab": True, "ssh_host_keys": "none",
         "version": "1.0", "sbom": {"files": True}, "provenance": True}  # fmt: skip
FULL["images"]["/"]["max_size"] = "2G"

FULL["base"]["debconf"] = ["a a/b string c"]
FULL["disks"] = {"server": {
    "size": "8G", "slack": "0", "table": "gpt", "firmware": ["uefi", "bios"], "loader": "grub",
    "cmdline": "quiet", "sector": 512, "verity": False,
    "partitions": [
        {"name": "esp", "size": "64M", "mount": "/boot/efi"},
        {"name": "fw", "source": "files/part.img", "type": "linux"},
        {"name": "srv", "mount": "/srv", "size": "1G", "format": "ext4", "label": "s",
         "uuid": "0b5de6c8-0000-4000-8000-000000000001", "options": "-m 1"},
        {"name": "boot", "mount": "/boot", "size": "1G"},
        {"name": "root", "mount": "/", "size": "rest", "grow": True},
    ],
    "files": {"a.qcow2": {"format": "qcow2"}, "a.img.gz": {
        "format": "raw", "container": "gzip", "level": "best", "bmap": True}},
}}  # fmt: skip
FULL["exports"] = {
    "oci": {"format": "oci", "container": "gzip", "level": "fast", "config": {
        "user": "root", "cmd": ["sh"], "entrypoint": ["sh"], "env": {"A": "1"}, "labels": {"a": "b"},
        "workdir": "/srv", "ports": ["80/tcp"]}},
    "nb": {"format": "netboot", "cmdline": "quiet"},
}  # fmt: skip
FULL["tests"] = [{"script": "tests/up.sh", "disk": "server", "firmware": ["uefi"], "timeout": 60,
                  "memory": "1G"}]  # fmt: skip
FULL["docs"] = False

MACHINE = {"groups", "users", "overlays", "units", "services", "scripts", "env", "remove",
           "debconf_file"}  # fmt: skip
"""Fields of layers with bad values of their own: tests/unit/test_machine.py, test_debconf_file.py."""


LEAVES = [*leaves(FULL), ("hashed_root_password",), ("debconf_file",)]


NAMES = {"server", "a.qcow2", "a.img.gz", "oci", "nb"}
"""The user's own in FULL, beside paths."""


def properties(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each property of the schema; `*` stands for the user's names and numbers."""
    if "$ref" in schema:
        schema = {**json.loads(SCHEMA.read_text())["definitions"][schema["$ref"].split("/")[-1]]}
    for name, child in schema.get("properties", {}).items():
        yield (*path, name)
        yield from properties(child, (*path, name))
    for inner in [schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(inner, dict):
            yield from properties(inner, (*path, "*"))
    for choice in schema.get("oneOf", ()):
        yield from properties(choice, path)


def test_the_full_spec_has_every_field_of_the_schema() -> None:
    seen = {
        tuple("*" if isinstance(step, int) or str(step).startswith("/") or step in NAMES else step
              for step in path[:end])
        for path in LEAVES for end in range(1, len(path) + 1)
    }  # fmt: skip
    missing = {path for path in properties(json.loads(SCHEMA.read_text())) if path not in seen}
    # At the top, files and script are what they are in a layer.
    assert {
        path for path in missing if not MACHINE & {*path} and path[0] not in ("files", "script")
    } == set()


def loaded(folder: Path, document: Any) -> Spec | str:
    """The spec, or the one message with which it is refused; anything else is a bug."""
    path, part = folder / "web.yaml", folder / "part.yaml"
    path.unlink(missing_ok=True)  # a new file: to write over one, ext4 waits for the disk
    path.write_text(json.dumps(document))
    if not part.exists():
        part.write_text("{}")
        for name in ("tests/up.sh", "files/part.img"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("#!/bin/sh\n")
    try:
        return load_spec(path, schema=SCHEMA)
    except BuildError as error:
        return str(error)


FREE = {"uri", "keyring", "debconf", "files", "KEY", "script", "root_password", "http", "https", "meta",
        "source", "content", "template", "debs", "debconf_file", "options", "hashed_root_password",
        "label", "pins", "include", "vars", "variants", "cmd", "entrypoint", "A", "a", "workdir",
        "cmdline"}  # fmt: skip
"""Fields that are paths, addresses or text: the rest becomes names, and words of commands."""


def around(path: Path_) -> dict[str, Any]:
    """The least of FULL that has this field: each of some thousand values is in a spec of its own."""
    names = {"repos", "images", "packages", path[0]}
    names |= {"disks"} if path[0] == "tests" else set()
    return copy.deepcopy({name: FULL[name] for name in FULL if name in names})


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


def some(values: Sequence[Any], path: Path_) -> Sequence[Any]:
    """At night all of them; by day a third, and the neighbour in LEAVES gets the next third."""
    return values if NIGHTLY else values[LEAVES.index(path) % 3 :: 3]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_hostile_value_in_each_field(tmp_path: Path, path: Path_) -> None:
    document = around(path)
    plain = not FREE & set(map(str, path)) or path[-1] in ("owner", "mode")
    for value in some([*STRINGS, *([] if path[-1] == "KEY" else NUMBERS)], path):
        found = loaded(tmp_path, put(document, path, value))
        if isinstance(found, str):
            assert found.startswith(f"{tmp_path}/web.yaml"), found
            assert len(found) < 2000
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", found)
            continue
        assert len(resolution_inputs(found)) == 32
        if not isinstance(value, str):
            continue
        assert "\ud800" not in value
        # A variant's fields are looked at once it is wanted, a variable where it stands.
        if path[-1] not in ("root_password", "content", "any") and path[0] not in (
            "vars",
            "variants",
            # What an OCI image's config says is JSON.
            *(["exports"] if "config" in path else []),
        ):
            assert not re.search(r"[\x00-\x1f\x7f]", value), "it can end a line or a name"
        if plain and value.strip():  # a component list may be of spaces, which are removed
            assert not re.search(r"[$`;|&'\"<>(){}*?\[\]#!~%\s\\]|\.\./|^-", value)


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_hostile_variable_in_each_field(tmp_path: Path, path: Path_) -> None:
    """What a name stands for is taken or refused as if it were written there, and is only text."""
    if path[0] in ("include", "vars", "variants") or "meta" in path:
        return  # names stand for nothing there
    least = {**around(path), "vars": dict(FULL["vars"])}
    values = ["../../etc/passwd", "", "a\0b", f"$(touch {CANARY})", "x\nroot_password: evil\n", "a: b",
              "*v", "!!int 1", "{x: y}", "1", "${v}"]  # fmt: skip
    for value in some(values, path):
        least["vars"]["v"] = value
        written = loaded(tmp_path, put(least, path, value.replace("${", "$${")))
        brought = loaded(tmp_path, put(least, path, "${v}"))
        if isinstance(written, str) or isinstance(brought, str):
            assert isinstance(written, str), (value, brought)
            assert isinstance(brought, str), (value, written)
            assert len(brought) < 2000
            if "password" in str(path):
                assert value in ("", "1", "*v") or value not in brought
        else:
            assert brought == written


# ---------------------------------------------------------------- YAML

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)


TEXTS: dict[str, bytes] = {
    "laughs": LAUGHS.encode(),
    "laughing strings": ("s: &s " + "x" * 60_000 + "\nrepos: [" + "*s, " * 50_000 + "]\n").encode(),
    "laughing mappings": ("a: &a {x: 1}\n" + "".join(
        f"b{n}: &b{n} {{x: *{'a' if n == 0 else f'b{n - 1}'}, y: *{'a' if n == 0 else f'b{n - 1}'}}}\n"
        for n in range(40))).encode(),
    "merge keys": b"a: &a {packages: [x]}\n<<: *a\nrepos: []\nimages: {}\n",
    "merge list": b"a: &a {x: 1}\nb: {<<: [*a, *a, *a]}\n",
    "laughing merges": ("x-0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(900)) + "}\n" + "".join(
        f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 30)}]}}\n" for n in range(1, 100))).encode(),
    "merges of much": ("x-0: &a {" + ", ".join(f"k{n}: 1" for n in range(8_000)) + "}\nx-1:\n"
                       + "- {<<: *a}\n" * 10_000).encode(),
    "merge of itself": b"x-0: &a {<<: *a}\n",
    "merge of a text": b"x-0: {<<: abc}\n",
    "merge in a set": b"x-0: &a {b: 1}\nx-1: !!set {<<: *a}\n",
    "omap": b"x-0: !!omap [a: 1]\n",
    "no integer": b"x-0: !!int abc\n",
    "no float": b"x-0: !!float abc\n",
    "deep lists": b"a: " + b"[" * 250_000,
    "deep mappings": b"".join(b" " * n + b"a:\n" for n in range(700)),
    "deep flow": b"a: " + b"{a: " * 60_000,
    "python object": b"a: !!python/object/apply:os.system ['touch /tmp/strata-canary']\n",
    "python name": b"a: !!python/name:os.system\n",
    "python new": b"a: !!python/object/new:subprocess.Popen [[touch, /tmp/strata-canary]]\n",
    "tag": b"%TAG ! tag:example.org,2000:\n---\n!x {a: b}\n",
    "binary": b"packages: !!binary aGk=\nrepos: []\nimages: {}\n",
    "set": b"packages: !!set {x, y}\nrepos: []\nimages: {}\n",
    "duplicate": b"arch: amd64\narch: i386\n",
    "key that is a list": b"? [a, b]\n: c\n",
    "key that is a mapping": b"{{a: b}: c}\n",
    "number as key": b"1: x\n",
    "huge number": b"images: " + b"9" * 100_000 + b"\n",
    "huge hexadecimal": b"images: 0x" + b"f" * 100_000 + b"\n",
    "huge sexagesimal": b"images: 1" + b":59" * 100_000 + b"\n",
    "huge float": b"images: 1e999999\n",
    "latin-1": "packages: [caf\xe9]\n".encode("latin-1"),
    "utf-16": "packages: [x]\n".encode("utf-16"),
    "utf-16 half": b"\xff\xfea",
    "utf-32": b"\xff\xfe\0\0a\0\0\0",
    "surrogate": b'packages: ["\\ud800"]\n',
    "control": b"packages: [\x07]\n",
    "bom twice": b"\xef\xbb\xbf\xef\xbb\xbfa: b\n",
    "date": b"hostname: 9999-99-99\n",
    "only aliases": b"*a\n",
    "recursive": b"&a\nrepos: *a\nimages: *a\n",
    "many documents": b"--- {}\n" * 30_000,
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(25_000)),
    "many anchors": b"".join(b"k%d: &a%d 1\n" % (n, n) for n in range(15_000)),
    "long line": b"a: " + b"x" * 250_000,
    "comment": b"#" * 260_000,
    "quotes": b'a: "' + b"\\n" * 120_000,
    "underscores": b"x-0: 0x_\n",
    "100 MB": b"a" * 100_000_000,
}  # fmt: skip


def test_hostile_yaml(tmp_path: Path) -> None:
    """Each is refused, soon and within little memory, by a process that loads nothing but specs."""
    for name, content in TEXTS.items():
        (tmp_path / f"{name.replace(' ', '-')}.yaml").write_bytes(content)
    code = f"""
import sys, time; sys.path[:0] = [{str(PROJECT)!r}]
from pathlib import Path
from tasks.spec.load import load_spec
from tasks.errors import BuildError
import jsonschema, yaml
# What PyYAML alone takes for as many keys as fit: on a machine as busy as it is just now.
began = time.process_time()
yaml.compose(Path({str(tmp_path / "many-keys.yaml")!r}).read_bytes(), yaml.SafeLoader)
soon = max(2, 2 * (time.process_time() - began))
for path in sorted(Path({str(tmp_path)!r}).glob("*.yaml")):
    began = time.process_time()
    try:
        load_spec(path, schema=Path({str(SCHEMA)!r}))
        print(path.stem, "ACCEPTED")
    except BuildError as error:
        text = str(error)
        assert str(path) in text and len(text) < 2000, text
    except BaseException as error:
        print(path.stem, type(error), str(error)[:200])
    if time.process_time() - began > soon:
        print(path.stem, "took", time.process_time() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20)),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists(CANARY)
