"""Hostile specs, locks and cache entries, and secrets: refused in one message or built harmlessly."""

from __future__ import annotations

import copy
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.repository import Fault, Server
from support.samples import SCHEMA, lock, record
from support.world import PROJECT, World
from tasks.errors import BuildError
from tasks.host.log import Log
from tasks.plan import lockfile
from tasks.plan.jobs import image_job
from tasks.plan.keys import resolution_inputs
from tasks.session.session import Session
from tasks.spec.load import load_spec
from tasks.spec.model import Spec
from tasks.stages.image import build

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
FULL["docs"] = False

MACHINE = {"groups", "users", "overlays", "units", "services", "scripts", "env", "remove",
           "debconf_file"}  # fmt: skip
"""Fields of layers with bad values of their own: tests/unit/test_machine.py, test_debconf_file.py."""


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


LEAVES = [*leaves(FULL), ("hashed_root_password",), ("debconf_file",)]


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
    missing = {path for path in properties(json.loads(SCHEMA.read_text())) if path not in seen}
    # At the top, files and script are what they are in a layer.
    assert {
        path for path in missing if not MACHINE & {*path} and path[0] not in ("files", "script")
    } == set()


CANARY = "/tmp/strata-canary"  # no name of it is ever made, whichever shell would run these


STRINGS = [
    "../../../etc/passwd", "/../../etc/passwd", "..", "", " ", "a\nb", "a\n", "a\0b", "\tx",
    f"$(touch {CANARY})", f"`touch {CANARY}`", f"; touch {CANARY};", f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "', f"x\\'; touch {CANARY}", "${IFS}", "--help",
    "-oDPkg::Pre-Invoke::=x", "%s%n%x", "%2e%2e/", "ünïcödé☃\u202e", "\ud800", "\x1b]0;x\x07", "\x9b2J",
    "a" * 5_000, "a/" * 3_000, "1" * 6_000, "~root", "*", "[trusted=yes]", "http://[::1]/$(x)",
    "file:///../../etc", "\u2028", "a=b", "a:b:c",
]  # fmt: skip


NUMBERS: list[Any] = [0, -1, 1.0, 1.5, float("nan"), True, None, 1 << 64, 10**400, [], {"x": 1}]


def loaded(folder: Path, document: Any) -> Spec | str:
    """The spec, or the one message with which it is refused; anything else is a bug."""
    path, part = folder / "web.yaml", folder / "part.yaml"
    path.unlink(missing_ok=True)  # a new file: to write over one, ext4 waits for the disk
    path.write_text(json.dumps(document))
    if not part.exists():
        part.write_text("{}")
    try:
        return load_spec(path, schema=SCHEMA)
    except BuildError as error:
        return str(error)


FREE = {"uri", "keyring", "debconf", "files", "KEY", "script", "root_password", "http", "https", "meta",
        "source", "content", "template", "debs", "debconf_file", "options", "hashed_root_password",
        "label", "pins", "include", "vars", "variants"}  # fmt: skip
"""Fields that are paths, addresses or text: the rest becomes names, and words of commands."""


def around(path: Path_) -> dict[str, Any]:
    """The least of FULL that has this field: each of some thousand values is in a spec of its own."""
    names = {"repos", "images", "packages", path[0]}
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


# ---------------------------------------------------------------- accepted, and built


