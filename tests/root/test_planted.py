"""What others put where Strata writes: links, look-alikes, files of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.others import OTHER, refused, root, some
from support.world import World, says
from tasks.errors import BuildError
from tasks.host import cachedir, safe
from tasks.host.locks import locked, try_lock


def as_other(*argv: str, groups: str = "") -> None:
    """Run a command as another user, who may write where all or these groups may."""
    who = ["--reuid", str(OTHER), "--regid", str(OTHER)]
    who += ["--groups", groups] if groups else ["--clear-groups"]
    subprocess.run(["setpriv", *who, "--", *argv], check=True)


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
