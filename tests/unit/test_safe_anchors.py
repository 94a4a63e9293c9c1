"""Folders that a user named, and that cannot be: what is wrong with them, and never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.errors import BuildError
from tasks.host import safe
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles


@pytest.fixture
def links(tmp_path: Path) -> Path:
    (tmp_path / "unmounted").symlink_to(tmp_path / "disk/cache")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "other").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unmounted", r"unmounted: it is a link to .*/disk/cache, and nothing is there"),
        ("circle", "circle: it is a link that leads back to itself"),
        ("other", "other: it is a link that leads back to itself"),
        ("/proc/x", "/proc/x.*: no such folder can be made there"),
    ],
)
def test_an_anchor_that_cannot_be_made(
    links: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str, below: str
) -> None:
    path = Path(f"{links / name}{below}")
    monkeypatch.setenv("STRATA_CACHE", str(path))
    for inside in (path, path / "layers"):
        with pytest.raises(BuildError, match=said) as caught, safe.folder(inside, make=True):
            pass
        assert "name another folder with STRATA_CACHE" in caught.value.hint
        with pytest.raises(FileNotFoundError), safe.folder(inside):
            pass
    cache = Cache(path, SeenFiles(links / "seen.json"))
    assert cache.foreign() == cache.own("layers") == []
    assert list(cache.entries()) == []


def test_a_file_in_an_anchors_place_and_a_link_to_one_that_is_there(
    links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (links / "file").touch()
    monkeypatch.setenv("STRATA_CACHE", str(links / "file"))
    with pytest.raises(NotADirectoryError), safe.folder(links / "file", make=True):
        pass
    (links / "disk/cache").mkdir(parents=True)
    monkeypatch.setenv("STRATA_CACHE", str(links / "unmounted"))
    with safe.folder(links / "unmounted/layers", make=True):
        assert (links / "disk/cache/layers").is_dir()


def test_a_signal_between_two_steps_has_no_descriptor_closed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then its number may be another file's."""
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # links on the way to it are its user's; below it none
    close, closed = os.close, []

    def interrupted(descriptor: int) -> None:
        close(descriptor)
        closed.append(descriptor)
        if len(closed) == 1:
            raise SystemExit(143)

    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(SystemExit), safe.folder(tmp_path / "a/b"):
        pytest.fail("the signal came before")
    assert len(closed) == len({*closed}) == 2