@pytest.mark.root
def test_shell_characters_are_only_characters(built: World) -> None:
    """What the schema must let through is built as it stands, and nothing of it is ever run."""
    canary = Path(f"/tmp/c{os.getpid()}")
    odd = f"a b'\"`touch {canary}`$(touch {canary});touch {canary}; %s * ünï☃\\ &"
    name = odd.replace("/", "_")
    for path in ("files", "scripts", "keys"):
        (built.root / "specs" / path).mkdir(exist_ok=True)
    built.write(f"files/{name}", "odd file\n")
    built.write(f"files/-rf {name}/--help", "in a folder\n")
    built.write(f"scripts/-c {name}", '#!/bin/sh\necho "$0" > /script\n', 0o755)
    keyring = built.root / "specs/keys" / f"x] [trusted=yes {name}.gpg"
    keyring.write_bytes(built.repository.keyring.read_bytes())
    document = yaml.safe_load((built.root / "specs/web.yaml").read_text())
    document["repos"][0] |= {"keyring": f"keys/{keyring.name}", "meta": {odd: [odd, None, 1.5]}}
    document["layers"][0] |= {
        "files": {f"/opt/{name}": f"files/{name}", f"/opt/--dir {name}": f"files/-rf {name}",
                  "/opt/content": {"content": odd + "\0"}},
        "script": f"scripts/-c {name}",
    }  # fmt: skip
    document["layers"].append({"name": "answers", "debconf": [f"beta beta/x string {odd}"]})
    document |= {"root_password": odd, "hostname": "web.example.org"}
    del document["images"]["/boot"]
    document["images"]["/"] |= {"label": "a.b -c", "container": "raw", "file": "web.img"}
    built.write("web.yaml", yaml.safe_dump(document, allow_unicode=True))
    build = built.doit("build", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert build.code == 0 or "debconf-set-selections" in build.text, build.text
    layer = next(path for path in (built.root / "cache/layers").glob("layer-*.tar.zst")
                 if "./opt/content" in _listed(path))  # fmt: skip
    shown = subprocess.run(["tar", "-xO", "--file", layer, "./script"], check=True,
                           capture_output=True, text=True).stdout  # fmt: skip
    assert shown == "/dev/.strata/in/script\n"
    content = subprocess.run(["tar", "-xO", "--file", layer, "./opt/content"], check=True,
                             capture_output=True).stdout  # fmt: skip
    assert content == (odd + "\0").encode()
    names = "\n".join(_listed(layer))
    assert f"./opt/{name}\n" in names
    assert f"./opt/--dir {name}/--help" in names
    assert not canary.exists()


def _listed(path: Path) -> list[str]:
    done = subprocess.run(["tar", "--list", "--quoting-style=literal", "--file", path], check=True,
                          capture_output=True)  # fmt: skip
    return done.stdout.decode().splitlines()


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "options", "pack", "made"),
    [
        ("ext2", "-z precious", "direct", ["precious"]),
        ("ext4", "-z precious", "loop", ["precious"]),
        ("xfs", "-l file=1,name=precious,size=70m", "loop", ["precious"]),
        ("btrfs", "-r specs", "loop", []),
    ],
)
def test_what_an_option_names_is_no_file_of_the_host(
    built: World,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: str,
    pack: str,
    made: list[str],
) -> None:
    """Loading a spec refuses these; were one forgotten there, mkfs runs where no such file is."""
    monkeypatch.chdir(built.root)
    for name, value in built.environment().items():
        monkeypatch.setenv(name, value)
    precious = built.root / "precious"
    precious.write_text("untouched\n")
    before = sorted(os.listdir())
    session = Session(root=built.root, variables={"spec": "web"})
    other = replace(session.spec.images[1], format=kind, options=tuple(options.split()), pack=pack)
    session.spec = replace(session.spec, images=(session.spec.images[0], other))
    said = ""
    try:
        with Log(None) as log:
            build(image_job(session.spec, session.plan, 1), session.builder(log))
    except BuildError as error:
        said = str(error)
    finally:
        found = os.listdir(session.scratch / "nowhere")
        session.close()
    assert found == made
    # btrfs-progs say the one or, since 6.10, the other.
    assert made or "No such file" in said or "canonical path to specs" in said, said
    assert precious.read_text() == "untouched\n"
    assert sorted(os.listdir()) == before


# ---------------------------------------------------------------- locks and records


def test_hostile_value_in_each_field_of_a_lock() -> None:
    """A lock's values go to commands and paths: each is plain, or the lock is refused."""
    text = lockfile.dump(lock([record("alpha")], {"app": [record("beta")]}))
    document = json.loads(text)
    document["layers"][0]["removes"] = ["gamma"]
    paths = list(leaves(document))
    assert len(paths) >= 23
    for path in paths:
        for value in [*STRINGS, *NUMBERS]:
            found = parsed(json.dumps(put(document, path, value)))
            if isinstance(found, str):
                assert found.startswith("x.lock: not a lock that Strata wrote: ")
                assert len(found) < 20_000
                continue
            for one in (*found.base, *found.layers[0].records):
                assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", one.package)
                assert re.fullmatch(r"[A-Za-z0-9.+:~-]+", one.version)
                assert re.fullmatch(r"[a-z0-9-]+", one.architecture)
                assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
                assert ".." not in one.path.split("/")
                assert not re.search(r"[\x00-\x1f\x7f'\"<>\\]", one.path)
            for repo in found.repos:
                assert not re.search(
                    r"[\x00-\x08\x0a-\x1f\x7f]", "".join([repo.name, *repo.fields.values()])
                )


def parsed(text: str) -> lockfile.Lock | str:
    try:
        return lockfile.parse(text, where="x.lock")
    except BuildError as error:
        return str(error)


def _edit(world: World, change: Callable[[dict[str, Any]], Any]) -> None:
    path = world.root / "specs/web.lock"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.root
