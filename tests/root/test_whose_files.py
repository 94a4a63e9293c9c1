"""Whose files these are and which streams there are: users, closed streams, odd folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.others import OTHER, refused, root, some
from support.world import PROJECT, TINY, Build, World, says


def run(argv: list[str], cwd: Path, env: dict[str, str], *, user: int = 0) -> Build:
    if user:
        argv = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *argv]
    done = subprocess.run(argv, cwd=cwd, text=True, check=False, capture_output=True, env=env,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    return Build(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def wrapper(shared: Path) -> Path:
    """A checkout with ./doit and no .venv."""
    folder = shared / "checkout"
    folder.mkdir()
    for name in ("doit", "pyproject.toml"):
        (folder / name).write_bytes((PROJECT / name).read_bytes())
    (folder / "doit").chmod(0o755)
    return folder


@root
@pytest.mark.parametrize(
    "words", ["build spec=web", "spec=web", "reproduce spec=web", "image:/ -v2"]
)
def test_the_wrapper_says_that_root_is_needed_before_it_sets_up(wrapper: Path, words: str) -> None:
    os.chown(wrapper, OTHER, OTHER)
    build = run(["./doit", *words.split()], wrapper, {"PATH": os.environ["PATH"]}, user=OTHER)
    assert build.code == 1
    assert "needs root: run the same command with sudo" in build.err
    assert build.err.count("\n") == 1
    assert not (wrapper / ".venv").exists()
    (wrapper / ".venv").touch()
    for more in ("list build", "clean build", "lock spec=web"):
        assert ".venv is no folder" in run(["./doit", *more.split()], wrapper, {}, user=OTHER).err


@root
def test_the_wrapper_and_a_venv_of_another(wrapper: Path) -> None:
    env = {"PATH": os.environ["PATH"]}

    def told(*parts: str, user: int = 0) -> None:
        build = run(["./doit", "list"], wrapper, env, user=user)
        assert build.code == 1
        assert build.err.count("\n") == 1, build.err
        says(build.err, *parts)

    told("this user may not write to", "checkout of your own", user=OTHER)
    (wrapper / ".venv").write_text("")
    told(".venv is no folder", "remove it")
    (wrapper / ".venv").unlink()
    (wrapper / ".venv/bin").mkdir(parents=True)
    told(".venv is user root's and not up to date", user=OTHER)
    os.chown(wrapper / ".venv", OTHER, OTHER)
    told("whose programs root does not run: remove it")


@root
def test_a_build_says_that_root_is_needed_before_it_locks(tiny: World, shared: Path) -> None:
    mine = tiny.clone(shared / "mine")
    for path in (mine.root, *mine.root.rglob("*")):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    # It reads what root does: python may be in /root.
    argv = ["setpriv", "--reuid", str(OTHER), "--regid", str(OTHER), "--clear-groups",
            "--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search",
            "--bounding-set", "-all,+dac_read_search", sys.executable, "-m", "doit"]  # fmt: skip
    for words in (["build"], ["image:/"], ["base"], []):
        build = run([*argv, *words, "spec=web"], mine.root, mine.environment(STRATA_SCRATCH=""))
        assert build.code == 1
        says(build.err, "ERROR: building base needs root")
        assert not (mine.root / "specs/web.lock").exists()
        assert not (mine.root / "cache").exists()


@root
def test_files_in_the_place_of_folders_and_a_missing_schema(tiny: World, shared: Path) -> None:
    del tiny.env["STRATA_SCRATCH"]
    for name in some(("out/web", "out", "out/web/log", "cache/layers", "cache", "cache/locks", "cache/index",
                      "cache/debs", ".doit/scratch")):  # fmt: skip
        subprocess.run(["rm", "-rf", *(tiny.root / one for one in ("cache", "out", ".doit"))],
                       check=True)  # fmt: skip
        path = tiny.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        build = tiny.doit("build", "spec=web", check=False)
        refused(build, f"{name}: a file is in its folder's place")
        assert path.read_text() == "mine"
        path.unlink()
    for name in ("STRATA_CACHE", "STRATA_SCRATCH"):
        (shared / "file").write_text("mine")
        refused(tiny.doit("build", "spec=web", check=False, **{name: str(shared / "file")}),
                "shared" if "shared" in str(shared) else "file", "a file is in")  # fmt: skip
    (shared / "unmounted").symlink_to("/nowhere/disk")
    (shared / "circle").symlink_to("circle")
    for name in ("STRATA_CACHE", "STRATA_SCRATCH"):
        for place, said in (
            ("unmounted", "unmounted: it is a link to /nowhere/disk, and nothing is there"),
            ("unmounted/x", "unmounted: it is a link to /nowhere/disk, and nothing is there"),
            ("circle", "circle: it is a link that leads back to itself"),
            ("circle/x", "circle: it is a link that leads back to itself"),
            ("/proc/x", "/proc/x: no such folder can be made there"),
        ):
            given = {name: str(shared / place)}
            build = tiny.doit("build", "spec=web", check=False, **given)
            refused(build, said, f"name another folder with {name}")
            assert (shared / "circle").is_symlink()
            assert (shared / "unmounted").is_symlink()
    for place in ("unmounted", "circle", "/proc/x"):
        verify = tiny.doit("verify", check=False, STRATA_CACHE=str(shared / place))
        refused(verify, "name another folder with STRATA_CACHE")
        assert tiny.doit("doctor", check=False, STRATA_CACHE=str(shared / place)).err == ""
    (tiny.root / ".doit").exists() and subprocess.run(
        ["rm", "-rf", tiny.root / ".doit"], check=True
    )
    (tiny.root / ".doit").write_text("mine")
    build = tiny.doit("build", "spec=web", check=False, STRATA_SCRATCH=str(shared / "scratch"))
    assert "Traceback" not in build.text
    (tiny.root / ".doit").unlink()
    schema = tiny.root / "specs/spec.schema.json"
    harms: list[Callable[[], object]] = [
        lambda: schema.write_text("{"), schema.unlink, lambda: os.mkfifo(schema), schema.mkdir,
    ]  # fmt: skip
    for harm in harms:
        harm()
        refused(tiny.doit("build", "spec=web", check=False), "spec.schema.json", "restore it")
        if schema.is_fifo():
            schema.unlink()


@root
def test_what_has_no_end_in_the_place_of_a_spec_or_a_lock(tiny: World) -> None:
    """A FIFO would be waited for, and /dev/zero, to which a commit may have a link, read for ever."""
    for name in ("web.yaml", "web.lock"):
        path = tiny.root / "specs" / name
        path.unlink(missing_ok=True)
        for plant in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            plant(path)
            said = "it is a link" if name == "web.lock" and path.is_symlink() else "no regular file"
            build = tiny.doit("build", "spec=web", check=False)
            refused(build, f"specs/{name}: cannot be read: ", said)
            path.unlink()
        tiny.write("web.yaml", TINY)
    # Among apt's own lists, too, which apt would wait for.
    tiny.build()
    for path in sorted((tiny.root / "cache/index").glob("live-*/*_*")):
        path.unlink()
        os.mkfifo(path)
    shutil.rmtree(tiny.root / "out")
    tiny.build()
    snapshot = next((tiny.root / "cache/index").glob("snapshot-*"))
    shutil.rmtree(snapshot)
    os.mkfifo(snapshot)
    assert tiny.doit("verify", check=False).code == 1
    tiny.build()
    assert not any(path.is_fifo() for path in (tiny.root / "cache").rglob("*"))


@root
def test_streams_that_are_closed(tiny: World) -> None:
    python = [sys.executable, "-m", "doit"]
    env = tiny.environment()

    def closed(what: str, *words: str) -> Build:
        return run(["sh", "-c", f'exec "$@" {what}', "sh", *python, *words], tiny.root, env)

    for what in ("2>&-", "1>&-", "<&-", ">&- 2>&-"):
        build = closed(what, "build", "spec=web")
        assert build.code == 0, (what, build.text)
        assert "Traceback" not in build.text, what
        build = closed(what, "build", "spec=nope")
        assert build.code != 0, what
        assert "Traceback" not in build.text, what
        if what != ">&- 2>&-":
            assert "there is no such spec" in build.text, (what, build.text)
    assert tiny.outputs()
    assert ", 0 bad" in tiny.doit("verify").out


@root
def test_specs_that_are_read_only(tiny: World) -> None:
    specs = tiny.root / "specs"
    subprocess.run(["mount", "--bind", specs, specs], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", specs], check=True)
        build = tiny.doit("build", "spec=web", check=False)
        refused(
            build, "specs/web.lock: the filesystem is read-only", "make it writable", "lock=frozen"
        )
        assert "room" not in build.err
    finally:
        subprocess.run(["umount", specs], check=True)
    tiny.build()


@root
def test_names_that_the_locale_cannot_write(tiny: World) -> None:
    tiny.write("files/snow\u2603man", "x")
    tiny.edit("images:", 'layers: [{name: app, files: {"/usr/x": "files/snow\u2603man"}}]\nimages:')
    tiny.doit("lock", "spec=web")
    ascii = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for env in ({"LC_ALL": "C"}, ascii):
        assert "layer  app" in tiny.doit("keys", "spec=web", check=True, **env).out
    tiny.write("web.yaml", TINY)
    # A folder whose name is no text in any encoding.
    odd = Path(os.fsdecode(os.fsencode(tiny.root.parent) + b"/caf\xe9"))
    other = tiny.clone(odd)
    refused(
        other.doit("build", "spec=web", check=False), "caf\\udce9", "is no text in UTF-8", "rename"
    )
