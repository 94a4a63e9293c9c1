"""A spec: what the schema describes is what it allows; what is secret in it, foreign, or given by a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.samples import REPO, SCHEMA, load
from tasks.debian import deb822
from tasks.errors import BuildError
from tasks.formats import compress
from tasks.formats.table import FILESYSTEMS
from tasks.plan.containers import CONTAINER_TOOL, ENDING
from tasks.spec.load import load_spec
from tasks.spec.model import address_secrets, masked
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