def test_tampered_locks_that_parse(built: World) -> None:
    """Another .deb under a package's name, another size, another repository: an error, no image."""
    path = built.root / "specs/web.lock"
    text, before = path.read_text(), built.outputs()
    locked = json.loads(text)
    beta = next(one for one in locked["layers"][1]["records"] if one["package"] == "beta")
    gamma = next(one for one in locked["layers"][1]["records"] if one["package"] == "gamma")

    def at(lock: dict[str, Any], name: str) -> dict[str, Any]:
        return next(one for one in lock["layers"][1]["records"] if one["package"] == name)

    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "other .deb of the cache": lambda lock: at(lock, "beta").update(sha256=gamma["sha256"]),
        "unknown digest": lambda lock: at(lock, "beta").update(sha256="0" * 64),
        "version": lambda lock: at(lock, "beta").update(version="9"),
        "architecture": lambda lock: at(lock, "beta").update(architecture="arm64"),
        "size and digest": lambda lock: at(lock, "beta").update(
            size=beta["size"] + 1, sha256="1" * 64
        ),
        "path": lambda lock: at(lock, "beta").update(path="pool/none.deb", sha256="2" * 64),
        "twice": lambda lock: lock["layers"][1]["records"].append({**beta, "version": "0"}),
        "a package less": lambda lock: lock["layers"][1]["records"].remove(at(lock, "gamma")),
    }
    for name, change in changes.items():
        path.write_text(text)
        _edit(built, change)
        build = built.doit("layer:app", "spec=web", "lock=frozen", check=False)
        assert build.code == 1, (name, build.text)
        assert build.err.count("ERROR: ") == 1, (name, build.text)
        assert "Traceback" not in build.text, (name, build.text)
    assert built.outputs() == before
    path.write_text(text)
    assert set(built.build().values()) == {"hit"}


@pytest.mark.root
def test_tampered_records_and_files_of_the_cache(built: World) -> None:
    """Each field of a record, and the file under an unchanged one: dropped and built again."""
    outputs = built.outputs()
    (built.root / "cache/layers").chmod(0o755)
    record_path = next(path for path in (built.root / "cache/layers").glob("layer-*.json")
                       if json.loads(path.read_text())["name"] == "app")  # fmt: skip
    text = record_path.read_text()
    document = json.loads(text)
    tampered = [
        put(document, ("file", "name"), "../../../../etc/passwd"),
        put(document, ("file", "sha256"), "0" * 64),
        put(document, ("facts", "epoch"), document["facts"]["epoch"] + 1),
        None,
    ]
    for number, change in enumerate(tampered):
        record_path.unlink()
        record_path.write_text(json.dumps(change))
        build = built.doit("layer:app", "spec=web", check=False)
        assert "Traceback" not in build.text, (number, build.text)
        assert build.code == 0, (number, build.text)
        assert json.loads(record_path.read_text()) == document, number
    assert built.build()["app"] == "hit"
    assert built.outputs() == outputs


# ---------------------------------------------------------------- secrets

USER, PASSWORD, PROXY, ROOT = "us3rname", "pa55w%6Frd", "pr0xyw0rd", "r00t correct horse"


ANSWER = "s3cret answer"


SECRETS = [PASSWORD, "pa55word", PROXY, ROOT, ANSWER]


