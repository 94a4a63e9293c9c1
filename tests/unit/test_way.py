"""out/NAME/, where a file is published that was a folder, or a folder that was a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import BuildError
from tasks.stages.way import clear_way


def made(out: Path, *names: str) -> None:
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)


def test_a_published_file_gives_way_to_a_folder_of_its_name(tmp_path: Path) -> None:
    made(tmp_path, "web", "old.img")
    assert clear_way(tmp_path, ["old.img", "web"], ["web/index.json", "web/blobs/a"]) == ["old.img"]
    assert [one.name for one in tmp_path.iterdir()] == ["old.img"]


def test_a_published_folder_gives_way_to_a_file(tmp_path: Path) -> None:
    made(tmp_path, "web/index.json", "web/blobs/sha256/a")
    assert clear_way(tmp_path, ["web/blobs/sha256/a", "web/index.json"], ["web", "b"]) == []
    assert [*tmp_path.iterdir()] == []


def test_a_folder_in_which_nothing_was_published_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert clear_way(tmp_path, [], ["web"]) == []
    assert (tmp_path / "web").is_dir()


def test_what_stays_as_it_was_is_left_alone(tmp_path: Path) -> None:
    made(tmp_path, "web/index.json", "root.img")
    assert clear_way(tmp_path, ["root.img"], ["web/index.json", "other.img"]) == ["root.img"]
    assert (tmp_path / "web/index.json").exists()
    assert (tmp_path / "root.img").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_stratas_stays_and_nothing_is_removed(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    made(out, "b/published")
    if kind == "file":
        made(out, "web")
    elif kind == "link":
        (out / "web").symlink_to(tmp_path)
    else:
        made(out, "web/mine", "web/index.json")
    names = ["web", "b"] if kind == "folder" else ["web/index.json", "b"]
    with pytest.raises(BuildError, match="another file than Strata published is where") as caught:
        clear_way(
            out, ["b/published", "web/index.json"] if kind == "folder" else ["b/published"], names
        )
    assert "web" in caught.value.message
    assert "another name" in caught.value.hint
    assert (out / "b/published").exists()
    assert (out / "web").is_symlink() or (out / "web").exists()
