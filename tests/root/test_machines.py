"""Accounts, overlays, scripts and removals in real trees; units and services: test_shipped.py."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.trees import tree_of
from support.world import World, says

pytestmark = pytest.mark.root

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA admin@example.org"


@pytest.fixture
def machine(built: World) -> World:
    """A checkout whose spec ends with an empty layer `machine`."""
    built.edit("images:\n", "  - name: machine\nimages:\n")
    return built


def give(world: World, **fields: Any) -> None:
    """The layer `machine` with these fields."""
    path = world.root / "specs/web.yaml"
    document = yaml.safe_load(path.read_text())
    document["layers"][-1] = {"name": "machine", **fields}
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def layer(world: World, tmp_path: Path) -> Path:
    """Builds the layer; its own part of the tree."""
    world.doit("layer:machine", "spec=web")
    record = max((world.root / "cache/layers").glob("layer-*.tar.zst"),
                 key=lambda path: path.stat().st_mtime_ns)  # fmt: skip
    folder = tmp_path / f"tree-{len(list(tmp_path.glob('tree-*')))}"
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "-xf", record], check=True)
    return folder


def test_accounts(machine: World, tmp_path: Path) -> None:
    machine.write("rootfs/etc/app/app.conf", "x\n")
    machine.write("rootfs/home/ann/.profile.d/x", "x\n")
    give(
        machine,
        groups={"web": {"gid": 700}, "www": {"system": True}},
        users={
            "ann": {"uid": 1500, "groups": ["web", "adm"], "comment": "Ann", "shell": "/bin/sh",
                    "password": "correct horse", "ssh_keys": [KEY]},
            "www": {"system": True, "home": "/srv/www"},
            "svc": {"system": True},
            "root": {"ssh_keys": [KEY], "shell": "/bin/sh"},
            "daemon": {"groups": ["web"]},
        },
        overlays=["rootfs"],
        files={"/srv/www/html/index.html": {"content": "hello\n"}},
    )  # fmt: skip
    tree = layer(machine, tmp_path)
    accounts = {line.split(":")[0]: line.split(":")[2:]
                for line in (tree / "etc/passwd").read_text().splitlines()}  # fmt: skip
    assert accounts["ann"] == ["1500", "1500", "Ann", "/home/ann", "/bin/sh"]
    assert accounts["www"][3:] == ["/srv/www", "/usr/sbin/nologin"]
    assert int(accounts["www"][0]) < 1000
    assert accounts["svc"][3:] == ["/nonexistent", "/usr/sbin/nologin"]
    groups = {line.split(":")[0]: line.split(":")[2:]
              for line in (tree / "etc/group").read_text().splitlines()}  # fmt: skip
    assert groups["web"] == ["700", "ann,daemon"]
    assert groups["adm"][1] == "ann"
    assert accounts["www"][1] == groups["www"][0]
    shadow = {line.split(":")[0]: line.split(":")[1:3]
              for line in (tree / "etc/shadow").read_text().splitlines()}  # fmt: skip
    assert shadow["ann"][0].startswith("$6$")
    assert shadow["svc"][0] == shadow["www"][0] == "*"
    assert len({days for _field, days in shadow.values()}) == 1, "of the packages, not of today"
    for home, owner in (("home/ann", 1500), ("root", 0)):
        for name, mode in (("", 0o700), ("/authorized_keys", 0o600)):
            info = (tree / f"{home}/.ssh{name}").stat()
            assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (owner, owner, mode)
        assert (tree / f"{home}/.ssh/authorized_keys").read_text() == f"{KEY}\n"
    assert (tree / "home/ann/.profile.d/x").stat().st_uid == 1500
    assert (tree / "home/ann/.profile.d").stat().st_uid == 1500
    assert (tree / "etc/app/app.conf").stat().st_uid == 0
    www = int(accounts["www"][0])
    assert [
        (tree / f"srv/www{name}").stat().st_uid for name in ("", "/html", "/html/index.html")
    ] == [www] * 3
    told = "".join(path.read_text(errors="replace") for path in (
        *machine.root.glob("out/web/log/*"), *machine.root.glob("cache/layers/*.json"),
        machine.root / "specs/web.lock"))  # fmt: skip
    assert "horse" not in told
    assert shadow["ann"][0] not in told


def test_accounts_of_two_layers(machine: World, tmp_path: Path) -> None:
    """Keys are added, a home is made, a folder that is named gets its mode, two users two rules."""
    other = KEY.replace("admin@", "other@")
    machine.write("rootfs/srv/app/x", "x\n")
    path = machine.root / "specs/web.yaml"
    document = yaml.safe_load(path.read_text())
    document["layers"][-1] = {"name": "first", "users": {"ann": {"ssh_keys": [KEY]}},
                              "files": {"/etc/sudoers.d/README": {"content": "#\n"}, "/srv/app/y": {"content": ""}}}  # fmt: skip
    document["layers"].append({})
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    give(machine, overlays=[{"source": "rootfs", "modes": {"/srv/app": "2750"}}],
         users={"ann": {"ssh_keys": [other, KEY]}, "daemon": {"home": "/srv/daemon"},
                "web.admin": {"sudo": "nopasswd"}, "web_admin": {"sudo": "nopasswd"}})  # fmt: skip
    tree = layer(machine, tmp_path)
    assert (tree / "home/ann/.ssh/authorized_keys").read_text() == f"{KEY}\n{other}\n"
    assert (tree / "srv/daemon").stat().st_uid == 1
    assert stat.S_IMODE((tree / "srv/app").stat().st_mode) == 0o2750
    rules = sorted(path.read_text().split()[0] for path in (tree / "etc/sudoers.d").iterdir())
    assert rules == ["web.admin", "web_admin"]
    # What was given before its user was is root's, and so is the home.
    document["layers"][-2] = {"name": "first", "files": {"/home/ann/x": {"content": ""}}}
    document["layers"][-1] = {"name": "machine", "users": {"ann": None}}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    build = machine.doit("layer:machine", "spec=web", check=False)
    says(build.text, "layers.machine.users.ann.home: /home/ann is there before its user is")


def test_accounts_that_the_image_cannot_have(machine: World) -> None:
    for fields, parts in (
        ({"users": {"ann": {"groups": ["nobody-has-it"]}}},
         ("layers.machine.users.ann.groups: the image has no group nobody-has-it", "add it to groups")),
        ({"users": {"ann": {"shell": "/bin/zsh"}}}, ("users.ann.shell: the image has no /bin/zsh",)),
        ({"users": {"ann": {"uid": 1}}}, ("users.ann.uid: 1 is the number of the user daemon",)),
        ({"users": {"daemon": {"uid": 1500}}}, ("users.daemon.uid: the image has a user daemon", "number 1")),
        ({"groups": {"web": {"gid": 4}}}, ("groups.web.gid: 4 is the number of the group adm",)),
        ({"groups": {"adm": {"gid": 700}}}, ("groups.adm.gid: the image has a group adm", "number 4")),
        ({"users": {"ann": {"sudo": "nopasswd"}}}, ("users.ann.sudo: the image has no sudo", "package sudo")),
        ({"users": {"nobody": {"ssh_keys": [KEY]}}},
         ("users.nobody.ssh_keys: its home /nonexistent is no folder",)),
        ({"services": {"enable": ["ssh"]}}, ("services.enable: the image has no systemctl", "systemd-sysv")),
    ):  # fmt: skip
        give(machine, **fields)
        build = machine.doit("layer:machine", "spec=web", check=False)
        assert build.code == 1
        assert "Traceback" not in build.text
        says(build.text, *parts)


def test_scripts_run_in_order_with_what_they_are_given(machine: World, tmp_path: Path) -> None:
    script = '#!/bin/sh\nset -eu\necho "$0 $WHO ${MORE-none}" >> /etc/said\nhostname >> /etc/said\n'
    for name in ("one.sh", "two.sh", "three.sh"):
        machine.write(f"scripts/{name}", script)
    path = machine.root / "specs/web.yaml"
    path.write_text("hostname: web1\n" + path.read_text())
    give(machine, script="scripts/one.sh", env={"WHO": "${hostname}"}, reads=[],
         scripts=["scripts/two.sh", {"source": "scripts/three.sh", "env": {"MORE": "a b"}}])  # fmt: skip
    tree = layer(machine, tmp_path)
    lines = (tree / "etc/said").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines[::2]] == ["web1 none", "web1 none", "web1 a b"]
    assert set(lines[1::2]) == {"localhost"}
    # What fails is told by its own name and line.
    machine.write("scripts/two.sh", "#!/bin/sh\nset -e\n\nfalse_command\n")
    build = machine.doit("layer:machine", "spec=web", check=False)
    says(build.text, "specs/scripts/two.sh:4: false_command: not found")


def test_a_script_with_the_network_and_one_without(machine: World, tmp_path: Path) -> None:
    """Only that one reaches a server of this host; what says so is in lock, why and metadata."""
    machine.write("scripts/fetch.sh", """#!/bin/bash
