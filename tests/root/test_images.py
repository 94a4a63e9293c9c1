"""Images: every filesystem, container and option, mounted and compared with the tree."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.trees import decompress, mounted
from support.world import World

pytestmark = pytest.mark.root


FILL = """\
#!/bin/sh
set -eu
mkdir -p /boot/efi/EFI /srv/data /home/someone /var/log /opt/exact
echo kernel > /boot/kernel
echo loader > /boot/efi/EFI/loader
chmod 2750 /srv/data
echo data > /srv/data/file
ln /srv/data/file /srv/data/hard
ln -s file /srv/data/soft
chown 1234:4321 /home/someone
dd if=/dev/zero of=/srv/data/hole bs=1 count=1 seek=5000000 2> /dev/null
echo x > /opt/exact/x
touch -d @1000000000 /opt/exact/x
"""


IMAGES = """\
images:
  /: {file: root.img.zst, format: ext4, container: zstd, pack: direct, label: the-root}
  /boot:
    file: boot.img.gz
    format: ext2
    label: boot
    uuid: 12345678-1234-4234-8234-123456789abc
    options: -m 1
  /boot/efi: {file: efi.img, format: vfat, container: raw, label: EFI, uuid: 1234-ABCD}
  /srv: {file: srv.img.xz, format: xfs, container: xz, level: fast, label: srv}
  /home: {file: home.img.gz, format: ext3, free: 20M}
  /var: {file: var.img, format: btrfs, container: raw, label: var}
  /opt: {file: opt.img, format: ext4, container: raw, size: 16M, options: [-O, ^64bit]}
"""


def blkid(path: Path) -> dict[str, str]:
    """What blkid(8) finds in an image."""
    out = subprocess.run(["blkid", "-p", "-o", "export", path], check=True, text=True,
                         capture_output=True).stdout  # fmt: skip
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def images(built: World, tmp_path: Path) -> tuple[World, dict[str, dict[str, Any]], Path]:
    """A build with an image of every kind: the world, foo.yaml's images by mount, raw files."""
    spec = (built.root / "specs/web.yaml").read_text()
    built.write("scripts/app.sh", FILL, 0o755)
    built.write("many.yaml", spec.partition("images:")[0] + IMAGES)
    built.build(spec="many")
    metadata = yaml.safe_load((built.root / "out/many/many.yaml").read_text())
    raw = tmp_path / "raw"
    raw.mkdir()
    for image in metadata["images"]:
        decompress(built.root / "out/many" / image["container_name"],
                   raw / image["container_name"])  # fmt: skip
    return built, {image["mount"]: image for image in metadata["images"]}, raw


