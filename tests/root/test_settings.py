"""The last stage of a tree: locales, fstab, host keys, version; and the size an image may have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.trees import mounted
from support.world import World

pytestmark = pytest.mark.root


HEAD = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: apt}
packages: [alpha]
layers:
  - {name: app, packages: [beta], files: {/etc/motd: files/motd}, script: scripts/app.sh}
"""


IMAGES = """\
images:
  /: {file: "web-${version}.img", format: ext4, container: raw}
  /boot: {file: boot.img, format: ext2, container: raw}
  /boot/efi: {file: efi.img, format: vfat, container: raw}
  /my data: {file: data.img, format: ext4, container: raw, max_size: 100M}
"""


FOLDERS = "#!/bin/sh\nset -eu\nmkdir -p /boot/efi '/my data'\n"


def server(world: World) -> None:
    """Packages of the names that matter, which hold next to nothing."""
    keys = "mkdir -p /etc/ssh; echo drawn > /etc/ssh/ssh_host_rsa_key"
    locale_gen = "#!/bin/sh\ncat /etc/locale.gen > /generated\n"
    world.add(
        world.deb("openssh-server", "1:9.2p1", scripts={"postinst": keys}),
        world.deb("systemd-sysv", "252"),
        world.deb("beta", "2", depends="gamma", extra={"Installed-Size": "54321"}, files={
            "/usr/sbin/locale-gen": locale_gen, "/usr/lib/beta/blob": os.urandom(1 << 21),
            **{f"/usr/share/i18n/{name}": "" for name in (
                "locales/de_DE", "locales/en_US", "charmaps/UTF-8.gz")}}),
    )  # fmt: skip


def blkid(path: Path) -> str:
    """What mount(8) would find an image by."""
    return subprocess.run(["blkid", "-p", "-s", "UUID", "-o", "value", path], check=True, text=True,
                          capture_output=True).stdout.strip()  # fmt: skip


def git(world: World, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x.invalid", *words],
                   cwd=world.root, check=True, capture_output=True)  # fmt: skip


def serve(built: World) -> str:
    """Build a server with all of it, as its tag v1.0 is; what was said."""
    server(built)
    git(built, "init", "-q")
    (built.root / ".gitignore").write_text("*\n!specs\n!specs/web.yaml\n")
    built.write("scripts/app.sh", FOLDERS, 0o755)
    built.write("web.yaml", HEAD.replace("beta]", "beta, openssh-server, systemd-sysv]")
                + "locale: de_DE.UTF-8\nlocales: [en_US.UTF-8, de_DE.UTF-8, C.UTF-8]\nversion: git\n"
                + IMAGES)  # fmt: skip
    git(built, "add", "specs/web.yaml")
    git(built, "commit", "-q", "-m", "one")
    git(built, "tag", "v1.0")
    return built.doit("build", "spec=web").text


def test_a_server_with_all_of_it(built: World, tmp_path: Path) -> None:
    said = serve(built)
    # A unit makes them: nobody has to be told to.
    assert "ssh-keygen" not in said
    out = built.root / "out/web"
    assert built.json()["version"] == "v1.0"
    assert built.json()["warnings"] == []
    metadata = yaml.safe_load((out / "web.yaml").read_text())
    assert metadata["version"] == "v1.0"
    images = {image["mount"]: out / image["container_name"] for image in metadata["images"]}
    assert images["/"].name == "web-v1.0.img"
    with mounted(images["/"], tmp_path / "root") as root:
        _check_tree(root, {mount: blkid(path) for mount, path in images.items()})
    before = {path.name for path in out.glob("*.img")}

    # Another name is no content: it is published, and the old one goes.
    git(built, "tag", "-d", "v1.0")
    git(built, "tag", "v2")
    results = built.build()
    assert {name for name, result in results.items() if result == "built"} == {
        "settings", "/", "/boot", "/boot/efi", "/my data"}  # fmt: skip
    assert (out / "web-v2.img").exists()
    assert not (out / "web-v1.0.img").exists()
    built.edit("file: boot.img,", "file: 'boot-${version}.img',")
    built.edit("version: git", "version: v2")
    assert set(built.build().values()) <= {"hit", "skipped"}
    assert not (out / "boot.img").exists()
    assert (out / "boot-v2.img").exists()
    assert before == {"web-v1.0.img", "boot.img", "efi.img", "data.img"}

    # A size that it may not have fails a build of what is in the cache, too, and of it alone.
    built.edit("format: ext4, container: raw}", "format: ext4, container: raw, max_size: 1M}")
    text = built.refused(
        "specs/web.yaml: images./.max_size: the filesystem has", "more than the 1.0 MiB",
        "the largest packages of the tree", "53.0 MiB beta", "the largest folders of the image",
        "make max_size larger")  # fmt: skip
    assert re.search(r"2\.[0-9] MiB  /usr/lib/beta\n", text)
    assert "/boot" not in text.partition("ERROR")[2]
    shutil.rmtree(built.root / "cache/layers")
    built.refused("images./.max_size", "the cache has its trees no more")
    built.edit("max_size: 1M", "max_size: 1G")
    assert set(built.build().values()) <= {"hit", "skipped"}


