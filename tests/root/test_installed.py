"""Strata installed from its wheel, in a project of one's own; and several specs in one run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.debs import make_deb
from support.world import PROJECT, TINY, World, says

pytestmark = pytest.mark.root


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The bin folder of a fresh venv with the wheel; what it depends on is this one's."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "tasks", "specs"):
        subprocess.run(["cp", "-a", PROJECT / name, source], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source],
                   check=True, capture_output=True)  # fmt: skip
    # A pip of its own takes longer to make than all the rest, and this one's installs there as well.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *pip[3:], "install",
                    "--no-deps", wheel], check=True)  # fmt: skip
    (site,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert not (site / "tasks").exists()
    gone = subprocess.run(
        [python, "-c", "import tasks"], cwd=tmp_path, check=False, capture_output=True
    )
    assert b"No module named 'tasks'" in gone.stderr
    return tmp_path / "venv/bin"


def test_a_project_of_ones_own(installed: Path, tiny: World, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()

    def run(*words: str, code: int = 0) -> str:
        env = {**tiny.environment(), "PATH": f"{installed}:{os.environ['PATH']}"}
        done = subprocess.run(words, cwd=mine, env=env, text=True, check=False, capture_output=True)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    says(
        run("strata", "init", "web"),
        "wrote dodo.py",
        "wrote specs/web.yaml",
        "strata build spec=web",
    )
    says(run("strata", "check", "web"), "specs/web.yaml: right: 2 repositories, 1 layer, 1 image")
    (mine / ".gitignore").unlink()
    (mine / ".gitignore").symlink_to(tmp_path / "theirs")
    (tmp_path / "theirs").write_text("x\n")
    says(run("strata", "init", "web"), ".gitignore is no file to add to")
    assert (tmp_path / "theirs").read_text() == "x\n"
    (mine / ".gitignore").unlink()
    (mine / ".gitignore").write_text("mine")
    says(run("strata", "init", "web"), "added to .gitignore: /cache/ /out/ /report/ /.doit/ /*.key")
    assert (mine / ".gitignore").read_text() == "mine\n/cache/\n/out/\n/report/\n/.doit/\n/*.key\n"
    said = run("strata", "init", "web")
    assert said.count("left alone") == 4
    (mine / "specs/web.yaml").write_text(TINY.replace("keys/", f"{tiny.root}/specs/keys/"))
    says(
        run("strata", "build", "web"), "base", "built", "image /", "built", "published to out/web/"
    )
    assert (mine / "out/web/web.img.gz").stat().st_size > 1000
    # Plain doit reads the dodo.py, and finds it all done.
    says(run("python", "-m", "doit", "build", "spec=web"), "hit", "unchanged in out/web/")
    says(run("strata", "list", "web"), "base", "in the cache", "image /", "in the cache")
    assert run("strata", "-q", "build", "web") == ""
    says(
        run("strata", "build", "webb", code=1), "specs/webb.yaml: there is no such spec", "spec=web"
    )
    says(
        run("strata", "bild", "web", code=3), "bild: there is no such command", "did you mean build"
    )
    says(run("strata", "report", "web"), "report/web.html")  # its template is in the wheel
    assert sorted(path.name for path in mine.iterdir()) == [
        ".doit", ".gitignore", "cache", "dodo.py", "out", "report", "specs",
    ]  # fmt: skip


COMMON = TINY.partition("images:")[0]


def test_several_specs_in_one_run_make_each_stage_once(tiny: World) -> None:
    tiny.write("common/tiny.yaml", COMMON)
    for name in ("web", "api"):
        tiny.write(f"{name}.yaml", f"include: [common/tiny.yaml]\nvars: {{name: {name}}}\n"
                   "images: {/: {file: '${name}.img.gz', format: ext2}}\n")  # fmt: skip
    said = tiny.doit("build", "spec=all").out
    says(said, "== api", "base", "built", "== web", "hit", "published to out/web/")
    assert said.count(" built ") == 2, said  # one base, and one image that both publish
    assert (tiny.root / "out/api/api.img.gz").is_file()
    # One line of the common part redoes what it is in, in both.
    tiny.write("common/tiny.yaml", COMMON.replace(", beta]", "]"))
    said = tiny.doit("build", "spec=a*,web").out
    assert said.count("base ") >= 2
    assert said.count(" built ") == 2, said
    failing = tiny.doit("build", "spec=all", "lock=nonsense", check=False)
    assert failing.code == 1
    says(failing.out, "== api", "== web", "== 2 of 2 specs: api, web")


def test_a_variant_has_its_own_lock_and_results(tiny: World) -> None:
    tiny.write("web.yaml", TINY + "variants: {x: {recommends: true}}\n")
    tiny.doit("build", "spec=web")
    tiny.doit("build", "spec=web", "variant=x")
    assert (tiny.root / "specs/web-x.lock").is_file()
    assert tiny.results("web-x") == {"base": "hit", "/": "hit"}
    assert (tiny.root / "out/web-x/web.img.gz").is_file()
    # A variant that cannot be is told before anybody wants it.
    web = tiny.root / "specs/web.yaml"
    right = web.read_text()
    web.write_text(right.replace("x: {recommends: true}", "x: {recomends: true}"))
    says(tiny.doit("check", "spec=web", check=False).err, "unknown field 'recomends'", "recommends")
    web.write_text(right)
    says(tiny.doit("check", "spec=web").out, "specs/web.yaml: right")
    # What a variant's lock needs is kept.
    (tiny.root / "specs/web.lock").unlink()
    says(tiny.doit("prune").out, "pruned 0 entries")
    says(
        tiny.doit("build", "spec=web", "variant=y", check=False).err,
        "variant=y: there is no such variant",
    )


def test_lock_says_what_it_changed(tiny: World) -> None:
    says(tiny.doit("lock", "spec=web").out, "specs/web.lock: written", "base: 2 packages")
    says(tiny.doit("lock", "spec=web").out, "specs/web.lock: unchanged")
    tiny.add(make_deb(tiny.debs, "beta", "2", files={"/usr/beta": "2\n"}))
    says(tiny.doit("lock", "spec=web").out, "specs/web.lock: written", "beta 1 → 2")
    says(tiny.doit("lock", "spec=web", "lock=keep").out, "specs/web.lock: unchanged")