set -eu
host=${FROM#http://} && host=${host%%/*}
fetch() {
    exec 3<> "/dev/tcp/${host%:*}/${host#*:}"
    printf 'GET /%s HTTP/1.0\\r\\n\\r\\n' "${FROM#http://*/}" >&3
    sed '1,/^\\r$/d' <&3
}
if (fetch) > /etc/fetched; then :; else echo no network > /etc/refused; fi
""")  # fmt: skip
    path = machine.root / "specs/web.yaml"
    path.write_text("allow_network: true\n" + path.read_text())
    env = {"FROM": f"{machine.server.url}/dists/stable/Release"}
    give(machine, scripts=[{"source": "scripts/fetch.sh", "env": env}])
    assert (layer(machine, tmp_path) / "etc/refused").exists()
    give(machine, scripts=[{"source": "scripts/fetch.sh", "env": env, "network": True}])
    tree = layer(machine, tmp_path)
    assert (tree / "etc/fetched").read_bytes() == (machine.repository.dist / "Release").read_bytes()
    assert not os.path.lexists(tree / "etc/resolv.conf")
    assert not os.path.lexists(tree / "usr/sbin/policy-rc.d")
    machine.build()
    words = "not reproducible: a script of it sees the network"
    stage = next(one for one in machine.json()["stages"] if one["name"] == "machine")
    assert stage["reproducible"] is False
    says(machine.doit("why", "spec=web", check=False).out, "layer machine", words)
    says(machine.doit("lock", "spec=web").text, "layer machine", words)


def test_what_is_removed_is_gone_and_told(machine: World, tmp_path: Path) -> None:
    files = {f"/srv/{name}": {"content": "x"} for name in ("a b/1", "a b/2", "c")}
    give(machine, files=files, remove=["/srv/a b", "/usr/share/alpha/*", "/srv/none*"])
    before = machine.doit("build", "spec=web")
    says(before.text, "layer machine: removed /srv/a b: 2 files",
         "removed nothing: /srv/none* is not in the image", "removed /usr/share/alpha/*: 1 file")  # fmt: skip
    assert machine.json()["removed"] == [
        {"layer": "machine", "pattern": "/srv/a b", "files": 2},
        {"layer": "machine", "pattern": "/srv/none*", "files": 0},
        {"layer": "machine", "pattern": "/usr/share/alpha/*", "files": 1},
    ]
    names = subprocess.run(["sh", "-c", "gzip -dc out/web/web.img.gz > ../raw; debugfs -R 'ls -p /srv' ../raw; "
                            "debugfs -R 'ls -p /usr/share/alpha' ../raw"], cwd=machine.root,
                           check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert set(re.findall(r"/\d+/\d+/\d+/\d+/([^/]+)/", names)) == {".", "..", "c"}
    assert json.loads((machine.root / "out/web/build.json").read_text())["removed"]


def test_an_image_without_documentation(machine: World, tmp_path: Path) -> None:
    """Of all layers, and what dpkg would install later; copyright files stay."""
    pages = {f"/usr/share/{name}": "x" for name in (
        "doc/beta/README", "doc/beta/examples/deep/x", "doc/beta/copyright", "man/man1/beta.1", "info/beta.info")}  # fmt: skip
    machine.add(machine.deb("beta", "2", depends="gamma", files=pages))
    path = machine.root / "specs/web.yaml"
    path.write_text("docs: false\nremove: [/etc/motd]\n" + path.read_text())
    results = machine.build()
    assert results["settings"] == "built"
    with tree_of(machine, tmp_path) as root:
        left = [
            str(one.relative_to(root))
            for one in (root / "usr/share/doc").rglob("*")
            if one.is_file()
        ]
        assert "usr/share/doc/beta/copyright" in left
        assert {name.rpartition("/")[2] for name in left} == {"copyright"}
        assert not list((root / "usr/share/man").iterdir())
        assert not (root / "etc/motd").exists()
        assert (
            "path-exclude=/usr/share/man/*"
            in (root / "etc/dpkg/dpkg.cfg.d/strata-docs").read_text()
        )
    removed = {one["pattern"]: one["files"] for one in machine.json()["removed"]}
    assert removed["/etc/motd"] == 1
    assert removed["/usr/share/man/*"] == 1
    assert removed["/usr/share/doc/*"] >= 2
    path.write_text(path.read_text().replace("docs: false\nremove: [/etc/motd]\n", ""))
    stages = json.loads(machine.doit("keys", "spec=web", "format=json").out)["stages"]
    assert [one["name"] for one in stages if one["stage"] == "layer"] == [
        "packages",
        "app",
        "machine",
    ]
