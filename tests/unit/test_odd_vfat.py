"""What a vfat cannot hold, or would hold otherwise."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from support.world import World, says
from tasks.formats import fat, vfat
from tasks.formats.filesystem import SCRIPTS

pytestmark = pytest.mark.starts


@pytest.mark.parametrize(
    ("paths", "both"),
    [
        (["EFI/a", "EFI/A"], ("EFI/A", "EFI/a")),
        (["a", "b"], None),
        (["ä", "Ä"], ("Ä", "ä")),
        (["K", "k"], ("k", "\u212a")),
        (["ß", "ss"], None),
        (["d/x", "D/y", "d", "D"], ("D", "d")),
        (["d/x", "e/X"], None),
    ],
)
def test_names_that_are_one_to_a_vfat(paths: list[str], both: tuple[str, str] | None) -> None:
    paths = [path.replace("K", "\u212a") if both == ("k", "\u212a") else path for path in paths]
    assert vfat.same_name(paths) == both


def test_what_a_vfat_cannot_hold() -> None:
    file = stat.S_IFREG | 0o644
    for name in ("x", "x.y.z", "[a] b;c,d=e+f", "ж", "x" * 255, ".x", "-x", "@x", "aux.txt", "ä"):
        assert vfat.unfit(f"d/{name}", file, 1) == ""
    for name in (
        "a:b",
        "a*",
        'a"',
        "a\\b",
        "a\nb",
        "\udcff",
        "x.",
        "x ",
        "CON",
        "lpt4",
        "😀",
        "x" * 256,
    ):
        assert vfat.unfit(f"d/{name}", file, 1) != "", name
    assert "no plain file" in vfat.unfit("x", stat.S_IFLNK, 1)
    assert "4 GiB" in vfat.unfit("x", file, 1 << 32)
    assert vfat.unfit("x", file, (1 << 32) - 1) == ""


def test_a_filesystem_that_lacks_something_is_seen(tmp_path: Path) -> None:
    """Read back by Strata itself: mtools(1) wrote it, and no kernel is asked."""
    for size, kind in ((1, 12), (20, 16), (300, 32)):
        raw = tmp_path / f"{kind}.img"
        raw.touch()
        os.truncate(raw, size << 20)
        (tmp_path / "f").write_bytes(b"x" * 70_000)
        env = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
        for argv in (["mkfs.vfat", "-F", str(kind), "-s", "1", "-n", "LABEL", str(raw)],
                     ["mmd", "-i", str(raw), "::Some long folder", "::EFI"],
                     ["mcopy", "-i", str(raw), "f", "::EFI/SHIM.EFI"],
                     ["mcopy", "-i", str(raw), "f", "::Some long folder/a näme that is long.txt"],
                     ["mdel", "-i", str(raw), "::EFI/SHIM.EFI"],
                     ["mcopy", "-i", str(raw), "f", "::EFI/grub.cfg"]):  # fmt: skip
            subprocess.run(argv, check=True, capture_output=True, cwd=tmp_path, env=env)
        expected = {"EFI": -1, "EFI/grub.cfg": 70_000, "Some long folder": -1,
                    "Some long folder/a näme that is long.txt": 70_000}  # fmt: skip
        assert fat.files(raw) == expected
        assert vfat.lost(raw, expected) == ""
        assert vfat.lost(raw, {**expected, "EFI/grub.cfg": 1}) == "EFI/grub.cfg"
        assert vfat.lost(raw, {**expected, "EFI/grüb": 1}) == "EFI/grüb"


def test_names_that_are_patterns_or_aliases_to_mtools(tmp_path: Path) -> None:
    """Or in another folder, or over another file; and no name is refused that they write right."""
    tree_, raw = tmp_path / "tree", tmp_path / "raw.img"
    names = ["d[x]/f[1].txt", "dx/f", "d[x]/[y]/j", "a]b/h", "q[!z/i", "q^[a-z]/i", "[top].txt",
             "longfilename1.txt", "longfi~1.txt", "LongFi~2.txt", "longfilename3.txt",
             "longfolder1/longfo~1/longfolder2/longfi~1.x", "longfo~1/longfilename", "s~1/l~1/x",
             "longfo~1/longfi~1", "longfo~2", "élongname", "élongn~1", "xx ~1", "~1", "x" * 30,
             "µ.txt", "Μx.txt", "日.txt"]  # fmt: skip
    for number, name in enumerate(names):
        (tree_ / name).parent.mkdir(parents=True, exist_ok=True)
        (tree_ / name).write_text("x" * (number + 1))
    raw.touch()
    os.truncate(raw, 4 << 20)
    subprocess.run(["mkfs.vfat", str(raw)], check=True, capture_output=True)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    subprocess.run(["bash", str(SCRIPTS / "fill-vfat.sh"), str(raw)], check=True,
                   capture_output=True, cwd=tree_, env=env, timeout=60)  # fmt: skip
    expected = {str(path.relative_to(tree_)): -1 if path.is_dir() else path.stat().st_size
                for path in tree_.rglob("*")}  # fmt: skip
    assert fat.files(raw) == expected
    said = subprocess.run(["iconv", "-c", "-f", "UTF-8", "-t", "cp850//TRANSLIT"],
                          input="".join(f"{char}\n" for char in vfat.doubtful(names)).encode(),
                          capture_output=True, check=False).stdout  # fmt: skip
    assert vfat.replaced(names, vfat.transliterated(vfat.doubtful(names), said)) == ""
    for char, capital in (("ÿ", "Ÿ"), ("ƒ", "Ƒ"), ("ā", "Ā")):
        assert capital in vfat.doubtful([f"d/{char}.txt"])
        assert vfat.replaced([f"d/{char}.txt"], vfat.transliterated(capital, b"Y\n"))
    assert vfat.doubtful(["ä.txt", "ÿ-and-a-long-name.txt"]) == ""


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ÿ.txt", ["vfat cannot hold /usr/ÿ.txt", "mtools would write another letter"]),
        ("TWO", ["vfat cannot hold /usr/TWO: it is one with /usr/two there"]),
        pytest.param("a:b", ["vfat cannot hold /usr/a:b", "':'"], marks=pytest.mark.nightly),
        pytest.param(
            "ā",
            ["vfat cannot hold /usr/ā", "mtools would write another letter"],
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_vfat_that_would_lose_a_file_is_refused(
    tiny: World, tmp_path: Path, name: str, parts: list[str]
) -> None:
    from support.debs import make_deb

    tiny.add(make_deb(tiny.debs, "beta", "2", files={"/usr/two": "2\n", f"/usr/{name}": "1\n"}))
    tiny.edit("format: ext2}", "format: ext2}\n  /usr: {file: u.img, format: vfat, container: raw}")
    said = tiny.doit("build", "spec=web", check=False)
    assert said.code != 0
    assert said.err.count("ERROR: ") == 1
    assert "Traceback" not in said.text
    says(said.text, "images./usr.format", *parts, "rename or remove it")
