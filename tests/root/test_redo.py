"""What a change redoes, and what it does not: each row of the promise, on real builds.

Before each of these builds `why` is asked, which must tell the very same, with the change as the cause.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.file_server import Server
from support.redone import HIT, asked, redone
from support.world import World

pytestmark = pytest.mark.root


IMAGES = {"/": "built", "/boot": "built"}


def moved(world: World, *lines: str) -> None:
    """`outdated` says these lines of the packages, and nothing else; so does `diff`, once they are locked."""
    said = world.doit("outdated", "spec=web", check=False)
    assert (said.code, said.out.splitlines()[2:]) == (2, list(lines)), said.text
    old = world.root / "old.lock"
    shutil.copy(world.root / "specs/web.lock", old)
    locked = world.doit("lock", "spec=web").out.splitlines()
    heading = said.out.splitlines()[1]
    assert locked[locked.index(heading) :] == said.out.splitlines()[1:]
    compared = world.doit("diff", "from=old.lock", "to=specs/web.lock").out.splitlines()
    assert compared[1:] == said.out.splitlines()[1:]


def differs(world: World, *lines: str) -> None:
    """`diff` says just these lines of the build before, which old/ has, and this one; no image's size."""
    said = world.doit("diff", "from=old", "to=out/web").out.splitlines()
    sizes = ("    /: ", "    /boot: ")
    assert [line for line in said[1:] if not line.startswith(sizes)] == list(lines)


def test_nothing_changed_redoes_nothing(built: World) -> None:
    before = built.outputs()
    assert not asked(built)["redone"]
    assert built.server.requests == []
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
    assert built.doit("outdated", "spec=web").code == 0
    assert asked(built, "lock=latest")["lock"]["state"] == "behind"
    redone(built, HIT, {})
    assert built.json()["lock"] != lock
    assert built.json()["locked"] == "written"


def test_package_of_the_top_layer_moved(built: World) -> None:
    built.add(built.deb("beta", "2", depends="gamma"))
    redone(built, {**HIT, "app": "built", **IMAGES}, {"app": "packages: beta 1 → 2 (from main)"})
    assert not asked(built)["redone"]
    assert "beta 2 all" in (built.root / "out/web/packages.txt").read_text().splitlines()


def test_dependency_of_the_top_layer_moved_and_other_bytes_of_the_same_version(
    built: World,
) -> None:
    built.repository.remove("beta")
    built.add(built.deb("beta", "1", depends="gamma", files={"/usr/share/beta/version": "other\n"}))
    bytes_alone = "beta 1: other bytes of the same version (from main)"
    moved(built, f"    {bytes_alone}")
    told = asked(built)
    (app,) = (one for one in told["stages"] if one["name"] == "app")
    assert [cause["text"] for cause in app["causes"]] == [f"packages: {bytes_alone}"]
    assert {one["name"] for one in told["stages"] if one["state"] == "built"} == {"app", *IMAGES}
    built.add(built.deb("gamma", "1.5"))
    moved(built, "    gamma 1 → 1.5 (from main)")
    redone(built, {**HIT, "app": "built", **IMAGES},
           {"app": f"packages: {bytes_alone}; gamma 1 → 1.5 (from main)"}, asks=())  # fmt: skip


def test_base_package_moved(built: World) -> None:
    built.add(built.deb("baseline", "2", priority="required", essential=True))
    moved(built, "    baseline 1 → 2 (from main)")
    cause = {"base": "packages: baseline 1 → 2 (from main)"}
    redone(built, dict.fromkeys(HIT, "built"), cause, asks=())


OTHER = ("out/web/web.img.gz is of another build", "out/web/web-boot.img.gz is of another build")


def test_package_added_and_removed_again(built: World) -> None:
    before = built.outputs()
    built.edit("packages: [alpha]", "packages: [alpha, delta]")
    moved(built, "  + delta 1 (packages, from main)")
    redone(built, {**HIT, "packages": "built", "app": "built", **IMAGES},
           {"packages": "packages: + delta 1 (from main)"}, asks=())  # fmt: skip
    assert built.outputs() != before
    # Their order is no content.
    built.edit("packages: [alpha, delta]", "packages: [delta, alpha]")
    redone(built, HIT, {}, asks=())
    built.edit("packages: [delta, alpha]", "packages: [alpha]")
    redone(built, HIT, {}, asks=(), published=OTHER)
    assert not asked(built)["redone"]
    assert built.json()["published"] is True
    assert built.outputs() == before


def _reformatted(world: World) -> None:
    path = world.root / "specs/web.yaml"
    text = path.read_text().replace("packages: [alpha]", "# the same\npackages:\n- 'alpha'\n")
    path.write_text("---\n" + text)


def _touched(world: World) -> None:
    for name in ("web.yaml", "files/motd", "scripts/app.sh", "web.lock"):
        os.utime(world.root / "specs" / name)


