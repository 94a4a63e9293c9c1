"""Trees: times, extended attributes, the order of a tarball, and what a stack of trees shows."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from support.samples import record
from tasks.errors import BuildError, DamagedEntry
from tasks.formats.pax import sort_xattrs
from tasks.host.log import Log
from tasks.rootfs import clean, dpkg, measure, paths, tarball
from tasks.spec.model import LAST_EPOCH


def deb(path: Path, date: bytes) -> Path:
    path.write_bytes(
        b"!<arch>\n"
        + b"debian-binary   "
        + date.ljust(12)
        + b"0     0     100644  4         `\n2.0\n"
    )
    return path


@pytest.mark.parametrize(
    ("dates", "epoch"),
    [
        ([b"1700000000"], 1700000000),
        ([b"1700000000", b"1700000001", b"5"], 1700000001),
        ([b"0"], 0),
        ([], 0),
        ([b"", b"7"], 7),
        ([b"-1", b"1e9", b"x", b"3"], 3),
        ([b"999999999999"], LAST_EPOCH),
    ],
)
def test_epoch_is_the_newest_date_that_debs_carry(
    tmp_path: Path, dates: list[bytes], epoch: int
) -> None:
    paths = [deb(tmp_path / str(number), date) for number, date in enumerate(dates)]
    assert dpkg.deb_epoch(paths) == dpkg.deb_epoch(paths[::-1]) == epoch


def test_epoch_of_what_is_no_deb(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"<html>")
    with pytest.raises(BuildError, match=r"x\.deb: not a \.deb"):
        dpkg.deb_epoch([tmp_path / "x.deb"])


def test_times_newer_than_the_epoch_are_set_back_others_stay(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "folder").mkdir(parents=True)
    (top / "folder/new").touch()
    (top / "old").touch()
    (top / "link").symlink_to("/nonexistent")
    os.utime(top / "old", ns=(5, 999_999_999))
    rare = clean.clamp_times(top, 1000, clean.begun(tmp_path))
    assert rare == clean.Rare(several_xattrs=False, sparse=False)
    times = {
        str(path.relative_to(top)): path.lstat().st_mtime_ns for path in (top, *top.rglob("*"))
    }
    second = 1_000_000_000
    assert times == {".": 1000 * second, "folder": 1000 * second, "folder/new": 1000 * second,
                     "old": 999_999_999, "link": 1000 * second}  # fmt: skip


def test_what_the_stage_wrote_is_set_forward_where_the_clock_is_behind_the_epoch(
    tmp_path: Path,
) -> None:
    epoch = int(time.time()) + 1000
    top = tmp_path / "tree"
    top.mkdir()
    (top / "before").touch()
    os.utime(top / "before", (epoch - 2000, epoch - 2000))
    since = clean.begun(tmp_path)
    (top / "written").touch()
    (top / "packaged").touch()
    os.utime(top / "packaged", (epoch - 500, epoch - 500))
    clean.clamp_times(top, epoch, since)
    times = {path.name: path.lstat().st_mtime for path in (top, *top.iterdir())}
    assert times == {"tree": epoch, "before": epoch - 2000, "written": epoch,
                     "packaged": epoch - 500}  # fmt: skip


def test_a_socket_is_told_and_in_neither_tree_nor_tarball(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "srv").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(top / "srv/s"))
    rare = clean.clamp_times(top, 1000, 0)
    assert rare.sockets == ("srv/s",)
    assert list((top / "srv").iterdir()) == []
    assert (top / "srv").stat().st_mtime == 1000


def made(folder: Path, names: list[str]) -> Path:
    """A tree whose entries were made in this order, with two attributes each in that order."""
    (folder / "d").mkdir(parents=True)
    for name in names:
        (folder / "d" / name).write_text(name)
        for attribute in ("user.b", "user.a") if names[0] == "a" else ("user.a", "user.b"):
            os.setxattr(folder / "d" / name, attribute, attribute.encode())
        (folder / "d" / name).chmod(0o644)
    clean.clamp_times(folder, 0, 0)
    return folder


def test_bytes_of_a_tarball_do_not_depend_on_the_order_of_making(tmp_path: Path) -> None:
    names = ["a", "b", "ä", "Z", "x" * 150]
    digests = set()
    for number, order in enumerate((names, names[::-1])):
        source = made(tmp_path / str(number), order)
        target = tmp_path / f"{number}.tar.zst"
        with Log(None) as log:
            tarball.pack(source, target, log)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1
    listed = subprocess.run(["tar", "-tf", target, "--quoting-style=literal"], check=True,
                            capture_output=True).stdout.decode().splitlines()  # fmt: skip
    assert listed == ["./", "./d/", *(f"./d/{name}" for name in sorted(names))]


def test_a_tarball_that_rotted_is_damaged_not_unpacked_in_silence(tmp_path: Path) -> None:
    source = made(tmp_path / "tree", ["a"])
    path = tmp_path / "x.tar.zst"
    with Log(None) as log:
        tarball.pack(source, path, log)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        for number, at in enumerate((0, len(content) // 2, len(content) - 1)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(DamagedEntry):
                tarball.unpack(path, digest, tmp_path / f"out{number}", log)
        path.write_bytes(content[:-1])
        with pytest.raises(DamagedEntry):
            tarball.unpack(path, digest, tmp_path / "cut", log)


def pax(*records: tuple[str, str], content: bytes = b"x" * 513, told: bool = True) -> bytes:
    """A tar of one file with a pax header of these records; not `told`, its own has no size."""
    text = b""
    for name, value in records:
        body = f" {name}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        text += str(length).encode() + body
    headers = []
    for name, kind, data in (("h", tarfile.XHDTYPE, text), ("f", tarfile.REGTYPE, content)):
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(data) if told or kind == tarfile.XHDTYPE else 0
        headers.append(
            info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")
        )
    return b"".join(headers) + bytes(1024)


def sorted_tar(tar: bytes) -> bytes:
    target = io.BytesIO()
    sort_xattrs(io.BytesIO(tar), target)
    return target.getvalue()


def test_attributes_are_sorted_and_all_else_stays() -> None:
    a, b = ("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "long " * 300)
    path, size = ("path", "x" * 120), ("mtime", "1.5")
    assert sorted_tar(pax(b, path, a, size)) == pax(path, size, a, b)
    assert sorted_tar(pax(path, size, a, b)) == pax(path, size, a, b)
    assert sorted_tar(pax()) == pax()
    assert sorted_tar(b"") == b""


def test_value_of_an_attribute_may_hold_anything() -> None:
    odd = ("SCHILY.xattr.user.z", "a=b\n12 path=evil\n")
    a = ("SCHILY.xattr.user.a", "")
    assert sorted_tar(pax(odd, a)) == pax(a, odd)
    size = ("SCHILY.xattr.user.z", "\n13 size=100000\n")
    assert sorted_tar(pax(size, a)) == pax(a, size)


def test_size_of_a_file_may_stand_in_its_pax_header_alone() -> None:
    """As GNU tar has it from 8 GiB on: what is in the file may look like a header."""
    a, b, size = ("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "2"), ("size", "4608")
    content = pax(b, a)[:2560].ljust(4608, b"y")
    given = pax(b, size, a, content=content, told=False)
    assert sorted_tar(given) == pax(size, a, b, content=content, told=False)


def test_status_of_dpkg_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "top/var/lib/dpkg/status"
    path.parent.mkdir(parents=True)
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(BuildError, match="no dpkg status"):
        dpkg.dpkg_status(tmp_path, ["top"])


def test_what_a_stack_of_trees_shows(tmp_path: Path) -> None:
    for name in ("top/a", "low/a", "low/b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top/a/new").touch()
    (tmp_path / "low/a/old").touch()
    (tmp_path / "top/b").write_text("a file hides the folder below")
    (tmp_path / "low/b/x").touch()
    (tmp_path / "top/link").symlink_to("a")
    (tmp_path / "low/link").mkdir()
    (tmp_path / "low/link/x").touch()
    (tmp_path / "low/c").touch()
    lower = ["top", "low"]

    def shown(path: str) -> str | None:
        found = paths.find_in(tmp_path, lower, path)
        return str(found.relative_to(tmp_path)) if found else None

    assert shown("a/new") == "top/a/new"
    assert shown("a/old") == "low/a/old"
    assert shown("c") == "low/c"
    assert shown("b") == "top/b"
    assert [shown(path) for path in ("b/x", "link/x", "none", "a/none", "c/x")] == [None] * 5


STATUS = """\
Package: alpha
Status: install ok installed
Version: 1
Architecture: amd64
Description: x
 Version: 9

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: amd64
"""


def test_installed_is_exactly_what_is_locked() -> None:
    dpkg.check_installed(STATUS, [record("alpha")], "amd64", "layer x")
    for status, wanted, part in (
        (STATUS, [record("alpha", "2")], "alpha 2 is missing; alpha 1 is not in the lock"),
        (STATUS, [], "alpha 1 is not in the lock"),
        (STATUS, [record("alpha"), record("beta")], "beta 1 is missing"),
        (STATUS.replace("ok installed", "ok half-configured"), [record("alpha")], "alpha is half-configured"),
        (STATUS, [record(f"p{number}") for number in range(7)], "and 3 more"),
    ):  # fmt: skip
        with pytest.raises(
            BuildError, match="layer x: what is installed is not what is locked"
        ) as caught:
            dpkg.check_installed(status, wanted, "amd64", "layer x")
        assert part in caught.value.message


def test_size_of_a_tree_counts_blocks_and_each_link_once(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "d/one").write_bytes(b"x")
    (top / "two").write_bytes(b"x" * 4097)
    (top / "empty").touch()
    (top / "sym").symlink_to("two")
    os.link(top / "two", top / "d/again")
    assert measure.measured(top)[0] == 3 * 4096
