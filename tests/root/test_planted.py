"""What others put where Strata writes: links, look-alikes, files of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.world import PROJECT, TINY, Build, World, says
from tasks.errors import BuildError
from tasks.host import cachedir, safe
from tasks.host.locks import locked, try_lock

OTHER = 65534


root = pytest.mark.root


def as_other(*argv: str, groups: str = "") -> None:
    """Run a command as another user, who may write where all or these groups may."""
    who = ["--reuid", str(OTHER), "--regid", str(OTHER)]
    who += ["--groups", groups] if groups else ["--clear-groups"]
    subprocess.run(["setpriv", *who, "--", *argv], check=True)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user reaches, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="strata-planted-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


class Victim:
    """What is root's alone: a file, and a folder with a file that looks like Strata's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "victim"
        self.file = self.folder / "secret"
        self.folder.mkdir(mode=0o700)
        for name in ("secret", ".strata-0123456789abcdef.tmp", "web.img.gz"):
            (self.folder / name).write_text("root's\n")
            (self.folder / name).chmod(0o600)
        self.before = self.state()

    def state(self) -> list[tuple[str, int, int, bytes]]:
        return [
            (path.name, path.lstat().st_mode, path.lstat().st_uid, path.read_bytes())
            for path in sorted(self.folder.iterdir())
        ]

    def untouched(self) -> None:
        assert self.state() == self.before
        assert self.folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


def refused(build: Build, *parts: str) -> None:
    """One clear message, whichever way doit gives it."""
    assert build.code != 0, build.text
    assert "Traceback" not in build.text
    says(build.text, "ERROR: ", *parts)


# ---------------------------------------------------------------- scratch


@root
def test_scratch_where_everybody_may_write(tiny: World, shared: Path, victim: Victim) -> None:
    scratch = shared / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    tiny.env["STRATA_SCRATCH"] = str(scratch)
    for name in ("build-x", "build-1-0123abcd", "build-arm64"):
        as_other("mkdir", str(scratch / name))
        as_other("ln", "-s", str(victim.file), str(scratch / name / ".lock"))
    as_other("ln", "-s", str(victim.folder), str(scratch / "build-2-0123abcd"))
    tiny.build()
    victim.untouched()
    assert len(list(scratch.glob("build-*"))) == 4
    own = scratch / "strata-0"
    assert own.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in own.iterdir()} == {".lock", cachedir.NAME}
    # In the folder itself: of full names what a killed build left goes, and nothing else.
    for name in ("build-arm64", "build-1-0123abcd", "build-2-0123abcd"):
        (own / name).mkdir()
    (own / "build-2-0123abcd/.lock").symlink_to(victim.file)
    build = tiny.doit("lock", "spec=web")
    (tiny.root / "specs/web.lock").unlink()
    build = tiny.doit("lock", "spec=web")
    assert f"{own}/build-arm64: it is not Strata's; left alone" in build.out
    assert (own / "build-arm64").exists()
    assert not (own / "build-1-0123abcd").exists()
    victim.untouched()


@root
@pytest.mark.parametrize("how", ["mkdir -m 700", "ln -s /root", "touch", "mkdir by root"])
def test_scratch_that_another_made_is_not_used(tiny: World, shared: Path, how: str) -> None:
    scratch = shared / "scratch"
    scratch.mkdir()
    scratch.chmod(0o1777)
    tiny.env["STRATA_SCRATCH"] = str(scratch)
    if how == "mkdir by root":
        (scratch / "strata-0").mkdir(mode=0o755)
    else:
        as_other(*how.split(), str(scratch / "strata-0"))
    refused(tiny.doit("build", "spec=web", check=False), "strata-0")
    assert list(scratch.glob("strata-0/*")) == [] or how == "ln -s /root"


@root
def test_scratch_where_its_name_could_be_given_away(tiny: World, shared: Path) -> None:
    scratch = shared / "all/scratch"
    scratch.mkdir(parents=True)
    scratch.parent.chmod(0o777)
    tiny.env["STRATA_SCRATCH"] = str(scratch)
    refused(tiny.doit("build", "spec=web", check=False), "everybody may rename", "chmod +t")
    scratch.parent.chmod(0o1777)
    os.chown(scratch, OTHER, OTHER)
    refused(tiny.doit("build", "spec=web", check=False), f"is user {OTHER}'s", "STRATA_SCRATCH")
    os.chown(scratch, 0, 0)
    # Nor where that of a folder above could be: no sticky bit holds the owner back.
    os.chown(scratch.parent, OTHER, OTHER)
    refused(tiny.doit("build", "spec=web", check=False),
            f"{scratch.parent}: this folder for scratch is user {OTHER}'s")  # fmt: skip
    os.chown(scratch.parent, 0, 0)
    tiny.build()


