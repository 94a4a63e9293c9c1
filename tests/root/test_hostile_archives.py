"""Archives that aim out of their folder, or hold what nobody expects: tarballs and .debs."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.debs import _Stanza, _stanzas
from support.hosts import Host, unchanged
from support.tally import TALLY
from support.trees import only_root
from support.world import World
from tasks.errors import BuildError, DamagedEntry
from tasks.host.log import Log
from tasks.rootfs import tarball
from tasks.stages import base

pytestmark = pytest.mark.root


def member(name: str, content: str = "", *, link: str = "", kind: bytes = b"", mode: int = 0o644,
           device: tuple[int, int] = (0, 0)) -> tuple[tarfile.TarInfo, bytes]:  # fmt: skip
    """One member of a tar, under exactly this name."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.size = 1_700_000_000, mode, len(content)
    info.type = kind or (tarfile.SYMTYPE if link else tarfile.REGTYPE)
    info.linkname = link
    info.devmajor, info.devminor = device
    return info, content.encode()


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def raw_deb(
    folder: Path, name: str, version: str, data: Sequence[tuple[tarfile.TarInfo, bytes]],
    *, control: Sequence[tuple[tarfile.TarInfo, bytes]] = (), date: str = "1700000000",
    says: tuple[str, str] | None = None,
) -> Path:  # fmt: skip
    """A .deb as dpkg-deb would never make it; `says` is what its control has for name and version."""
    package, number = says or (name, version)
    text = (f"Package: {package}\nVersion: {number}\nArchitecture: all\nMaintainer: x <x@x.invalid>\n"
            "Depends: gamma\nDescription: x\n")  # fmt: skip
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(tar_of([member("./control", text), *control]), mtime=0),
        "data.tar.gz": gzip.compress(tar_of(data), mtime=0),
    }
    ar = b"!<arch>\n"
    for part, content in parts.items():
        ar += f"{part:<16}{date:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        ar += content + b"\n" * (len(content) % 2)
    path = folder / f"{name}_{version}_all.deb"
    path.write_bytes(ar)
    info = path.stat()
    # What the index says, whatever the file does: dpkg-deb might not read it.
    claim = text.replace(f"Package: {package}\nVersion: {number}",
                         f"Package: {name}\nVersion: {version}")  # fmt: skip
    _stanzas[info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size] = _Stanza(
        package=name, version=version, arch="all",
        text=f"{claim}Size: {info.st_size}\nSHA256: {hashlib.sha256(ar).hexdigest()}\n",
    )  # fmt: skip
    return path


def tricks(canary: Path) -> dict[str, list[tuple[tarfile.TarInfo, bytes]]]:
    """Members that aim out of the folder in which they are unpacked."""
    folder = canary.parent
    up = "../" * 12
    return {
        "dotdot": [member(f"./{up}{str(folder)[1:]}/new", "x")],
        "absolute": [member(f"/{folder}/new", "x"), member(str(canary), "x")],
        "link then file": [member("./way", link=str(folder)), member("./way/new", "x"),
                           member("./way/file", "x")],
        "dotdot link": [member("./way", link=f"{up}{str(folder)[1:]}"), member("./way/new", "x")],
        "hard link": [member("./hard", link=str(canary), kind=tarfile.LNKTYPE), member("./hard", "x")],
        "hard dotdot": [member("./hard", link=f"{up}{str(canary)[1:]}", kind=tarfile.LNKTYPE),
                        member("./hard", "x")],
        "hard through link": [member("./way", link=str(folder)),
                              member("./hard", link="./way/file", kind=tarfile.LNKTYPE),
                              member("./hard", "x")],
        "link to /proc": [member("./way", link="/proc/1/root"), member(f"./way{folder}/new", "x")],
        "folder over link": [member("./way", link=str(folder)),
                             member("./way", kind=tarfile.DIRTYPE, mode=0o777), member("./way/new", "x")],
    }  # fmt: skip


TRICKS = tuple(tricks(Path("/a/b")))


@pytest.mark.parametrize("trick", TRICKS)
def test_tarball_that_aims_out_of_its_folder(host: Host, tmp_path: Path, trick: str) -> None:
    """A layer tarball is unpacked on the host: even with its digest right, none of it gets out."""
    content = tar_of([member("./.", kind=tarfile.DIRTYPE, mode=0o755), *tricks(host.canary)[trick]])
    path = tmp_path / "layer.tar.zst"
    path.write_bytes(
        subprocess.run(["zstd", "-c"], input=content, check=True, capture_output=True).stdout
    )
    with unchanged(host), contextlib.suppress(BuildError):
        tarball.unpack(
            path, hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "to", Log(None)
        )
    with pytest.raises(DamagedEntry):
        tarball.unpack(path, "0" * 64, tmp_path / "other", Log(None))
    TALLY["hostile attempts"] += 1


EVIL_CONTROL = [member("./../../../evil", "x"), member("/tmp/../evil", "x"),
                member("./postinst", link="/etc/shadow")]  # fmt: skip