class Watch:
    """Looks at the arguments and environments of all processes while the block runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.seen: set[str] = set()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        own = {str(os.getpid())}
        while not self.done.wait(0.003):
            for path in Path("/proc").glob("[0-9]*"):
                if path.name in own:
                    continue
                try:
                    words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
                except OSError:
                    continue
                text = words.decode(errors="replace").replace("\0", " ")
                self.seen.add(text.split(" ", 1)[0].rpartition("/")[2])
                self.found |= {text[:300] for secret in SECRETS if secret in text}

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def clean(world: World, text: str, *more: str) -> None:
    """Neither the screen nor any file but the spec has a secret."""
    secrets = [*SECRETS, *more]
    assert [secret for secret in secrets if secret in text] == [], text
    folders = [world.root / name for name in ("cache", "out", ".doit", "specs")]
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.name != "web.yaml" and path.stat().st_size < 8 << 20:
            content = path.read_bytes()
            assert [secret for secret in secrets if secret.encode() in content] == [], path


@pytest.mark.root
def test_no_secret_leaves_the_spec(built: World) -> None:
    """Passwords of repositories, proxies and root: after success and each kind of failure."""
    script = "env; ps -ef 2> /dev/null; cat /proc/*/environ /proc/*/cmdline 2> /dev/null | tr '\\0' '\\n'; exit 1"
    leak = "#!/bin/sh\ncat /dev/.strata/in/shadow /etc/shadow\necho; exit 1\n"
    built.add(built.deb("beta", "2", depends="gamma", files={"/usr/sbin/locale-gen": leak}),
              built.deb("zeta", "1", scripts={"postinst": script}))  # fmt: skip
    with (
        Server(built.repository.root, auth=(USER, "pa55word")) as server,
        Server(built.repository.root) as proxy,
    ):
        port, proxy_port = (one.url.rpartition(":")[2] for one in (server, proxy))
        built.edit('"${mirror}"', f'"http://{USER}:{PASSWORD}@127.0.0.1:{port}"')
        built.edit("packages: [alpha]", f"root_password: {ROOT}\nproxies: {{http: 'http://me:{PROXY}@127.0.0.1:"
                   f"{proxy_port}', direct: [127.0.0.1]}}\npackages: [alpha]")  # fmt: skip
        built.edit(
            "packages: [beta]", f"debconf: [beta beta/pw password {ANSWER}]\n    packages: [beta]"
        )
        text = (built.root / "specs/web.yaml").read_text()
        mirror = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"

        def run(
            name: str, *, code: int = 1, part: str = "", words: tuple[str, ...] = ("build",)
        ) -> str:
            build = built.doit(*words, "spec=web", check=False)
            assert build.code == code, (name, build.text)
            assert "Traceback" not in build.text
            assert part in build.text, (name, build.text)
            clean(built, build.text)
            return build.text

        with Watch() as watch:
            run("success", code=0)
            for word in ("keys", "why", "list"):
                assert run(word, code=0, words=(word,))
            now = (built.root / "specs/web.yaml").read_text()
            built.write("web.yaml", now.replace(ANSWER, ANSWER + "!"))
            run("another answer", code=2, part="debconf: without beta beta/pw", words=("why",))
            built.write("web.yaml", now)
            assert server.requests
            built.edit("packages: [beta]", "packages: [beta, zeta]")
            run("a script that prints its environment", part="layer app failed")
            built.write(
                "web.yaml",
                text.replace("packages: [alpha]", "locale: de_DE.UTF-8\npackages: [alpha]"),
            )
            run("a program that sees the hash", part="layer settings failed")
            log = (built.root / "out/web/log/layer-settings.log").read_text()
            assert "***" in log
            assert not re.search(r"\$6\$[^$ ]+\$.", log), log
            built.write("web.yaml", text.replace(f"{USER}:", "other:"))
            run("401", part="it refuses access")
            built.write("web.yaml", text.replace(", direct: [127.0.0.1]", "")
                        .replace(f"127.0.0.1:{proxy_port}", "127.0.0.1:9"))  # fmt: skip
            run("a dead proxy", part="repos.main (http://***@127.0.0.1:")
            built.write("web.yaml", text.replace("packages: [beta]", "packages: [beta, epsilon]"))
            server.faults["epsilon_1_all.deb"] = Fault(body=b"other")
            run("another hash", part="not what is locked")
        assert watch.found == set()
        assert {"apt-get", "unshare", "tar", "apt-helper"} <= watch.seen
        # A mirror of the environment is in doit's own, and must not go on to what it starts.
        built.write("web.yaml", re.sub(r'uri: "[^"]*"', 'uri: "${mirror}"', text))
        with Watch() as watch:
            build = built.doit("layer:app", "spec=web", check=False, STRATA_MIRROR=mirror)
        assert build.code == 0, build.text
        clean(built, build.text)
        assert {
            text for text in watch.found if "doit" not in text.partition("STRATA_MIRROR")[0]
        } == set()
    for name in ("cache/index", ".doit"):
        assert (built.root / name).exists()


@pytest.mark.root
def test_no_secret_of_a_variable_leaves_the_spec(built: World) -> None:
    """A password by var.pw= is one as if it stood in the spec: in no log, record, argv or output."""
    with Server(built.repository.root, auth=(USER, "pa55word")) as server:
        port = server.url.rpartition(":")[2]
        built.edit('"${mirror}"', f'"http://{USER}:${{mirror_pw}}@127.0.0.1:{port}"')
        built.edit("packages: [alpha]", "vars: {pw: none, mirror_pw: none, answer: none}\n"
                   "root_password: ${pw}\npackages: [alpha]")  # fmt: skip
        built.edit(
            "packages: [beta]", "debconf: ['beta beta/pw password ${answer}']\n    packages: [beta]"
        )
        given = [f"var.pw={ROOT}", f"var.mirror_pw={PASSWORD}", f"var.answer={ANSWER}"]
        with Watch() as watch:
            for words, code in ((["build"], 0), (["show"], 0), (["why"], 0), (["keys"], 0), (["list"], 0),
                                (["check"], 0), (["build", "var.po=x"], 1), (["check", "variant=x"], 1)):  # fmt: skip
                build = built.doit(*words, "spec=web", *given, check=False)
                assert build.code == code, (words, build.text)
                clean(built, build.text)
                if words == ["show"]:
                    assert build.out.count("***") == 3, build.out
        assert server.requests
        assert watch.found == set()
        assert "unshare" in watch.seen
        # Another one is another image.
        given[0] = f"var.pw={ROOT}!"
        build = built.doit("why", "spec=web", *given, check=False)
        assert build.code == 2
        clean(built, build.text)