@pytest.mark.nightly
def test_a_server_with_all_of_it_is_reproduced(built: World) -> None:
    """UUIDs in fstab, locales and a version of git's are the same when all is made again."""
    serve(built)
    assert "reproduced out/web/: 4 images" in built.doit("reproduce", "spec=web").text


def _check_tree(root: Path, uuids: dict[str, str]) -> None:
    rows = [line.split("\t") for line in (root / "etc/fstab").read_text().splitlines()
            if not line.startswith("#")]  # fmt: skip
    assert [row[1] for row in rows] == ["/", "/boot", "/boot/efi", r"/my\040data"]
    for row in rows:
        # As the kernel's tools name it, letter for letter.
        assert row[0] == f"UUID={uuids[row[1].replace(chr(92) + '040', ' ')]}"
    found = subprocess.run(["findmnt", "--tab-file", root / "etc/fstab", "--noheadings", "--raw",
                            "--output", "TARGET,FSTYPE,OPTIONS"],
                           check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert found.splitlines() == ["/ ext4 errors=remount-ro", "/boot ext2 defaults",
                                  "/boot/efi vfat umask=0077", r"/my\x20data ext4 defaults"]  # fmt: skip
    for mount in ("boot", "my data"):
        assert (root / mount).is_dir()
    assert (root / "generated").read_text().split("\n")[-3:-1] == [
        "de_DE.UTF-8 UTF-8", "en_US.UTF-8 UTF-8"]  # fmt: skip
    release = (root / "usr/lib/os-release").read_text()
    assert release.endswith('IMAGE_ID="web"\nIMAGE_VERSION="v1.0"\n')
    assert "ID=debian" in release
    assert os.readlink(root / "etc/os-release") == "../usr/lib/os-release"
    units = root / "etc/systemd/system"
    unit = "strata-ssh-host-keys.service"
    assert "ExecStart=/usr/bin/ssh-keygen -A\n" in (units / unit).read_text()
    for wanted in ("multi-user.target", "ssh.service", "ssh.socket"):
        assert os.readlink(units / f"{wanted}.wants" / unit) == f"/etc/systemd/system/{unit}"
    assert list((root / "etc/ssh").iterdir()) == []


def test_an_fstab_of_a_script_stays_unless_it_is_asked_for(built: World, tmp_path: Path) -> None:
    built.write("scripts/app.sh", FOLDERS + "echo mine > /etc/fstab\n"
                "mkdir -p /usr/lib; echo 'IMAGE_ID=theirs' > /usr/lib/os-release\n", 0o755)  # fmt: skip
    built.write("web.yaml", HEAD + "version: '1'\nimages:\n"
                "  /: {file: web.img, format: ext4, container: raw}\n"
                "  /boot: {file: b.img, format: ext2}\n")  # fmt: skip
    assert built.build()["settings"] == "built"
    with mounted(built.root / "out/web/web.img", tmp_path / "root") as root:
        assert (root / "etc/fstab").read_text() == "mine\n"
        release = (root / "usr/lib/os-release").read_text()
        assert release == 'IMAGE_ID="web"\nIMAGE_VERSION="1"\n'
        assert (root / "boot").is_dir()
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + "fstab: true\n")
    built.refused("specs/web.yaml: fstab: the layer app makes /etc/fstab itself, and it says",
                  "leave one of the two out: fstab, or the file")  # fmt: skip


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("locales: [C.UTF-8, de_DE.UTF-8]",
         ["specs/web.yaml: locales: the image cannot make de_DE.UTF-8; add the package locales"]),
        ("ssh_host_keys: first-boot", ["ssh_host_keys: first-boot needs openssh-server"]),
        ("version: git", ["specs/web.yaml: version: git: git cannot describe", "not a git"]),
    ],
)  # fmt: skip
def test_what_cannot_be_made(built: World, field: str, parts: list[str]) -> None:
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + field + "\n")
    built.refused(*parts, GIT_CEILING_DIRECTORIES=str(built.root))
