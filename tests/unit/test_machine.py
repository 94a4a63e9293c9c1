"""Accounts, overlays, units, services, scripts: what of them is a mistake, and what is in keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.world import says
from tasks.errors import BuildError
from tasks.plan.accounts import accounts, accounts_identity, authorized_keys
from tasks.plan.entries import layer_entries, script_identity
from tasks.spec.model import Services, Spec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA admin@example.org"


def machine(folder: Path, **fields: Any) -> Spec:
    """A spec whose layer `app` has these fields."""
    return samples.load(folder, layers=[{"name": "app", **fields}])


def refused(folder: Path, *parts: str, **fields: Any) -> None:
    with pytest.raises(BuildError) as caught:
        machine(folder, **fields)
    says(f"{caught.value.message}\n{caught.value.hint}", *parts)


USERS: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "root's password": (
        {"root": {"password": "x"}},
        ("layers.app.users.root.password: root's password is a field of its own", "root_password")),
    "root's number": ({"root": {"uid": 1}}, ("users.root.uid: root is as it is",)),
    "root with sudo": ({"root": {"sudo": True}}, ("users.root.sudo: root is as it is",)),
    "numbers that meet": (
        {"a": {"uid": 1500}, "b": {"uid": 1500}}, ("users.b.uid: 1500 is the user a's, too",)),
    "sudo that nobody passes": (
        {"a": {"sudo": True}}, ("users.a.sudo: sudo would ask for a password", "nopasswd")),
    "sudo with a locked password": (
        {"a": {"sudo": True, "hashed_password": "!"}}, ("users.a.sudo:",)),
    "keys without a home": (
        {"a": {"system": True, "ssh_keys": [KEY]}}, ("ssh_keys: a system user", "add home")),
    "a home that is in no image": (
        {"a": {"home": "/run/a"}}, ("users.a.home: '/run/a' would be in no image",)),
    "a password that crypt cuts": ({"a": {"password": "x" * 512}}, ("longer than the 511 bytes",)),
    "two passwords": (
        {"a": {"password": "x", "hashed_password": "*"}},
        ("only one of password and hashed_password may be given",)),
    "a list": ({"a": ["x"]}, ("layers[0].users.a: expected a mapping",)),
    "an unknown field": ({"a": {"passwd": "x"}}, ("unknown field 'passwd'", "'password'")),
    "sudo of another word": ({"a": {"sudo": "yes"}}, ("users.a.sudo",)),
}  # fmt: skip


@pytest.mark.parametrize("name", USERS)
def test_users_that_cannot_be(tmp_path: Path, name: str) -> None:
    users, parts = USERS[name]
    refused(tmp_path, *parts, users=users)


def test_other_mistakes(tmp_path: Path) -> None:
    groups = {"a": {"gid": 7}, "b": {"gid": 7}}
    refused(tmp_path, "groups.b.gid: 7 is the group a's, too", groups=groups)
    refused(tmp_path, "services: nginx.service is in enable and in mask",
            services={"enable": ["nginx"], "mask": ["nginx.service"]})  # fmt: skip
    refused(tmp_path, "units: files/x.txt: it ends in no kind of unit", ".service, ",
            units=["files/x.txt"])  # fmt: skip
    refused(tmp_path, "units: ssh.d/x.conf: it ends in no kind", units=["ssh.d/x.conf"])
    refused(tmp_path, "env: there is no script to see it", env={"A": "b"})
    refused(tmp_path, "env: APT_CONFIG is what the build sets", env={"APT_CONFIG": "b"}, script="x")
    refused(tmp_path, "env.A: ${nothing}: nothing gives it a value", env={"A": "${nothing}"},
            script="x")  # fmt: skip
    refused(tmp_path, "env.A: ${hostname}: nothing gives it a value", "where the spec sets hostname",
            env={"A": "${hostname}"}, script="x")  # fmt: skip
    refused(tmp_path, "x.sh: network: true, and the spec does not allow it", "allow_network: true",
            scripts=[{"source": "x.sh", "network": True}])  # fmt: skip
    refused(tmp_path, "env.A: a secret of the spec is in it", env={"A": "x hunter2hunter"}, script="x",
            users={"a": {"password": "hunter2hunter"}})  # fmt: skip
    refused(tmp_path, "env.A: expected a text", env={"A": 1.10}, script="x")
    for pattern, said in (("/usr/../etc", "no plain path"), ("/*", "is all of the image"),
                          ("/var", "/var/lib/dpkg is needed"), ("/[a-z]*", "is needed"),
                          ("/var/*/dpkg/x", "is needed"), ("/d*", "is needed"),
                          ("/var/lib/dpkg/info/*", "/var/lib/dpkg is needed"), ("/?", "all of"),
                          ("/dev/null", "/dev is needed"), ("//usr", "no plain path")):  # fmt: skip
        refused(tmp_path, f"remove: {pattern!r}", said, remove=[pattern])
    for field in (
        {"units": ["x.txt"]},
        {"env": {"A": "b"}},
        {"script": "x", "env": {"A": "${no}"}},
    ):
        with pytest.raises(BuildError, match=r"web\.yaml: (units|env)(\.A)?: "):
            samples.load(tmp_path, **field)
    with pytest.raises(BuildError, match="a layer below gives it the number 1500"):
        samples.load(tmp_path, users={"a": {"uid": 1500}},
                     layers=[{"name": "app", "users": {"a": {"uid": 1501}}}])  # fmt: skip


def test_keys_are_public_keys(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    spec = machine(folder, users={"a": {"ssh_keys": ["a.pub", KEY, "b.pub"]}})
    layer = spec.layers[0]
    (folder / "a.pub").write_text(f"# ours\n\n{KEY}\nrestrict,pty {KEY}2\n")
    (folder / "b.pub").write_text(f"{KEY}3\n{KEY}\n")
    lines = authorized_keys(layer.users[0], layer, spec).splitlines()
    assert lines == [KEY, f"restrict,pty {KEY}2", f"{KEY}3"]
    for text, said in (
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "is a private key"),
        ("hello\n", "holds no public keys"), ("", "holds no public keys"),
        (f"{KEY}\nssh-ed25519\n", "holds no public keys"), (f"{KEY}\n" * 9999, "no public keys"),
        ("\xff", "holds no public keys"),
    ):  # fmt: skip
        (folder / "b.pub").write_text(text)
        with pytest.raises(BuildError, match=said) as caught:
            authorized_keys(layer.users[0], layer, spec)
        assert "layers.app.users.a.ssh_keys" in caught.value.message
    (folder / "b.pub").write_bytes(b"\xff")
    with pytest.raises(BuildError, match="is no text"):
        authorized_keys(layer.users[0], layer, spec)
    (folder / "b.pub").unlink()
    with pytest.raises(BuildError, match=r"b\.pub cannot be read"):
        authorized_keys(layer.users[0], layer, spec)


def test_a_password_is_in_a_key_as_a_digest_and_is_a_secret(tmp_path: Path) -> None:
    lock = samples.lock([samples.record("apt")], {"app": []})
    specs = [machine(tmp_path, users={"a": {"password": word, "comment": "*"}})
             for word in ("correct horse", "correct horse", "another")]  # fmt: skip
    texts = [str(accounts_identity(spec.layers[0], spec, lock)) for spec in specs]
    assert texts[0] == texts[1] != texts[2]
    assert "horse" not in texts[0]
    assert "$6$" not in texts[0]
    assert specs[0].secrets == ("correct horse",)
    assert accounts(specs[0].layers[0], specs[0], lock)[0].shadow.startswith("$6$")
    # The layer is that of another spec's, too.
    other = samples.load(tmp_path / "other", layers=[{"name": "app", "users": {"a": {
        "password": "correct horse", "comment": "*"}}}])  # fmt: skip
    assert str(accounts_identity(other.layers[0], other, lock)) == texts[0]
    assert machine(tmp_path, users={"a": {"hashed_password": "*"}}).secrets == ()


def test_what_lies_in_a_home_is_its_users(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    (folder / "rootfs/home/ann/.config/app").mkdir(parents=True)
    (folder / "rootfs/home/ann/.config/app/x").touch()
    (folder / "rootfs/usr/local/bin").mkdir(parents=True)
    (folder / "rootfs/usr/local/bin/run").touch()
    (folder / "rootfs/usr/local/bin/link").symlink_to("run")
    fields: dict[str, Any] = {
        "users": {"srv": {"home": "/srv"}, "ann": {"uid": 1500},
                  "www": {"home": "/srv/www", "system": True}},
        "overlays": [{"source": "rootfs", "modes": {"/usr/local/bin/*": "4755", "/usr/local": "0700"}}],
        "files": {"/srv/www/a/b/index.html": {"content": "x"}, "/home/ann/.ssh/config": {"content": ""},
                  "/home/ann/of-root": {"content": "", "owner": "root"}, "/home/annex": {"content": ""}},
    }  # fmt: skip
    spec = machine(folder, **fields)
    found = {entry.target: (":".join(entry.account), entry.kind, oct(entry.mode))
             for entry in layer_entries(spec.layers[0], spec)}  # fmt: skip
    assert found["/home/ann/.config/app/x"] == ("ann:ann", "file", "0o644")
    assert found["/home/ann/.config"] == ("ann:ann", "folder", "0o755")
    assert found["/home/ann/.ssh"] == ("ann:ann", "folder", "0o700")
    assert found["/home/ann/.ssh/config"][0] == "ann:ann"
    assert found["/home/ann/of-root"][0] == "0:0"
    assert found["/home/annex"][0] == "0:0"
    assert found["/srv/www/a"] == found["/srv/www/a/b"] == ("www:www", "folder", "0o755")
    assert found["/usr/local/bin/run"] == ("0:0", "file", "0o4755")
    # A folder is named outright, and a pattern is of what lies just there.
    assert found["/usr/local"][1:] == ("folder", "0o700")
    assert found["/usr/local/bin"][1:] == ("folder", "0o755")
    assert found["/usr/local/bin/link"][1:] == ("link", "0o777")
    # A home of a layer below is its user's, too; of one above it is not there yet.
    layers = [{"name": "a", "files": {"/home/ann/x": {"content": ""}}}, {"name": "b", "users": {"ann": None}},
              {"name": "c", "files": {"/home/ann/y": {"content": ""}}}]  # fmt: skip
    spec = samples.load(folder, layers=layers)
    owners = [layer_entries(layer, spec)[0].account for layer in (spec.layers[0], spec.layers[2])]
    assert owners == [("0", "0"), ("ann", "ann")]


@pytest.mark.parametrize(
    ("overlay", "said"),
    [("none", "none is not there"), ("a-file", "a-file is no folder"),
     ({"source": "rootfs", "modes": {"/etc/x": "0600"}}, "nothing in it is '/etc/x'")],
)  # fmt: skip
def test_overlays_that_cannot_be(tmp_path: Path, overlay: Any, said: str) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "a-file").touch()
    spec = machine(tmp_path, overlays=[overlay])
    with pytest.raises(BuildError, match=said):
        layer_entries(spec.layers[0], spec)


def test_scripts_and_their_variables(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(f"#!/bin/sh\necho {name}\n")
    first = machine(folder, script="a")
    alone = script_identity(first.layers[0], first)
    assert isinstance(alone, str)
    again = machine(folder, scripts=["a"])
    assert script_identity(again.layers[0], again) == alone
    env = {"A": "${hostname} of ${spec}: $${x} $HOME", "ON": True, "N": 1}
    document: dict[str, Any] = {
        "hostname": "web1",
        "script": "a",
        "scripts": [{"source": "b", "env": {"A": "y"}}],
        "env": env,
    }
    spec = samples.load(folder, **document)
    runs = spec.layers[0].scripts
    assert [run.path.name for run in runs] == ["a", "b"]
    assert dict(runs[0].env) == {"A": "web1 of web: ${x} $HOME", "ON": "true", "N": "1"}
    assert runs[1].env["A"] == "y"
    both = script_identity(spec.layers[0], spec)
    other = samples.load(folder, **{**document, "hostname": "web2"})
    assert script_identity(other.layers[0], other) != both
    unused = samples.load(folder, **{**document, "timezone": "UTC"})
    assert script_identity(unused.layers[0], unused) == both


def test_units_are_files_and_services_have_whole_names(tmp_path: Path) -> None:
    spec = machine(tmp_path, units=["files/a.service", "files/ssh.service.d/port.conf"],
                   services={"enable": ["a", "b.timer", "getty@tty1"], "mask": ["x.y"]})  # fmt: skip
    assert [file.target for file in spec.layers[0].files] == [
        "/etc/systemd/system/a.service", "/etc/systemd/system/ssh.service.d/port.conf"]  # fmt: skip
    assert spec.layers[0].services == Services(
        enable=("a.service", "b.timer", "getty@tty1.service"), mask=("x.y.service",)
    )


def test_at_the_top_they_are_of_the_layer_packages(tmp_path: Path) -> None:
    spec = samples.load(tmp_path, users={"ann": None}, files={"/a": {"content": ""}}, script="x",
                        services={"enable": ["a"]}, overlays=["rootfs"])  # fmt: skip
    assert [layer.name for layer in spec.layers] == ["packages"]
    layer = spec.layers[0]
    assert (layer.users[0].name, layer.files[0].target, layer.scripts[0].path.name) == (
        "ann",
        "/a",
        "x",
    )


def test_order_that_means_nothing_is_in_no_key(tmp_path: Path) -> None:
    one = machine(tmp_path, units=["b.service", "a.timer"], services={"enable": ["b", "a.timer"]},
                  remove=["/b", "/a"])  # fmt: skip
    other = machine(tmp_path, units=["a.timer", "b.service"], remove=["/a", "/b"],
                    services={"enable": ["a.timer", "b.service"]})  # fmt: skip
    assert (one.layers[0].files, one.layers[0].services) == (
        other.layers[0].files,
        other.layers[0].services,
    )


def test_a_user_named_again_without_a_word_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("users: {admin: {shell: /bin/sh, groups: [adm]}}\n")
    spec = samples.load(tmp_path, include=["common.yaml"], users={"admin": None})
    assert (spec.layers[0].users[0].shell, spec.layers[0].users[0].groups) == ("/bin/sh", ("adm",))
    # With a password of a layer below, sudo has one to ask for.
    samples.load(tmp_path, users={"a": {"password": "secret"}},
                 layers=[{"name": "app", "users": {"a": {"sudo": True}}}])  # fmt: skip
    with pytest.raises(BuildError, match="the user has none"):
        samples.load(
            tmp_path, users={"a": None}, layers=[{"name": "app", "users": {"a": {"sudo": True}}}]
        )
