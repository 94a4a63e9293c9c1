"""Links in trees: nothing that Strata does to a tree from outside follows one to the host."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.hosts import Host, unchanged
from support.trees import decompress, mounted
from support.world import World

pytestmark = pytest.mark.root


def test_links_in_a_tree_are_never_followed_on_the_host(
    built: World, host: Host, tmp_path: Path
) -> None:
    """Everything that Strata itself does to a tree from outside, with links in its way."""
    folder = host.canary.parent
    for name in ("x.log", "ssh_host_rsa_key", "apt/history.log", "lists/index", "status", "machine-id",
                 "status-old", "lock", "aux-cache", "boot/kernel", "random-seed"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"host's own {name}\n")
        os.utime(folder / name, (4e9, 4e9))
    built.write("scripts/app.sh", f"""#!/bin/sh
        set -eu
        away() {{ rm -rf "$1"; mkdir -p "$(dirname "$1")"; ln -s "{folder}$2" "$1"; }}
        away /var/log ""
        away /etc/ssh ""
        away /var/cache/apt ""
        away /var/cache/ldconfig ""
        away /var/lib/apt/lists /lists
        away /var/lib/dbus ""
        away /var/lib/systemd ""
        away /var/cache/debconf ""
        away /etc/machine-id /machine-id
        away /root /boot
        away /usr/sbin/policy-rc.d /file
        away /etc/apt/sources.list.d ""
        cp /etc/shadow /etc/other-shadow
        ln -s {folder} /outside; mkdir -p /boot; ln -s {folder} /boot/link
        ln /etc/passwd /boot/hard
    """, 0o755)  # fmt: skip
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + "root_password: hunter2\nhostname: inside\n")
    # Of a script's it would be refused.
    built.add(built.deb("beta", "2", depends="gamma",
                        scripts={"postinst": f"ln -sf {folder}/file /etc/hostname"}))  # fmt: skip
    with unchanged(host):
        built.build()
    for image, member in (("web.img.gz", "etc/machine-id"), ("web-boot.img.gz", "link")):
        raw = tmp_path / "raw.img"
        raw.unlink(missing_ok=True)
        decompress(built.root / "out/web" / image, raw)
        assert b"host's own" not in raw.read_bytes()
        with mounted(raw, tmp_path / image) as root:
            assert os.readlink(root / member) == str(folder) + (
                "/machine-id" if "etc" in member else ""
            )


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        ("rm -rf /boot; ln -s {0}/boot /boot",
         ["images./boot: the tree has no directory /boot"]),
        ("mv /var/lib/dpkg/status /var/lib/dpkg/saved; ln -s {0}/status /var/lib/dpkg/status",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("rm /var/lib/dpkg/status; perl -MPOSIX -e 'mkfifo(\"/var/lib/dpkg/status\", 0644)'",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("rm -rf /var/lib/dpkg; ln -s {0} /var/lib/dpkg",
         ["layer app: the tree has no /var/lib/dpkg/status any more", "scripts/app.sh"]),
        ("printf 'Package: \\033[2J\\377\\nStatus: install ok broken\\n\\n' >> /var/lib/dpkg/status",
         ["layer app: the script specs/scripts/app.sh changed which packages", "?[2J"]),
    ],
    ids=["boot", "status", "fifo", "dpkg", "bytes"],
)  # fmt: skip
def test_links_that_cannot_be_built(
    built: World, host: Host, script: str, parts: list[str]
) -> None:
    folder = host.canary.parent
    for name in ("status", "boot/kernel"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(
            "Package: stolen\nVersion: 1\nStatus: install ok half-installed\n"
        )
    built.write(
        "scripts/app.sh", "#!/bin/sh\nset -e\nmkdir -p /boot\n" + script.format(folder), 0o755
    )
    with unchanged(host):
        build = built.doit("image:/boot", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert "stolen is" not in build.text
    if parts:
        assert build.code == 1, build.text
    text = re.sub(r"\s+", " ", build.text)
    for part in parts:
        assert part in text, build.text
    for image in (built.root / "out/web").glob("*.img.gz"):
        raw = subprocess.run(["gzip", "-dc", image], check=True, capture_output=True).stdout
        assert b"untouched\n" not in raw


def test_vfat_takes_no_file_of_the_host(built: World, host: Host, tmp_path: Path) -> None:
    """A newline in a name must not make a path of what follows it."""
    trap = f"/boot/x\n{host.canary.parent}"
    built.write("scripts/app.sh", f"#!/bin/sh\nset -eu\nmkdir -p '{trap}' '/boot{host.canary.parent}'\necho inside > '{trap}/file'\n"
                "echo kernel > '/boot/a b'\n", 0o755)  # fmt: skip
    built.edit("/boot: {file: web-boot.img.gz, format: ext2}",
               "/boot: {file: boot.img, format: vfat, container: raw}")  # fmt: skip
    with unchanged(host):
        build = built.doit("image:/boot", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert re.search(r"images./boot.format: vfat cannot hold /boot/x\?: ", build.text), build.text