# ---------------------------------------------------------------- links that a commit carries


@root
def test_links_in_place_of_what_is_written_are_replaced(tiny: World, victim: Victim) -> None:
    """Files that Strata makes anew at each build, and names that it looks for when it sweeps."""
    top = tiny.root
    swept = [
        top / name for name in ("cache/layers/.strata-0.tmp", "specs/.strata-x.tmp",
                                "cache/images/.strata-0123456789abcdef.tmp",
                                "out/web/.strata-0123456789abcdef.tmp",
                                "specs/.strata-fedcba9876543210.tmp")
    ]  # fmt: skip
    replaced = [
        top / name for name in ("out/web/log/lock.log", "out/web/log/base.log", "out/web/web.yaml",
                                "out/web/web.img.gz", "out/web/SHA256SUMS", "out/web/build.json",
                                ".doit/seen.json", ".doit/tools.json", ".doit/web.sqlite3",
                                ".doit/web.sqlite3-journal")
    ]  # fmt: skip
    for path in (*swept, *replaced):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(victim.file)
    build = tiny.doit("build", "spec=web")
    victim.untouched()
    for path in swept:
        assert path.is_symlink()
        assert f"{path.relative_to(top)}: it is not Strata's; left alone" in build.out
    for path in replaced:
        assert not path.is_symlink(), path
    # Of a hard link, too, only this name goes.
    for name in ("out/web/log/lock.log", ".doit/web.sqlite3", "cache/locks/prune"):
        (top / name).unlink()
        os.link(victim.file, top / name)
    tiny.build()
    victim.untouched()


FOLDERS = ("cache", "out", ".doit", "cache/locks", "cache/layers", "cache/images", "cache/debs",
           "cache/index", "out/web", "out/web/log", ".doit/scratch")  # fmt: skip


FILES = ("cache/locks/prune", "cache/debs/.lock", "specs/web.lock")


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


def some(places: Sequence[str]) -> Sequence[str]:
    """At night all; by day every other one, of each depth."""
    return places if NIGHTLY else places[::2]


@root
def test_links_in_place_of_folders_and_locks_are_refused(tiny: World, victim: Victim) -> None:
    del tiny.env["STRATA_SCRATCH"]
    for name in (*some(FOLDERS), *FILES):
        subprocess.run(["rm", "-rf", *(tiny.root / one for one in ("cache", "out", ".doit"))],
                       check=True)  # fmt: skip
        path = tiny.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(victim.folder if name in FOLDERS else victim.file)
        refused(tiny.doit("build", "spec=web", check=False), name, "link")
        tiny.doit("clean", "build", "spec=web", check=False)
        victim.untouched()
        path.unlink()
    tiny.build()


@root
def test_a_group_that_shares_a_cache(tiny: World, shared: Path, victim: Victim) -> None:
    """Its members make locks that all use, and nothing that they plant is followed."""
    cache, group = shared / "cache", 4242
    cache.mkdir()
    os.chown(cache, 0, group)
    cache.chmod(0o2775)
    tiny.env["STRATA_CACHE"] = str(cache)
    as_other("mkdir", "-m", "2775", f"{cache}/locks", f"{cache}/layers", groups=str(group))
    as_other("touch", f"{cache}/locks/prune", groups=str(group))
    for name in ("layers/.strata-0123456789abcdef.tmp", "index"):
        as_other("ln", "-s", str(victim.folder), f"{cache}/{name}", groups=str(group))
    tiny.build()
    victim.untouched()
    assert (tiny.root / ".doit/index").is_dir(), "apt writes to no folder that others may write to"
    tiny.doit("verify")
    # In one that everybody may write to, nobody else's locks are used.
    os.chown(cache / "locks", 0, group)
    (cache / "locks").chmod(0o1777)
    refused(tiny.doit("verify", check=False), "locks/prune: it belongs to user 65534", "remove it")
    victim.untouched()


def test_locks_are_files_of_their_own(tmp_path: Path) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "locks/lock"
    victim.write_text("x")
    victim.chmod(0o600)
    assert try_lock(lock) is None
    assert not lock.parent.exists(), "who sweeps makes no lock"
    with locked(lock):
        assert lock.stat().st_mode & 0o777 == 0o666
    lock.unlink()
    for plant in (lock.symlink_to, lambda _to: os.mkfifo(lock)):
        plant(victim)
        with pytest.raises(BuildError), locked(lock):
            pass
        lock.unlink()
    os.link(victim, lock)
    assert try_lock(lock) is None
    with locked(lock):
        assert (lock.stat().st_nlink, victim.stat().st_nlink) == (1, 1)
    assert victim.stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- not Strata's


