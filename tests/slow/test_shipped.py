"""The shipped specs, on the host's own mirror: they build, are whole, and the server boots."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.repository import Repository, Server
from support.trees import decompress, mounted
from support.world import PROJECT, World, checkout

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shipped(
    tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]
) -> Iterator[World]:
    """A checkout with the shipped specs; ${mirror} is the host's own."""
    folder = tmp_path_factory.mktemp("shipped")
    root = folder / "checkout"
    checkout(root, None)
    for name in ("minimal.yaml", "server.yaml", "layered.yaml", "files", "scripts"):
        source = PROJECT / "specs" / name
        if source.is_dir():
            shutil.copytree(source, root / "specs" / name)
        else:
            shutil.copy(source, root / "specs" / name)
    unused = Repository(folder / "unused")
    with Server(folder) as server:
        world = World(root, unused, server, folder, {**fast_scratch, "STRATA_MIRROR": ""})
        yield world


@pytest.mark.parametrize("name", ["minimal", "layered"])
def test_shipped_spec_builds(shipped: World, name: str, tmp_path: Path) -> None:
    results = shipped.build(spec=name)
    assert results["/"] == "built"
    metadata = yaml.safe_load((shipped.root / f"out/{name}/{name}.yaml").read_text())
    image = metadata["images"][0]
    raw = tmp_path / "raw"
    decompress(shipped.root / f"out/{name}" / image["container_name"], raw)
    assert subprocess.run(["e2fsck", "-fn", raw], check=False, capture_output=True).returncode == 0
    with mounted(raw, tmp_path / "tree") as root:
        assert installed(root) == locked(shipped, name)
        if name == "layered":
            assert "It works" in (root / "var/www/html/index.html").read_text()
            assert (root / "etc/motd").read_text() == "Built by Strata.\n"
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=shipped.root / "out" / name,
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert sums.returncode == 0, sums.stdout + sums.stderr


def installed(root: Path) -> list[str]:
    """`name version architecture` of each configured package of a tree."""
    out = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
         "-f=${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\n"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert all(line.startswith("ii ") for line in out.splitlines())
    return sorted(line.split(None, 1)[1] for line in out.splitlines())


def locked(world: World, name: str) -> list[str]:
    """The same of packages.txt."""
    return sorted((world.root / f"out/{name}/packages.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def server(shipped: World) -> World:
    """The server spec, built."""
    assert shipped.build(spec="server")["/boot"] == "built"
    return shipped


def test_server_images_are_whole_and_hold_the_locked_packages(
    server: World, tmp_path: Path
) -> None:
    metadata = yaml.safe_load((server.root / "out/server/server.yaml").read_text())
    assert [(i["mount"], i["format"], i["container"]) for i in metadata["images"]] == [
        ("/", "ext4", "gzip"), ("/boot", "ext2", "gzip"),
    ]  # fmt: skip
    for image in metadata["images"]:
        raw = tmp_path / "raw"
        decompress(server.root / "out/server" / image["container_name"], raw)
        check = subprocess.run(["e2fsck", "-fn", raw], check=False, capture_output=True, text=True)
        assert check.returncode == 0, check.stdout
        with mounted(raw, tmp_path / "tree") as root:
            if image["mount"] == "/":
                assert installed(root) == locked(server, "server")
                assert (root / "etc/fstab").read_text().count("UUID=") == 2
                assert len(locked(server, "server")) > 200
                assert (root / "etc/machine-id").read_bytes() == b""
                assert not list((root / "etc/ssh").glob("ssh_host_*"))
            else:
                assert list(root.glob("vmlinuz-*"))
                assert list(root.glob("initrd.img-*"))
        (tmp_path / "tree").rmdir()
        raw.unlink()


def test_server_again_redoes_nothing_in_under_half_a_second(server: World) -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        results = server.build("lock=keep", spec="server")
        seconds.append(time.monotonic() - began)
        assert set(results.values()) == {"hit"}
        assert server.json("server")["published"] is False
    assert min(seconds) < 0.5


def test_server_boots_to_a_login_prompt(server: World, tmp_path: Path) -> None:
    """Kernel and initrd come from the /boot image, the root filesystem is the / image."""
    for name in ("server", "server-boot"):
        decompress(server.root / f"out/server/{name}.img.gz", tmp_path / f"{name}.img")
    with mounted(tmp_path / "server-boot.img", tmp_path / "boot") as boot:
        shutil.copy(next(boot.glob("vmlinuz-*")), tmp_path / "vmlinuz")
        shutil.copy(next(boot.glob("initrd.img-*")), tmp_path / "initrd")
    console = tmp_path / "console"
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-m", "1024", "-smp", "2", "-nographic", "-no-reboot", "-net", "none",
         "-kernel", "vmlinuz", "-initrd", "initrd", "-append", "root=/dev/vda console=ttyS0",
         "-drive", "file=server.img,format=raw,if=virtio,snapshot=on",
         # /etc/fstab mounts it, by its UUID: without it systemd would wait, and give up.
         "-drive", "file=server-boot.img,format=raw,if=virtio,snapshot=on",
         "-monitor", "none", "-serial", f"file:{console}"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        text = ""
        while time.monotonic() < deadline and process.poll() is None:
            text = console.read_text(errors="replace") if console.exists() else ""
            if re.search(r"^\S+ login: ", text, re.M):
                break
            time.sleep(1)
        assert re.search(r"^\S+ login: ", text, re.M), text[-3000:]
        assert "Debian GNU/Linux 12" in text
    finally:
        process.kill()
        process.wait()


def test_postfix_and_postgresql_are_set_up_with_the_specs_settings(
    shipped: World, tmp_path: Path
) -> None:
    """Debian's own: one asks hostname(1), one a program that asks for zone and locale."""
    shipped.write(
        "mail.yaml",
        """\
repos: [{name: debian, uri: "${mirror}", suite: bookworm, section: main}]
packages: [postfix, postgresql]
hostname: web.example.org
timezone: Europe/Berlin
locale: de_DE.UTF-8
images: {/: {file: mail.img, format: ext2, container: raw}}
""",
    )
    shipped.build(spec="mail")
    with mounted(shipped.root / "out/mail/mail.img", tmp_path / "tree") as root:
        assert "\nmyhostname = web.example.org\n" in (root / "etc/postfix/main.cf").read_text()
        assert (root / "etc/mailname").read_text() == "web.example.org\n"
        text = (root / "etc/postgresql/15/main/postgresql.conf").read_text()
        for line in ("timezone = 'Europe/Berlin'", "lc_messages = 'de_DE.UTF-8'"):
            assert f"\n{line}" in text
        assert (root / "etc/timezone").read_text() == "Europe/Berlin\n"
        locales = (root / "etc/locale.gen").read_text().splitlines()
        assert [line for line in locales if line and line[0] != "#"] == ["de_DE.UTF-8 UTF-8"]
