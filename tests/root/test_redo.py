"""What a change redoes, and what it does not: each row of the promise, on real builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.repository import Server
from support.world import World

pytestmark = pytest.mark.root


HIT = {"base": "hit", "packages": "hit", "app": "hit", "/": "hit", "/boot": "hit"}


IMAGES = {"/": "built", "/boot": "built"}


def test_nothing_changed_redoes_nothing(built: World) -> None:
    before = built.outputs()
    assert built.build() == HIT
    assert built.json()["published"] is False
    assert [(method, status) for method, path, status in built.server.requests] == [("GET", 304)]
    assert built.outputs() == before


def test_lock_keep_asks_no_repository(built: World) -> None:
    assert built.build("lock=keep") == HIT
    assert built.server.requests == []


def test_lock_frozen_asks_no_repository(built: World) -> None:
    assert built.build("lock=frozen") == HIT
    assert built.server.requests == []


def test_repository_moved_without_my_packages(built: World) -> None:
    lock = built.json()["lock"]
    built.add(built.deb("epsilon", "2"))
    assert built.build() == HIT
    assert built.json()["lock"] != lock
    assert built.json()["locked"] == "written"


def test_package_of_the_top_layer_moved(built: World) -> None:
    built.add(built.deb("beta", "2", depends="gamma"))
    assert built.build() == {**HIT, "app": "built", **IMAGES}
    assert "beta 2 all" in (built.root / "out/web/packages.txt").read_text().splitlines()


def test_dependency_of_the_top_layer_moved(built: World) -> None:
    built.add(built.deb("gamma", "1.5"))
    assert built.build() == {**HIT, "app": "built", **IMAGES}


def test_base_package_moved(built: World) -> None:
    built.add(built.deb("baseline", "2", priority="required", essential=True))
    assert set(built.build().values()) == {"built"}


def test_package_with_the_same_version_and_other_bytes_moved(built: World) -> None:
    built.repository.remove("beta")
    built.add(built.deb("beta", "1", depends="gamma", files={"/usr/share/beta/version": "other\n"}))
    assert built.build() == {**HIT, "app": "built", **IMAGES}


def test_package_added_and_removed_again(built: World) -> None:
    before = built.outputs()
    built.edit("packages: [alpha]", "packages: [alpha, delta]")
    assert built.build() == {"base": "hit", "packages": "built", "app": "built", **IMAGES}
    assert built.outputs() != before
    built.edit("packages: [alpha, delta]", "packages: [alpha]")
    assert built.build() == HIT
    assert built.json()["published"] is True
    assert built.outputs() == before


def _reformatted(world: World) -> None:
    path = world.root / "specs/web.yaml"
    text = path.read_text().replace("packages: [alpha]", "# the same\npackages:\n- 'alpha'\n")
    path.write_text("---\n" + text)


def _reordered(world: World) -> None:
    world.edit("packages: [alpha]", "packages: [delta, alpha]")
    world.build()
    world.edit("packages: [delta, alpha]", "packages: [alpha, delta]")


def _touched(world: World) -> None:
    for name in ("web.yaml", "files/motd", "scripts/app.sh", "web.lock"):
        os.utime(world.root / "specs" / name)


@pytest.mark.parametrize("change", [_reformatted, _reordered, _touched])
def test_what_is_no_content_redoes_nothing(built: World, change: Callable[[World], None]) -> None:
    change(built)
    assert built.build() == HIT


def test_mirror_swapped_for_one_with_the_same_content(built: World, tmp_path: Path) -> None:
    lock = (built.root / "specs/web.lock").read_text()
    copy = tmp_path / "another-mirror"
    shutil.copytree(built.repository.root, copy, symlinks=True)
    with Server(copy) as other:
        assert built.build(f"mirror={other.url}") == HIT
        assert other.requests
    assert (built.root / "specs/web.lock").read_text() == lock


def _file_content(world: World) -> None:
    world.write("files/motd", "changed\n")


def _file_executable(world: World) -> None:
    (world.root / "specs/files/motd").chmod(0o755)


def _script_byte(world: World) -> None:
    path = world.root / "specs/scripts/app.sh"
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize("change", [_file_content, _file_executable, _script_byte])
def test_file_or_script_changed_and_undone(built: World, change: Callable[[World], None]) -> None:
    before = built.outputs()
    saved = {
        path: (path.read_bytes(), path.stat().st_mode)
        for path in ((built.root / "specs/files/motd"), (built.root / "specs/scripts/app.sh"))
    }
    change(built)
    assert built.build() == {**HIT, "app": "built", **IMAGES}
    for path, (content, mode) in saved.items():
        path.write_bytes(content)
        path.chmod(mode)
    assert built.build() == HIT
    assert built.outputs() == before


@pytest.mark.parametrize("mode", [0o775, 0o754])
def test_script_of_a_clone_with_another_umask(built: World, mode: int) -> None:
    """002 is the default of many hosts: git writes 0775 there. A script's mode is in no byte."""
    (built.root / "specs/scripts/app.sh").chmod(mode)
    assert built.build() == HIT