@pytest.mark.parametrize("trick", ["dotdot", "link then file", "hard link", "control"])
def test_deb_that_aims_out_of_the_tree(built: World, host: Host, trick: str) -> None:
    """dpkg unpacks it where / is the tree: it may fail or not, but nothing gets out."""
    members, control = (
        tricks(host.canary).get(trick, []),
        EVIL_CONTROL if trick == "control" else [],
    )
    built.add(raw_deb(built.debs, "beta", "2", members, control=control))
    with unchanged(host):
        build = built.doit("layer:app", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert build.code == 1
    assert build.err.count("ERROR: ") == 1
    TALLY["hostile attempts"] += 1
    # Links on the way are followed, but within the tree, where there is no such folder.
    assert "layer app failed (exit status 100)" in build.text or trick == "control", build.text


@pytest.mark.parametrize("trick", [
    "dotdot", pytest.param("link then file", marks=pytest.mark.nightly), "control",
])  # fmt: skip
def test_deb_of_a_base_that_aims_out_of_the_tree(world: World, host: Host, trick: str) -> None:
    """The host's own dpkg-deb and tar unpack it, before there is any chroot."""
    members, control = (
        tricks(host.canary).get(trick, []),
        EVIL_CONTROL if trick == "control" else [],
    )
    world.add(raw_deb(world.debs, "epsilon", "2", members, control=control))
    text = (world.root / "specs/web.yaml").read_text().partition("packages:")[0]
    base = "{tool: mmdebstrap, variant: extract, include: [epsilon]}"
    world.write("evil.yaml", text.replace("{tool: mmdebstrap, variant: apt}", base)
                + "images:\n  /: {file: v.img, format: ext4}\n")  # fmt: skip
    with unchanged(host):
        build = world.doit("base", "spec=evil", check=False)
    assert "Traceback" not in build.text
    TALLY["hostile attempts"] += 1
    # The variant extract looks at no control archive.
    assert build.code == (0 if trick == "control" else 1)
    assert build.err.count("ERROR: ") == build.code
    assert "mmdebstrap of the base failed" in build.text or trick == "control", build.text


@pytest.mark.parametrize("name", ["tmp", "run", "sys"])
@pytest.mark.parametrize("to", ["folder", "file", "nothing"])
def test_top_folder_that_became_a_link(host: Host, tmp_path: Path, name: str, to: str) -> None:
    """The base's /tmp gets mode 1777 from outside: through a link that would be the host's."""
    target = {"folder": host.canary.parent, "file": host.canary, "nothing": tmp_path / "none"}[to]
    (tmp_path / name).symlink_to(target)
    with unchanged(host), pytest.raises(BuildError, match=f"base: /{name} is no folder"):
        base._folder(tmp_path / name)


def test_deb_that_is_another_than_the_index_says(built: World, host: Host) -> None:
    for says in (("beta", "3"), ("delta", "2"), ("base-files", "99")):
        built.repository.remove("beta")
        built.add(raw_deb(built.debs, "beta", "2", [member("./x", "x")], says=says))
        with unchanged(host):
            build = built.doit("layer:app", "spec=web", check=False)
        assert build.code == 1
        assert build.err.count("ERROR: ") == 1
        assert "Traceback" not in build.text
        assert "beta" in build.err


def test_deb_of_odd_dates_devices_and_modes(built: World, host: Host) -> None:
    """Such are a .deb's to have: its date is clamped, its nodes and setuid programs are packed."""
    members = [
        member("./opt", kind=tarfile.DIRTYPE, mode=0o755),
        member("./opt/program", "#!/bin/sh\n", mode=0o4755),
        member("./opt/null", kind=tarfile.CHRTYPE, device=(1, 3)),
        member("./opt/disk", kind=tarfile.BLKTYPE, device=(7, 0)),
        member("./opt/fifo", kind=tarfile.FIFOTYPE),
        member("./opt/large", "\0" * 50_000_000),
    ]
    built.add(raw_deb(built.debs, "beta", "2", members, date="999999999999"))
    with unchanged(host):
        built.doit("layer:app", "spec=web")
    path = max(
        (built.root / "cache/layers").glob("layer-*.zst"), key=lambda one: one.stat().st_mtime_ns
    )
    listed = subprocess.run(["tar", "--list", "--verbose", "--numeric-owner", "--file", path],
                            check=True, capture_output=True, text=True).stdout  # fmt: skip
    for pattern in (r"^-rwsr-xr-x 0/0 .*/opt/program$", r"^crw-r--r-- 0/0 +1,3 .*/opt/null$",
                    r"^brw-r--r-- 0/0 +7,0 .*/opt/disk$", r"^prw-r--r-- .*/opt/fifo$"):  # fmt: skip
        assert re.search(pattern, listed, re.M), listed
    record = max(
        (built.root / "cache/layers").glob("layer-*.json"), key=lambda one: one.stat().st_mtime_ns
    )
    assert '"epoch": 4102444800' in record.read_text()


def test_tree_that_is_deeper_than_a_path_may_be_long(built: World) -> None:
    """It ends its own build, and no later one: what is left of it can be removed."""
    only_root(built)
    script = "#!/bin/sh\nset -e\nmkdir -p /boot /srv/deep && cd /srv/deep\n"
    script += """perl -e 'for (1 .. 1500) { mkdir "abcdef"; chdir "abcdef" or die }'\n"""
    built.write("scripts/app.sh", script, 0o755)
    said = built.refused("layer app", "a path is longer than Linux takes")
    assert "Traceback" not in said
    built.write("scripts/app.sh", "#!/bin/sh\nmkdir -p /boot; echo fine > /boot/kernel\n", 0o755)
    assert built.build()["app"] == "built"
