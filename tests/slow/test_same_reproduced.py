"""`doit reproduce` finds the same bytes in another folder, or names the stage, file and field that differ."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.digests import digests
from support.tally import TALLY
from support.traces import SMALL
from support.trees import mounted
from support.world import World

pytestmark = pytest.mark.root


SOME = """\
#!/bin/sh
set -eu
for folder in /srv /opt; do
    mkdir -p $folder/data
    for name in 1 2 3 4 5 6 7 8 9 ä; do echo $name > $folder/data/$name; done
    ln $folder/data/1 $folder/hard; ln -s data/2 $folder/soft
    cp /bin/cat $folder/exact; chmod 4755 $folder/exact
done
"""


RANDOM = """\
images:
  /: {file: root.img.gz, format: ext4}
  /srv: {file: srv.img, format: xfs, container: raw}
  /opt: {file: opt.img, format: btrfs, container: raw}
  /usr: {file: usr.img, format: ext2, container: raw, pack: direct}
  /etc: {file: etc.img.zst, format: ext4, pack: direct, container: zstd}
"""


def test_reproduce_finds_the_same_in_another_folder(small: World, tmp_path: Path) -> None:
    """And of filesystems whose bytes cannot be the same, the same files."""
    small.write("scripts/app.sh", SOME, 0o755)
    small.write("odd.yaml", SMALL.partition("images:")[0] + RANDOM)
    small.build(spec="odd")
    other = small.clone(tmp_path / "elsewhere")
    shutil.copytree(small.root / "out", other.root / "out")
    before = digests(other.root)
    done = other.doit("reproduce", "spec=odd")
    assert "reproduced out/odd/: 5 images" in done.out
    assert done.out.count("the same bytes") == 3
    TALLY["images"] += 5
    assert done.out.count("no other one to compare with") == 2
    assert "the same files; xfs has other bytes each time" in done.out
    assert "the same files; btrfs has other bytes each time" in done.out
    assert digests(other.root) == before
    assert not list((other.root / "cache").glob("*/*-*"))
    schema = (small.root / "specs/spec.schema.json").read_text()
    assert re.search(r"xfs and btrfs .{0,80}other bytes", schema)


@pytest.mark.nightly
def test_reproduce_of_a_base_that_is_configured(built: World, tmp_path: Path) -> None:
    other = built.clone(tmp_path / "elsewhere")
    shutil.copytree(built.root / "out", other.root / "out")
    done = other.doit("reproduce", "spec=web")
    assert "reproduced out/web/: 2 images" in done.out
    assert done.out.count("the same bytes") == 2


LEAKS = {
    "content": ("cat /proc/sys/kernel/random/uuid > /etc/stamp", "/etc/stamp: content at byte "),
    "name": ("touch /etc/x-$(cat /proc/sys/kernel/random/uuid)", r"/etc/x-[0-9a-f-]{36}: only in the (old|new) one"),
    "owner": ("touch /etc/own; read -r id < /proc/sys/kernel/random/uuid; chown $((0x${id%%-*} % 60000)) /etc/own", r"/etc/own: uid \d+ → \d+"),
    "link": ("ln -s $(cat /proc/sys/kernel/random/uuid) /etc/link", "/etc/link: linkname "),
}  # fmt: skip


def test_reproduce_names_stage_file_and_field(small_built: World) -> None:
    built = small_built
    for name, (command, _) in LEAKS.items():
        built.write(f"scripts/{name}.sh", f"#!/bin/sh\nset -e\n{command}\n", 0o755)
        built.edit("images:\n", f"  - {{name: {name}, script: scripts/{name}.sh}}\nimages:\n")
    built.build()
    before = digests(built.root)
    done = built.doit("reproduce", "spec=web", check=False)
    assert done.code == 1
    assert "Traceback" not in done.text
    for name, (_, said) in LEAKS.items():
        assert re.search(rf"layer:{name}: {said}", done.err), done.text
    assert re.search(r"image:/: /etc", done.err), done.text
    # What is the same is said to be so: base, app and /boot.
    assert done.out.count("the same bytes") == 3
    assert not re.search(r"^ +(base|layer:app|image:/boot): ", done.err, re.M)
    assert digests(built.root) == before


def test_reproduce_names_what_was_changed_in_an_image(small_built: World, tmp_path: Path) -> None:
    built = small_built
    built.write(
        "scripts/app.sh", "#!/bin/sh\nset -e\nmkdir -p /boot /home; echo k > /boot/kernel\n", 0o755
    )
    built.edit("pack: loop}", "container: raw}")
    built.edit("pack: direct}", "container: raw}\n"
               "  /etc: {file: etc.img, format: ext4, container: raw}\n"
               "  /usr: {file: usr.img, format: ext2, pack: direct, container: raw}")  # fmt: skip
    built.build()
    out = built.root / "out/web"

    def debugfs(name: str, command: str) -> str:
        return subprocess.run(["debugfs", "-R", command, out / name], check=True, text=True,
                              capture_output=True).stdout  # fmt: skip

    def inode_at(name: str, path: str) -> int:
        found = re.search(
            r"located at block (\d+), offset (0x[0-9a-f]+)", debugfs(name, f"imap {path}")
        )
        assert found
        return int(found[1]) * 4096 + int(found[2], 16)

    version = "share/baseline/version"
    bad = {}
    for name, offset, said in (
        ("web.img.gz", inode_at("web.img.gz", "/home") + 2, "image:/: /home: owner"),
        ("etc.img", inode_at("etc.img", "motd") + 0x10, "image:/etc: /etc/motd: mtime"),
        ("usr.img", int(debugfs("usr.img", f"blocks {version}").split()[0]) * 4096,
         f"image:/usr: /usr/{version}: content in block"),
    ):  # fmt: skip
        content = bytearray((out / name).read_bytes())
        content[offset] ^= 1
        (out / name).write_bytes(content)
        bad[name] = (bytes(content), said)
    # The same files in other blocks, as another kernel may lay them out.
    boot = out / "web-boot.img.gz"
    with mounted(boot, tmp_path / "boot") as files:
        subprocess.run(["mke2fs", "-q", "-t", "ext2", "-L", "other", "-d", files, tmp_path / "other", "1M"],
                       check=True, env={**os.environ, "E2FSPROGS_FAKE_TIME":
                                        str(int((files / "lost+found").stat().st_mtime))})  # fmt: skip
    boot.write_bytes((tmp_path / "other").read_bytes())
    bad[boot.name] = boot.read_bytes(), "image:/boot: byte "
    done = built.doit("reproduce", "spec=web", check=False)
    assert done.code == 1
    assert re.search(r"image:/boot: .*every file is the same: .*`pack: direct` does not", done.err)
    assert done.err.count("every file is the same") == 1
    for name, (tampered, said) in bad.items():
        assert said in done.err, done.text
        assert (out / name).read_bytes() == tampered, "reproduce only looks"


def test_reproduce_wants_what_the_image_was_built_from(built: World) -> None:
    for words, env, said in (
        (["spec=web"], {"SOURCE_DATE_EPOCH": "5"}, "base has another key"),
        (["spec=nothing"], {}, "nothing"),
    ):
        done = built.doit("reproduce", *words, check=False, **env)
        assert done.code != 0
        assert said in done.text
        assert "Traceback" not in done.text
    (built.root / "out/web/web.yaml").write_text("keys: 5\n")
    done = built.doit("reproduce", "spec=web", check=False)
    assert (done.code, "not what a build wrote" in done.err) == (1, True)
    shutil.rmtree(built.root / "out")
    done = built.doit("reproduce", "spec=web", check=False)
    assert (done.code, "there is nothing to compare with" in done.err) == (1, True)