@root
def test_what_is_not_stratas_is_left_alone_and_told(tiny: World) -> None:
    tiny.build()
    cache = tiny.root / "cache"
    names = ("images/debian-12.iso", "images/win-vm/disk.img", "layers/gis-roads.shp",
             "debs/mine.deb", "layers/layer-old.tar.zst", f"images/base-{'0' * 32}.json",
             f"debs/{'a' * 63}.deb", "index/snapshot-mine/x", "locks/layer-mine", "notes.txt",
             "layers/.mine.tmp")  # fmt: skip
    for name in names:
        (cache / name).parent.mkdir(exist_ok=True)
        (cache / name).write_text("mine")
    stale = cache / f"images/image-{'0' * 32}.img.gz"
    stale.write_text("of an old spec")
    tiny.edit("ext2", "ext3")
    tiny.build()
    for command in ("verify", "prune"):
        build = tiny.doit(command, check=False)
        for name in names:
            told = f"cache/{name.rpartition('/')[0] if name.endswith(('disk.img', '/x')) else name}"
            assert build.out.count(f"{told}: it is not Strata's; left alone") == 1, build.out
        assert (build.code, stale.exists()) == ((1 if command == "verify" else 0), False)
    for name in names:
        assert (cache / name).read_text() == "mine", name
    assert set(tiny.build().values()) == {"hit"}


@root
def test_a_folder_of_somebodys_gets_no_marker_and_loses_nothing(tiny: World, shared: Path) -> None:
    cache = shared / "data"
    (cache / "images").mkdir(parents=True)
    (cache / "images/win.iso").write_text("mine")
    tiny.env["STRATA_CACHE"] = str(cache)
    tiny.build()
    assert not (cache / cachedir.NAME).exists(), "backups would leave the user's files out"
    stale = cache / f"images/image-{'0' * 32}.img.gz"
    stale.write_text("x")
    says(
        tiny.doit("prune").out, "win.iso: it is not Strata's", "nothing is removed here", "pruned 0"
    )
    refused(tiny.doit("verify", check=False), "were damaged and have been left alone")
    assert stale.exists()
    assert set(tiny.build().values()) == {"hit"}
    (cache / "images/win.iso").unlink()
    says(tiny.doit("prune").out, "pruned 1 entry")
    assert (cache / cachedir.NAME).read_text().startswith(cachedir.SIGNATURE)


@root
def test_out_loses_only_what_was_published(tiny: World) -> None:
    tiny.build()
    out = tiny.root / "out/web"
    (out / "vmlinuz").write_text("mine")
    with (out / "SHA256SUMS").open("a") as sums:
        sums.write("ccad3fa54bb8f7a0a13b6bf0ae8b2ff2f2b37dbfeca78f4a2a9e2d0e2bfdf0d0  vmlinuz\n")
    tiny.edit("web.img.gz", "new.img.gz")
    tiny.build()
    assert (out / "vmlinuz").exists()
    assert not (out / "web.img.gz").exists()
    (out / "new.img.gz").write_text("mine, in its place")
    tiny.edit("new.img.gz", "web.img.gz")
    build = tiny.doit("build", "spec=web")
    assert "out/web/new.img.gz: another file than Strata published; left alone" in build.out
    build = tiny.doit("clean", "build", "spec=web")
    assert sorted(path.name for path in out.iterdir()) == ["new.img.gz", "vmlinuz"]
    assert "out/web/vmlinuz: it is not Strata's; left alone" in build.out


# ---------------------------------------------------------------- links and copies of files


def test_a_copy_is_made_only_where_there_can_be_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept, target = (tmp_path / name for name in ("source", "kept", "target"))
    source.write_text("new")
    kept.write_text("kept")
    os.link(kept, target)
    with pytest.raises(FileExistsError):
        safe.link_or_copy(source, target)
    assert kept.read_text() == "kept"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:  # EXDEV, of the real kernel
        safe.link_or_copy(source, Path(elsewhere) / "copy")
        assert (Path(elsewhere) / "copy").read_text() == "new"
        with pytest.raises(FileExistsError):
            safe.link_or_copy(source, Path(elsewhere) / "copy")
    with pytest.raises(FileNotFoundError):
        safe.link_or_copy(source, tmp_path / "missing/target")


# ---------------------------------------------------------------- whose files, which streams


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