@pytest.mark.parametrize("change", [_reformatted, _touched])
def test_what_is_no_content_redoes_nothing(built: World, change: Callable[[World], None]) -> None:
    change(built)
    redone(built, HIT, {}, asks=())


def test_mirror_swapped_for_one_with_the_same_content(built: World, tmp_path: Path) -> None:
    lock = (built.root / "specs/web.lock").read_text()
    copy = tmp_path / "another-mirror"
    shutil.copytree(built.repository.root, copy, symlinks=True)
    with Server(copy) as other:
        assert not asked(built, f"mirror={other.url}", "lock=latest")["redone"]
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


def _both(world: World) -> None:
    _file_content(world)
    _script_byte(world)


@pytest.mark.parametrize(
    ("change", "cause", "files"),
    [
        pytest.param(_file_content, "file /etc/motd changed (6 → 8 bytes)",
                     ["files: 1 changed", "    /etc/motd: 6 → 8 bytes"], marks=pytest.mark.nightly),
        pytest.param(_file_executable, "file /etc/motd changed (mode 0644 → 0755)",
                     ["files: 1 changed", "    /etc/motd: mode 0644 → 0755"], marks=pytest.mark.nightly),
        # It makes what it made.
        pytest.param(_script_byte, "script scripts/app.sh changed", ["files: the same"],
                     marks=pytest.mark.nightly),
        (_both, ["file /etc/motd changed (6 → 8 bytes)", "script scripts/app.sh changed"],
         ["files: 1 changed", "    /etc/motd: 6 → 8 bytes"]),
    ],
)  # fmt: skip
def test_file_or_script_changed_and_undone(
    built: World, change: Callable[[World], None], cause: str | list[str], files: list[str]
) -> None:
    before = built.outputs()
    shutil.copytree(built.root / "out/web", built.root / "old")
    saved = {
        path: (path.read_bytes(), path.stat().st_mode)
        for path in ((built.root / "specs/files/motd"), (built.root / "specs/scripts/app.sh"))
    }
    change(built)
    redone(built, {**HIT, "app": "built", **IMAGES}, {"app": cause}, asks=())
    differs(built, "packages: the same", "images: 2 changed", *files)
    for path, (content, mode) in saved.items():
        path.write_bytes(content)
        path.chmod(mode)
    redone(built, HIT, {}, asks=(), published=OTHER)
    assert built.outputs() == before


@pytest.mark.parametrize("mode", [0o775, pytest.param(0o754, marks=pytest.mark.nightly)])
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
    layers = {path.name for path in built.root.glob("cache/layers/layer-*.tar.zst")}
    made = set(layers)
    for text in ("# other", "# one"):
        path.write_text(f"#!/bin/sh\n{text}\n")
        assert re.search(r"^layer app +\w+  built ", built.doit("layer:app", "spec=web").out, re.M)
        now = {path.name for path in built.root.glob("cache/layers/layer-*.tar.zst")}
        assert len(now - made) == 1
        made |= now
    assert len(made) == len(layers) + 2
    path.write_text(old)


def test_option_of_one_image(built: World) -> None:
    before = built.outputs()
    shutil.copytree(built.root / "out/web", built.root / "old")
    built.edit("format: ext2}", "format: ext2, label: boot}")
    redone(built, {**HIT, "/boot": "built"}, {"/boot": "/boot: label none → boot"}, asks=())
    differs(built, "packages: the same", "images: 1 changed", "files: the same")
    assert built.outputs()["web.img.gz"] == before["web.img.gz"]
    built.edit("format: ext2, label: boot}", "format: ext2}")
    redone(built, HIT, {}, asks=(), published=OTHER[1:])
    assert built.outputs() == before


def test_output_renamed(built: World) -> None:
    built.edit("file: web.img.gz", "file: renamed.img.gz")
    redone(
        built, HIT, {}, asks=(), published=["out/web/renamed.img.gz is called web.img.gz so far"]
    )
    assert sorted(built.outputs()) == ["renamed.img.gz", "web-boot.img.gz"]


def test_second_spec_with_the_same_base(built: World) -> None:
    text = (built.root / "specs/web.yaml").read_text()
    built.write("other.yaml", text.replace("packages: [alpha]", "packages: [delta]"))
    new = dict.fromkeys(("packages", "app", "/", "/boot"), "no earlier build of it is known here")
    redone(built, {**HIT, **dict.fromkeys(new, "built")}, new, spec="other",
           published=["nothing is published in out/other/ yet"])  # fmt: skip


def test_fresh_clone_with_lock_and_cache(built: World, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone", cache="*")
    redone(clone, HIT, {}, asks=(), published=["nothing is published in out/web/ yet"])
    assert clone.json()["published"] is True
    assert clone.outputs() == built.outputs()


def test_fresh_clone_with_lock_and_images_only(built: World, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone", cache="images/*")
    expected = {"base": "skipped", "packages": "skipped", "app": "skipped"}
    assert clone.build("lock=frozen") == {**expected, "/": "hit", "/boot": "hit"}
    assert clone.outputs() == built.outputs()
    assert built.server.requests == []