def test_every_filesystem_and_container(built: World, tmp_path: Path) -> None:
    world, metadata, raw = images(built, tmp_path)
    assert len(metadata) == 7
    for image in metadata.values():
        packed = (world.root / "out/many" / image["container_name"]).read_bytes()
        assert hashlib.sha256(packed).hexdigest() == image["container_sha256"]
        assert hashlib.md5(packed).hexdigest() == image["container_md5"]
        assert len(packed) == image["container_size"]
        content = (raw / image["container_name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == image["raw_sha256"]
        assert hashlib.md5(content).hexdigest() == image["raw_md5"]
        assert len(content) == image["raw_size"]
        found = blkid(raw / image["container_name"])
        assert found["TYPE"] == image["format"]
        assert found["UUID"].lower() == image["uuid"].lower()
        assert found.get("LABEL", "") == image["label"]
        if image["format"].startswith("ext"):
            check = subprocess.run(["e2fsck", "-fn", raw / image["container_name"]], check=False,
                                   capture_output=True, text=True)  # fmt: skip
            assert check.returncode == 0, check.stdout
    for mount, names in {
        "/boot": {"kernel", "efi", "lost+found"},
        "/srv": {"data"},
        "/home": {"someone", "lost+found"},
        "/opt": {"exact", "lost+found"},
    }.items():
        with mounted(raw / metadata[mount]["container_name"], tmp_path / "m") as point:
            assert set(os.listdir(point)) == names
            _check(mount, point)
        (tmp_path / "m").rmdir()
    loader = subprocess.run(["mtype", "-i", raw / "efi.img", "::/EFI/loader"], check=True,
                            capture_output=True, text=True).stdout  # fmt: skip
    assert loader == "loader\n"
    with mounted(raw / "root.img.zst", tmp_path / "root") as root:
        for hidden in ("boot", "srv", "home", "var", "opt"):
            assert os.listdir(root / hidden) == []
        assert (root / "etc/motd").read_text() == "hello\n"
        assert (root / "usr/share/beta/version").read_text() == "1\n"
    assert metadata["/opt"]["raw_size"] == 16 << 20
    _check_size(metadata, raw)


def _check(mount: str, point: Path) -> None:
    if mount == "/boot":
        assert os.listdir(point / "efi") == []
    elif mount == "/srv":
        data = point / "data"
        assert data.stat().st_mode & 0o7777 == 0o2750
        assert (data / "file").samefile(data / "hard")
        assert os.readlink(data / "soft") == "file"
        assert (data / "hole").stat().st_size == 5000001
    elif mount == "/home":
        assert (point / "someone").stat().st_uid == 1234
        assert (point / "someone").stat().st_gid == 4321
        info = os.statvfs(point)
        assert info.f_bavail * info.f_frsize > 10 << 20
    elif mount == "/opt":
        assert (point / "exact/x").stat().st_mtime == 1000000000


def _check_size(metadata: dict[str, dict[str, Any]], raw: Path) -> None:
    """The journal is on, and the filesystem is small."""
    for mount in ("/", "/home", "/opt"):
        text = subprocess.run(["dumpe2fs", "-h", raw / metadata[mount]["container_name"]],
                              check=True, capture_output=True, text=True).stdout  # fmt: skip
        assert "has_journal" in text
    text = subprocess.run(["dumpe2fs", "-h", raw / "root.img.zst"], check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    assert int(fields["Free blocks"]) < int(fields["Block count"]) // 15
    text = subprocess.run(["dumpe2fs", "-h", raw / "opt.img"], check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    assert "64bit" not in text


def test_trees_of_both_ways_to_pack_are_the_same(built: World, tmp_path: Path) -> None:
    """The files that a loop mount was filled with are those that mke2fs -d took."""
    listings = []
    for pack in ("loop", "direct"):
        built.edit("format: ext4", f"format: ext4, pack: {pack}") if pack == "loop" else built.edit(
            "pack: loop", "pack: direct"
        )
        assert built.build()["/"] == ("hit" if pack == "loop" else "built")
        raw = tmp_path / f"{pack}.img"
        decompress(built.root / "out/web/web.img.gz", raw)
        with mounted(raw, tmp_path / pack) as point:
            listing = subprocess.run(
                ["find", ".", "-not", "-path", "./lost+found", "-printf", "%p %y %m %U %G %T@ %l\n"],
                cwd=point, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            sums = subprocess.run(
                ["sh", "-c", "find . -type f -print0 | sort -z | xargs -0 sha256sum"],
                cwd=point, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            listings.append((sorted(listing.splitlines()), sums))
    assert listings[0] == listings[1]


def test_btrfs_of_next_to_nothing(tiny: World) -> None:
    """The kernel refuses to shrink one to less than 256 MiB: it stays as mkfs made it."""
    tiny.edit(
        "format: ext2}", "format: ext2}\n  /usr: {file: usr.img, format: btrfs, container: raw}"
    )
    assert tiny.build()["/usr"] == "built"
    assert 100 << 20 < (tiny.root / "out/web/usr.img").stat().st_size <= 256 << 20


def test_one_image_is_made_alone_if_it_is_asked_for_alone(built: World) -> None:
    for path in built.root.glob("cache/images/*"):
        path.unlink()
    built.doit("image:/boot", "spec=web")
    assert len(list(built.root.glob("cache/images/*.json"))) == 1
    results = built.build()
    assert (results["/"], results["/boot"]) == ("built", "hit")


def test_images_made_beside_each_other_fail_one_by_one(built: World) -> None:
    """What cannot be made is told by its own task, and the other one is in the cache."""
    before = built.outputs()
    for path in built.root.glob("cache/images/*"):
        path.unlink()
    built.edit("format: ext2}", "format: ext2, size: 64K}")
    said = built.doit("build", "spec=web", check=False)
    assert said.code != 0
    assert said.err.count("ERROR: ") == 1
    assert "images./boot.size" in said.err
    assert "Traceback" not in said.text
    built.edit("format: ext2, size: 64K}", "format: ext2}")
    results = built.build()
    assert (results["/"], results["/boot"]) == ("hit", "built")
    assert built.outputs() == before
