"""What trees take, by layer, package and folder, and what two of them hold; the memory of tarballs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.commands.sizes import document, told
from tasks.plan.stage import Stage
from tasks.rootfs.contents import read, remember, remembered
from tasks.rootfs.stacked import Floor, Package, Sizes, Twice, stacked
from tasks.store.record import Entry
from unit.test_largest import MIB, packed

pytestmark = pytest.mark.starts

K = 4096


def status(*packages: tuple[str, str, int]) -> bytes:
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: {arch}\nInstalled-Size: {size}\n\n"
        for name, arch, size in packages
    ).encode()


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    info = "var/lib/dpkg/info"
    return [
        packed(
            tmp_path, "base", ("usr", "folder", 0), ("usr/bin", "folder", 0),
            ("usr/bin/tool", "file", 3 * MIB), ("usr/bin/other", "file", MIB),
            ("opt", "folder", 0), ("opt/a", "file", 2 * MIB), ("srv", "folder", 0), ("srv/b", "file", MIB),
            (f"{info}/tool:amd64.list", "file", b"/.\n/bin\n/bin/tool\n"),
            (f"{info}/other.list", "file", b"/.\n/usr/bin/other\n/usr/bin/none\n"),
            ("var/lib/dpkg/status", "file", status(("tool", "amd64", 3000), ("other", "i386", 7))),
        ),
        packed(
            tmp_path, "app",
            ("usr/bin/tool", "file", 2 * MIB), ("usr/bin/other", "whiteout", 0),
            ("opt", "opaque", 0), ("opt/a", "file", MIB), ("opt/new", "file", MIB), ("srv", "file", 10),
        ),
    ]  # fmt: skip


def sizes(trees: list[Path]) -> Sizes:
    return stacked([read(path) for path in trees], "amd64")


def test_each_byte_is_of_one_layer_one_package_and_one_folder(trees: list[Path]) -> None:
    found = sizes(trees)
    base, app = found.floors
    # What is replaced and what is removed is in the base's tarball and in no image.
    assert (app.replaces, app.removes) == (5 * MIB, 2 * MIB + K)
    assert app.holds == app.seen == 4 * MIB + 2 * K
    assert base.holds - base.seen == 7 * MIB + 2 * K  # the folder /opt is the layer's now
    assert found.bytes == base.seen + app.seen
    folders = sum(one.bytes for one in found.packages) + found.no_package
    assert found.bytes - folders == 3 * K  # /opt, /usr and /usr/bin; those of var have no member
    assert dict(found.folders)["/usr/bin"] == 2 * MIB + K


def test_a_file_stays_its_packages_where_a_layer_replaces_it(trees: list[Path]) -> None:
    """Of a merged /usr, too; dpkg calls a package by its architecture only where it must."""
    assert sizes(trees).packages == [Package("tool", 2 * MIB, 3000 << 10),
                                     Package("other:i386", 0, 7 << 10)]  # fmt: skip
    assert sizes(trees[:1]).packages[1] == Package("other:i386", MIB, 7 << 10)


def test_what_two_layers_hold_is_named_the_largest_first(trees: list[Path]) -> None:
    assert sizes(trees).twice == [Twice("/usr/bin/tool", 0, 1, 3 * MIB, 2 * MIB),
                                  Twice("/opt/a", 0, 1, 2 * MIB, MIB)]  # fmt: skip
    assert sizes(trees[:1]).twice == []


def test_folders_may_lie_deeper_than_python_calls(tmp_path: Path) -> None:
    deep = packed(tmp_path, "deep", ("a/" * 1500 + "b", "file", MIB))
    assert stacked([read(deep)], "amd64").bytes == MIB


def entry(path: Path) -> Entry:
    return Entry(path=path, sha256="ab" * 32, size=path.stat().st_size, facts={})


def test_what_was_read_is_remembered_whole(trees: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "sizes"
    for path in (*trees, packed(tmp_path, "odd", ("a\udcff\n", "file", 1))):
        assert remembered(folder, entry(path)) is None
        remember(folder, entry(path), read(path))
        assert remembered(folder, entry(path)) == read(path)
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}


def test_a_memory_of_another_form_is_none(trees: list[Path], tmp_path: Path) -> None:
    remember(tmp_path / "sizes", entry(trees[0]), read(trees[0]))
    (path,) = (tmp_path / "sizes").iterdir()
    good = json.loads(path.read_text())
    for name, bad in (("format", 1), ("bytes", [1]), ("owners", [99] * len(good["paths"])), ("gone", 1),
                      ("packages", [[]]), ("installed", {"a": "b"}), ("paths", None)):  # fmt: skip
        path.write_text(json.dumps({**good, name: bad}))
        assert remembered(path.parent, entry(trees[0])) is None, name
    path.write_text("[" * 100_000)
    assert remembered(path.parent, entry(trees[0])) is None


def test_lines_name_ten_of_each_and_obey_no_name() -> None:
    stages = [Stage(kind=kind, name=name, key="0" * 32, inputs={}, suffix=".tar.zst")
              for kind, name in (("base", "base"), ("layer", "app"))]  # fmt: skip
    entries = [Entry(path=Path("x"), sha256="", size=5_000_000, facts={})] * 2
    found = Sizes(
        files=7, bytes=30_000_000, floors=[Floor(4, 20_000_000, 19_000_000, 0, 0)] * 2,
        packages=[Package(f"p{number}", 1000, None) for number in range(12)], no_package=4096,
        folders=[("/usr\x1b", 29_000_000), ("/x", 10)],
        twice=[Twice("/etc/\x1b", 0, 1, 1_000_000, 2)],
    )  # fmt: skip
    lines = list(told("web", stages, entries, found))
    assert lines[0] == "web: 30.0 MB in 7 files; 10.0 MB in 2 tarballs"
    assert any(line.startswith("by package, the largest 10 of 12") for line in lines)
    assert lines[-2:] == [
        "1 file held twice: 1.0 MB that no image shows",
        "        1.0 MB  /etc/?  (base, then layer app)",
    ]
    assert not any("\x1b" in line for line in lines)
    told_to_programs = document("web", stages, entries, found)
    assert [one["path"] for one in told_to_programs["folders"]] == ["/usr\x1b"]
    assert len(told_to_programs["packages"]) == 12