@pytest.mark.parametrize(
    "name", [pytest.param("files/motd", marks=pytest.mark.nightly), "scripts/app.sh"]
)
def test_source_edited_while_it_is_built(built: World, name: str) -> None:
    """Its key was made of what it was: found under it, the new bytes would be wrong for ever."""
    path = built.root / "specs" / name
    old = path.read_text()
    path.write_text("#!/bin/sh\n# one\n")
    built.add(built.deb("alpha", "2", scripts={"postinst": "sleep 2"}))
    log = built.root / "out/web/log/layer-packages.log"
    with subprocess.Popen(
        [sys.executable, "-m", "doit", "build", "spec=web"], cwd=built.root, text=True,
        env=built.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        while not log.exists() or "Setting up alpha (2)" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        path.write_text("#!/bin/sh\n# other\n")
        said = process.communicate()[0]
    assert process.returncode == 1
    assert f"{name.rpartition('/')[2]} was changed while it was built" in said
    assert "Traceback" not in said
    layers = [path.name for path in built.root.glob("cache/layers/layer-*.tar.zst")]
    assert built.build()["app"] == "built"
    path.write_text("#!/bin/sh\n# one\n")
    assert built.build()["app"] == "built"
    assert len(list(built.root.glob("cache/layers/layer-*.tar.zst"))) == len(layers) + 2
    path.write_text(old)


def test_option_of_one_image(built: World) -> None:
    before = built.outputs()
    built.edit("format: ext2}", "format: ext2, label: boot}")
    assert built.build() == {**HIT, "/boot": "built"}
    assert built.outputs()["web.img.gz"] == before["web.img.gz"]
    built.edit("format: ext2, label: boot}", "format: ext2}")
    assert built.build() == HIT
    assert built.outputs() == before


def test_output_renamed(built: World) -> None:
    built.edit("file: web.img.gz", "file: renamed.img.gz")
    assert built.build() == HIT
    assert sorted(built.outputs()) == ["renamed.img.gz", "web-boot.img.gz"]


def test_second_spec_with_the_same_base(built: World) -> None:
    text = (built.root / "specs/web.yaml").read_text()
    built.write("other.yaml", text.replace("packages: [alpha]", "packages: [delta]"))
    assert built.build(spec="other")["base"] == "hit"
    assert built.results("other")["packages"] == "built"


def test_fresh_clone_with_lock_and_cache(built: World, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone", cache="*")
    assert clone.build() == HIT
    assert clone.json()["published"] is True
    assert clone.outputs() == built.outputs()


def test_fresh_clone_with_lock_and_images_only(built: World, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone", cache="images/*")
    expected = {"base": "skipped", "packages": "skipped", "app": "skipped"}
    assert clone.build("lock=frozen") == {**expected, "/": "hit", "/boot": "hit"}
    assert clone.outputs() == built.outputs()
    assert built.server.requests == []


HARMS = ("truncated", "missing", "flipped", "no record")


def harmed(*pairs: tuple[str, str], kinds: Sequence[str]) -> list[Any]:
    """Each harm to an entry of each kind: those of `pairs` in every run, the others at night."""
    return [
        pytest.param(kind, harm, marks=() if (kind, harm) in pairs else pytest.mark.nightly)
        for kind in kinds for harm in HARMS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "harm"),
    harmed(("base", "truncated"), ("layer", "no record"), ("image", "missing"), ("image", "flipped"),
           kinds=["base", "layer", "image"]),
)  # fmt: skip
def test_damaged_entry_that_nothing_needs(built: World, kind: str, harm: str) -> None:
    _harm(built, kind, harm)
    results = built.build("lock=keep")
    if kind == "image":
        # The image of / is asked for by publish, so it is made again, from the layers.
        assert results["/"] == "built"
        assert {results["base"], results["packages"], results["app"]} == {"hit"}
    else:
        assert (results["/"], results["/boot"]) == ("hit", "hit")


@pytest.mark.parametrize(
    ("kind", "harm"),
    harmed(("base", "flipped"), ("layer", "truncated"), ("layer", "missing"), ("layer", "no record"),
           kinds=["base", "layer"]),
)  # fmt: skip
def test_damaged_entry_that_is_needed(built: World, kind: str, harm: str) -> None:
    _harm(built, kind, harm)
    _harm(built, "image", "missing")
    expected = {**HIT, "/": "built", {"base": "base", "layer": "app"}[kind]: "built"}
    assert built.build("lock=keep") == expected


def _harm(world: World, kind: str, harm: str) -> None:
    """Damage the base, the top layer, or the image of /, behind a hard link of its own."""
    from tasks.session.session import Session

    session = Session(root=world.root, variables={"spec": "web"})
    os.environ["STRATA_MIRROR"] = world.server.url
    here = Path.cwd()
    os.chdir(world.root)
    try:
        plan = session.plan
    finally:
        os.chdir(here)
        del os.environ["STRATA_MIRROR"]
    stage = {"base": plan.base, "layer": plan.layers[-1], "image": plan.images[0]}[kind]
    path = session.cache.file(stage)
    content = bytearray(path.read_bytes())
    path.unlink()
    if harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "no record":
        path.write_bytes(content)
        session.cache.record(stage).unlink()


@pytest.mark.parametrize("harm", ["deleted", "truncated", "flipped", "folder deleted"])
def test_output_deleted_or_damaged(built: World, harm: str) -> None:
    before = built.outputs()
    path = built.root / "out/web/web.img.gz"
    content = bytearray(path.read_bytes())
    if harm == "deleted":
        path.unlink()
    elif harm == "folder deleted":
        shutil.rmtree(path.parent)
    elif harm == "truncated":
        path.write_bytes(content[:1000])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert built.build("lock=keep") == HIT
    assert built.json()["published"] is True
    assert built.outputs() == before


def test_what_apt_solved_before_is_not_solved_again(built: World) -> None:
    """Of the very same repositories: a layer more, or another spec with the same base."""
    log = built.root / "out/web/log/lock.log"
    built.doit("lock", "spec=web")
    kept = (built.root / "specs/web.lock").read_bytes()
    built.edit("packages: [beta]", "packages: [beta, delta]")
    built.doit("lock", "spec=web")
    said = log.read_text()
    assert said.count("# resolved specs/web.yaml: ") == 2
    assert said.count("# resolving specs/web.yaml: ") == 1
    built.edit("packages: [beta, delta]", "packages: [beta]")
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept
    shutil.rmtree(built.root / ".doit/resolved")
    (built.root / "specs/web.lock").unlink()
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept


def test_answer_that_rotted_or_is_of_another_repository_is_not_believed(built: World) -> None:
    built.doit("lock", "spec=web")
    kept = (built.root / "specs/web.lock").read_bytes()
    for path in (built.root / ".doit/resolved").glob("*.json"):
        path.write_text(path.read_text().replace("alpha", "alphb", 1))
    (built.root / "specs/web.lock").unlink()
    built.doit("lock", "spec=web")
    assert (built.root / "specs/web.lock").read_bytes() == kept
    built.add(built.deb("alpha", "2"))
    built.doit("lock", "spec=web")
    assert '"version": "2"' in (built.root / "specs/web.lock").read_text()
