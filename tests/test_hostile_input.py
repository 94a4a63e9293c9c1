"""Hostile specs, locks and cache entries, and secrets: refused in one message or built harmlessly."""

from __future__ import annotations

import copy
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PROJECT
from samples import SCHEMA
from tasks.errors import BuildError
from tasks.plan import resolution_inputs
from tasks.spec import Spec, load_spec

# ---------------------------------------------------------------- every field of the schema

FULL: dict[str, Any] = {
    "arch": "amd64",
    "base": {"tool": "mmdebstrap", "variant": "apt", "include": ["alpha"]},
    "repos": [{
        "name": "main", "type": "deb", "uri": "${mirror}", "suite": "stable", "section": "main",
        "priority": 500, "keyring": "keys/test.gpg", "trusted": False, "check_valid_until": True,
        "meta": {"any": "thing"},
    }],
    "packages": ["alpha"],
    "layers": [{
        "name": "app", "packages": ["beta"], "debconf": ["beta beta/x string y"],
        "files": {"/etc/motd": "files/motd",
                  "/etc/a": {"source": "files/motd", "owner": "root:root", "mode": "0644"},
                  "/etc/b": {"content": "text"}},
        "script": "scripts/app.sh",
    }],
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

Path_ = tuple[Any, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of each scalar, and of each key of a mapping whose keys are the user's."""
    if isinstance(value, dict):
        for key, child in value.items():
            if str(key).startswith("/"):
                yield (*path, key, "KEY")
            yield from leaves(child, (*path, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from leaves(child, (*path, number))
    else:
        yield path


def put(document: Any, path: Path_, value: Any) -> Any:
    """The document with another value, or another key, at a path."""
    document = copy.deepcopy(document)
    at = document
    renaming = path[-1] == "KEY"
    for step in path[: -2 if renaming else -1]:
        at = at[step]
    if renaming:
        at[value] = at.pop(path[-2])
    else:
        at[path[-1]] = value
    return document


LEAVES = [*leaves(FULL), ("hashed_root_password",)]


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
        tuple("*" if isinstance(step, int) or str(step).startswith("/") else step for step in path[:end])
        for path in LEAVES for end in range(1, len(path) + 1)
    }  # fmt: skip
    missing = [path for path in properties(json.loads(SCHEMA.read_text())) if path not in seen]
    assert missing == []


CANARY = "/tmp/strata-canary"  # no name of it is ever made, whichever shell would run these
STRINGS = [
    "../../../etc/passwd", "/../../etc/passwd", "..", "", " ", "a\nb", "a\n", "a\0b", "\tx",
    f"$(touch {CANARY})", f"`touch {CANARY}`", f"; touch {CANARY};", f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "', f"x\\'; touch {CANARY}", "${IFS}", "--help",
    "-oDPkg::Pre-Invoke::=x", "%s%n%x", "%2e%2e/", "ünïcödé☃\u202e", "\ud800", "\x1b]0;x\x07", "\x9b2J",
    "a" * 5_000, "a/" * 3_000, "1" * 6_000, "~root", "*", "[trusted=yes]", "http://[::1]/$(x)",
    "file:///../../etc", "\u2028", "a=b", "a:b:c",
]  # fmt: skip
NUMBERS: list[Any] = [
    0, -1, 1.0, 1.5, 1e308, float("inf"), float("nan"), True, None, 1 << 62, 1 << 64, 10**400, [], {},
    ["x"], {"x": 1},
]  # fmt: skip


def loaded(folder: Path, document: Any) -> Spec | str:
    """The spec, or the one message with which it is refused; anything else is a bug."""
    path = folder / "web.yaml"
    path.write_text(json.dumps(document))
    try:
        return load_spec(path, schema=SCHEMA)
    except BuildError as error:
        return str(error)


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_hostile_value_in_each_field(tmp_path: Path, path: Path_) -> None:
    document = copy.deepcopy(FULL)
    if path == ("hashed_root_password",):
        del document["root_password"]
    for value in [*STRINGS, *([] if path[-1] == "KEY" else NUMBERS)]:
        found = loaded(tmp_path, put(document, path, value))
        if isinstance(found, str):
            assert found.startswith(f"{tmp_path}/web.yaml"), found
            assert len(found) < 2000
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", found)
            continue
        texts = json.dumps(put(document, path, value))
        assert "\\ud" not in texts
        if path[0] not in ("root_password",) and path[-1] != "content" and "meta" not in path:
            # What was let through has no character that ends a line, a field or a name.
            assert not re.search(r"[\x00-\x1f\x7f]", value) if isinstance(value, str) else True
        assert len(resolution_inputs(found)) == 32


def test_what_goes_to_names_and_words_of_commands_is_plain(tmp_path: Path) -> None:
    """Of strings that become a part of a path, an option or a shell word nothing odd is let in."""
    free = {"uri", "keyring", "debconf", "files", "KEY", "script", "root_password", "http", "https",
            "meta", "source", "content", "options"}  # fmt: skip
    odd = [text for text in STRINGS if re.search(r"[$`;|&'\"<>(){}*?\[\]#!~%\s\\]|\.\./|^-", text)]
    for path in LEAVES:
        if free & {str(step) for step in path}:
            continue
        allowed = [
            value for value in odd if not isinstance(loaded(tmp_path, put(FULL, path, value)), str)
        ]
        # A component list may end in spaces, which are removed.
        assert [value for value in allowed if value.strip()] == [], path


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
    "100 MB": b"a" * 100_000_000,
}  # fmt: skip


def test_hostile_yaml(tmp_path: Path) -> None:
    """Each is refused, soon and within little memory, by a process that loads nothing but specs."""
    for name, content in TEXTS.items():
        (tmp_path / f"{name.replace(' ', '-')}.yaml").write_bytes(content)
    code = f"""
import sys, time; sys.path[:0] = [{str(PROJECT)!r}]
from pathlib import Path
from tasks.spec import load_spec
from tasks.errors import BuildError
import jsonschema, yaml
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
    if time.process_time() - began > 2:
        print(path.stem, "took", time.process_time() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20)),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists(CANARY)
