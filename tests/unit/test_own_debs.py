"""A project's own .debs: what `debs` names, what is refused, and what a lock takes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.debs import make_deb
from support.samples import IMAGE, REPO, lock, record
from tasks.builder import Builder, Reach
from tasks.errors import BuildError
from tasks.host.log import Log
from tasks.plan import lockfile
from tasks.plan.changes import changes
from tasks.plan.deb import control_members
from tasks.plan.debs import OwnDeb, Project, changed, digests
from tasks.plan.keys import resolution_inputs
from tasks.repos import own
from tasks.repos.fetch import fetch
from tasks.rootfs.overlay import Trees
from tasks.spec.load import load_spec
from tasks.spec.model import Spec
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

SCHEMA = Path(__file__).resolve().parents[2] / "specs" / "spec.schema.json"

CONTROL = "Package: agent\nVersion: 1.0\nArchitecture: all\nDescription: x\n"


def load(folder: Path, name: str = "web", **fields: Any) -> Spec:
    """A spec of a project in `folder`."""
    path = folder / f"specs/{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"repos": [REPO], "images": {"/": IMAGE}, **fields}))
    return load_spec(path, schema=SCHEMA, name=name)


def given(
    spec: Spec,
    was: lockfile.Lock | None = None,
    cached: Callable[[str], Path | None] = lambda _: None,
) -> dict[str, list[str]]:
    """The paths of what each layer has."""
    found = Project(spec=spec, cached=cached).own(was)
    return {name: [one.record.path for one in debs] for name, debs in found.items()}


def tar(control: bytes, *, name: str = "./control", **member: Any) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(control)
        for field, value in member.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(control))
    return made.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    made = b"!<arch>\n"
    for name, data in members:
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        made += data + b"\n" * (len(data) % 2)
    return made


def deb(control: str | bytes = CONTROL, *, members: Any = None, **member: Any) -> bytes:
    raw = control.encode() if isinstance(control, str) else control
    return ar(*(members or [("debian-binary", b"2.0\n"), ("control.tar.gz", tar(raw, **member)),
                            ("data.tar.gz", tar(b"", name="./x"))]))  # fmt: skip


# ---------------------------------------------------------------- what is named


def test_paths_and_patterns_are_beside_the_spec_then_in_specs_then_in_the_project(
    tmp_path: Path,
) -> None:
    make_deb(tmp_path / "specs/team/debs", "one")
    make_deb(tmp_path / "specs/debs", "two")
    make_deb(tmp_path / "debs", "three")
    make_deb(
        tmp_path / "own", "four", "1:2.0~rc1-1", arch="amd64", depends="libc6 (>= 2.3) | x, y:any"
    )
    spec = load(tmp_path, "team/web", debs=["debs/*.deb", "own/*_amd64.deb"],
                layers=[{"name": "app", "debs": ["debs/t*.deb", "specs/debs/two_1_all.deb", "debs/two_1_all.deb"]},
                        {"name": "none", "packages": ["xz"]}])  # fmt: skip
    # Of several folders with matches the first counts; what is named twice counts once.
    assert given(spec) == {
        "packages": ["own/four_2.0~rc1-1_amd64.deb", "specs/team/debs/one_1_all.deb"],
        "app": ["specs/debs/two_1_all.deb"],
    }
    assert [layer.name for layer in spec.layers] == ["packages", "app", "none"]
    (four, _one) = Project(spec=spec, cached=lambda _: None).own(None)["packages"]
    assert four.record.version == "1:2.0~rc1-1"
    assert four.record.repository == lockfile.OWN
    path = tmp_path / "own/four_2.0~rc1-1_amd64.deb"
    assert four.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "Depends: libc6 (>= 2.3) | x, y:any\n" in four.stanza


def test_the_same_bytes_under_two_names_count_once(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "debs", "one")
    shutil.copy(path, tmp_path / "debs/zzz.deb")
    assert given(load(tmp_path, debs=["debs/*"])) == {"packages": ["debs/one_1_all.deb"]}


def test_what_is_gone_may_be_in_the_cache(tmp_path: Path) -> None:
    make_deb(tmp_path / "debs", "one")
    spec = load(tmp_path, layers=[{"name": "app", "debs": ["debs/*.deb"]}])
    (one,) = Project(spec=spec, cached=lambda _: None).own(None)["app"]
    was = lock([], {"app": [one.record, record("dep")]})
    kept = tmp_path / "kept.deb"
    one.source.rename(kept)
    assert given(spec, was, lambda sha256: kept if sha256 == one.record.sha256 else None) == {
        "app": ["debs/one_1_all.deb"]
    }
    for old, cached in ((None, kept), (was, None), (lock([], {"other": [one.record]}), kept)):
        with pytest.raises(BuildError, match=r"layers\.app\.debs: debs/\*\.deb matches no file"):
            given(spec, old, lambda _sha256, cached=cached: cached)  # type: ignore[misc]


# ---------------------------------------------------------------- what is refused

NAMED = {
    "nothing": (None, "debs/agent.deb is missing"),
    "no .deb": (b"hello", "is no .deb that can be used: not a .deb"),
    "empty": (b"", "not a .deb"),
    "another architecture": (deb(CONTROL.replace("all", "arm64")),
                             "is of the architecture arm64, and the image of amd64"),
    "cut off": (deb()[:-30], "it is cut off"),
    "cut off in a header": (deb() + b"x" * 30, "it is cut off, or no ar(5) archive"),
    "without data": (deb(members=[("debian-binary", b"2.0\n"), ("control.tar.gz", tar(CONTROL.encode()))]),
                     "expected one data.tar in it, found 0"),
    "two controls": (deb(members=[("debian-binary", b"2.0\n"), *[("control.tar.gz", tar(CONTROL.encode()))] * 2,
                                  ("data.tar.gz", b"")]), "expected one control.tar in it, found 2"),
    "other order": (deb(members=[("control.tar.gz", tar(CONTROL.encode())), ("data.tar.gz", b"")]),
                    "it does not begin with debian-binary"),
    "other form": (deb(members=[("debian-binary", b"3.0\n"), ("control.tar.gz", tar(CONTROL.encode()))]),
                   "another form than deb(5) 2.0"),
    "many members": (ar(*[("x", b"")] * 100), "more than 32 members"),
    "no control": (deb(name="./postinst"), "no control file in it"),
    "control is a link": (deb(type=tarfile.SYMTYPE, linkname="/etc/shadow", size=0), "its control is no file"),
    "control is not gzip": (deb(members=[("debian-binary", b"2.0\n"), ("control.tar.gz", b"x" * 99)]),
                            "Not a gzipped file"),
    "unknown packing": (deb(members=[("debian-binary", b"2.0\n"), ("control.tar.br", b"x")]),
                        "control.tar.br is unknown"),
    "bomb": (deb(b"\0" * (17 << 20)), "more than 16 MiB"),
    "not UTF-8": (deb(CONTROL.encode() + b"X: \xff\n"), "its control file is not UTF-8"),
    "escape": (deb(CONTROL + "X: \x1b[31m\n"), "control characters"),
    "NUL": (deb(CONTROL + "X: \0\n"), "control characters"),
    "long": (deb(CONTROL + "X: " + "x" * (1 << 18)), "more than 256 KiB"),
    "twice": (deb(CONTROL + "package: other\n"), "has the field package twice"),
    "two stanzas": (deb(CONTROL + "\nPackage: other\n"), "a line that is none: ''"),
    "no field": (deb(CONTROL + "hello\n"), "a line that is none: 'hello'"),
    "no name": (deb(CONTROL.replace("Package", "Pack")), "its Package is missing"),
    "path as name": (deb(CONTROL.replace("agent", "../../etc/x")), "its Package is malformed: '../../etc/x'"),
    "option as name": (deb(CONTROL.replace("agent", "-o")), "its Package is malformed: '-o'"),
    "folded name": (deb(CONTROL.replace("agent", "agent\n other")), "its Package is malformed: 'agent other'"),
    "version": (deb(CONTROL.replace("1.0", "1.0 || id")), "its Version is malformed: '1.0 || id'"),
    "slash in version": (deb(CONTROL.replace("1.0", "1/../2")), "its Version is malformed: '1/../2'"),
    "long version": (deb(CONTROL.replace("1.0", "1" * 300)), "its Version is malformed"),
    "relation": (deb(CONTROL + "Depends: a (>= 1), b (1)\n"), "its Depends is malformed: 'b (1)'"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_package_for_the_image_is_told_once(tmp_path: Path, name: str) -> None:
    content, told = NAMED[name]
    (tmp_path / "debs").mkdir()
    if content is not None:
        (tmp_path / "debs/agent.deb").write_bytes(content)
    with pytest.raises(BuildError, match=re.escape(told)) as refused:
        given(load(tmp_path, debs=["debs/agent.deb"]))
    assert refused.value.message.startswith(f"{tmp_path}/specs/web.yaml: debs: ")
    assert "\x1b" not in refused.value.message
    assert len(refused.value.message) < 600


def test_what_apt_does_not_go_by_is_left_out(tmp_path: Path) -> None:
    """A stanza is made of what was checked: nothing else of a control file is in apt's index."""
    text = CONTROL + "Filename: /etc/shadow\nSHA256: 0\nSize: 1\nPriority: a b\nEssential: maybe\n"
    (tmp_path / "agent.deb").write_bytes(deb(text + "Multi-Arch: foreign\nDepends: a,\n b\n"))
    (one,) = Project(spec=load(tmp_path, debs=["agent.deb"]), cached=lambda _: None).own(None)[
        "packages"
    ]
    assert one.stanza.split("\n")[:-2] == [
        "Package: agent", "Version: 1.0", "Architecture: all", "Depends: a, b",
        "Multi-Arch: foreign", "Maintainer: none",
    ]  # fmt: skip


def test_two_of_one_package_are_refused(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        make_deb(tmp_path / "debs", "agent", version)
    spec = load(tmp_path, layers=[{"name": "app", "debs": ["debs/*.deb"]}])
    with pytest.raises(BuildError, match=r"debs/agent_1.0_all.deb \(1.0\) and debs/agent_2.0_all.deb "
                                         r"\(2.0\) are both agent") as no:  # fmt: skip
        given(spec)
    assert "a pattern takes in both" in no.value.hint
    one = {"name": "one", "debs": ["debs/agent_1.0_all.deb"]}
    two = {"name": "two", "debs": ["debs/agent_2.0_all.deb"]}
    assert len(given(load(tmp_path, layers=[one, two]))) == 2, "a layer may bring a newer one"


def test_only_files_of_the_project_are_read(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    path = make_deb(outside, "agent")
    (project / "debs").mkdir(parents=True)
    os.symlink(path, project / "debs/link.deb")
    os.symlink(outside, project / "folder")
    os.mkfifo(project / "debs/fifo")
    for pattern, told in (
        ("debs/link.deb", "it is outside the project"),
        ("folder/*.deb", "it is outside the project"),
        ("../outside/*.deb", "no path that a lock can name"),
        (str(path), "no path that a lock can name"),
        ("debs/fifo", "cannot be read: it is no regular file"),
        ("debs", "cannot be read: Is a directory"),
        ("/dev/zero", "no path that a lock can name"),
        ("x" * 1000, "is missing"),
        ("*" + "[" * 999, "matches no file"),
        ("*" + "[" * 100_000, "debs: '*[["),
        ("\x9b2J*", "?2J* matches no file"),
    ):
        with pytest.raises(BuildError, match=re.escape(told)) as no:
            given(load(project, debs=[pattern]))
        assert len(no.value.message) < 1000
    shutil.copy(path, project / "debs/r\udcff.deb")
    with pytest.raises(BuildError, match=r"no path that a lock can name"):
        given(load(project, debs=["debs/r*.deb"]))
    shutil.copy(path, project / "debs/real.deb")
    os.symlink("real.deb", project / "debs/within.deb")
    assert given(load(project, debs=["debs/within.deb"])) == {"packages": ["debs/within.deb"]}


# ---------------------------------------------------------------- lock


def test_a_lock_is_stale_by_the_bytes_of_debs_alone(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "debs", "agent")

    def inputs(*patterns: str) -> str:
        spec = load(tmp_path, layers=[{"name": "app", "debs": list(patterns)}])
        return resolution_inputs(spec, digests(Project(spec=spec, cached=lambda _: None).own(None)))

    first = inputs("debs/*.deb")
    moved = path.rename(tmp_path / "debs/other.deb")
    assert inputs("debs/other.deb") == first
    spec = load(tmp_path, layers=[{"name": "app"}])
    assert inputs() == resolution_inputs(spec) != first
    moved.unlink()  # it has other names
    moved.write_bytes(deb())
    assert inputs("debs/*.deb") != first


def test_a_lock_takes_own_records_in_layers_alone() -> None:
    mine = record("agent", repository=lockfile.OWN, path="debs/agent.deb")
    found = lock([record("base")], {"app": [mine]})
    assert lockfile.parse(lockfile.dump(found), where="x.lock") == found
    with pytest.raises(BuildError, match=r"repository is malformed: there is no '.'"):
        lockfile.parse(lockfile.dump(lock([mine])), where="x.lock")
    bad = lock([], {"app": [replace(mine, path="../agent.deb")]})
    with pytest.raises(BuildError, match="path is malformed"):
        lockfile.parse(lockfile.dump(bad), where="x.lock")
    assert changes(lock([record("base")], {"app": []}), found) == [
        "+ agent 1 (app, debs/agent.deb)"
    ]


def test_what_changed_is_told_by_its_path(tmp_path: Path) -> None:
    make_deb(tmp_path / "debs", "agent", files={"/a": "1"})
    spec = load(tmp_path, layers=[{"name": "app", "debs": ["debs/*.deb"]}])
    was = Project(spec=spec, cached=lambda _: None).own(None)
    old = lock([], {"app": [one.record for one in was["app"]]})
    assert changed(was, old) == []
    make_deb(tmp_path / "debs", "agent", files={"/a": "2"})
    make_deb(tmp_path / "debs", "more")
    now = Project(spec=spec, cached=lambda _: None).own(None)
    assert changed(now, old) == [
        "debs/agent_1_all.deb has other bytes",
        "debs/more_1_all.deb is new",
    ]


def test_apts_choice_must_be_the_files_themselves() -> None:
    mine = record("agent", "1.0", "all", repository=lockfile.OWN, path="debs/agent.deb")
    debs = [OwnDeb(record=mine, stanza="", source=Path("debs/agent.deb"))]
    own.taken_as_given(debs, [mine], lock([]), "x")
    own.taken_as_given(debs, [], lock([mine]), "x")
    same = replace(mine, sha256="0" * 64, repository="main", architecture="amd64")
    for added in ([], [mine]):
        with pytest.raises(BuildError, match=r"a layer below has from repository main with other"):
            own.taken_as_given(debs, added, lock([same]), "x")
    newer = replace(same, version="2.0")
    with pytest.raises(
        BuildError, match=r"debs/agent.deb is agent 1.0, and apt would take agent 2"
    ):
        own.taken_as_given(debs, [newer], lock([]), "x")
    own.taken_as_given(debs, [mine], lock([newer]), "x")


# ---------------------------------------------------------------- fetching


def builder(folder: Path, root: Path) -> Builder:
    (folder / "scratch").mkdir(parents=True)
    cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
    cache.debs.mkdir(parents=True)
    return Builder(cache=cache, scratch=folder / "scratch", trees=Trees(folder / "trees", cache),
                   log=Log(None), reach=Reach(arch="amd64", root=root), state=folder)  # fmt: skip


def test_the_projects_file_is_checked_while_it_is_copied(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "project/debs", "agent")
    project = tmp_path / "project"
    spec = load(project, layers=[{"name": "app", "debs": ["debs/*.deb"]}])
    (one,) = Project(spec=spec, cached=lambda _: None).own(None)["app"]
    here = builder(tmp_path / "build", project)
    content = path.read_bytes()
    path.unlink()  # it has other names
    path.write_bytes(content + b"more")
    with pytest.raises(
        BuildError, match=r"agent_1_all.deb: it is not the agent 1 that is locked"
    ) as no:
        fetch([one.record], here)
    assert "lock again" in no.value.hint
    path.unlink()
    with pytest.raises(BuildError, match=r"agent 1 is locked, and it cannot be read: No such file"):
        fetch([one.record], here)
    os.symlink("/etc/hostname", path)
    with pytest.raises(BuildError, match="it is outside the project"):
        fetch([one.record], here)
    assert list(here.cache.debs.glob("*.deb")) == []
    path.unlink()
    make_deb(tmp_path / "project/debs", "agent")
    fetch([one.record], here)
    assert here.cache.has_deb(one.record.sha256)
    path.unlink()
    fetch([one.record], here)


def test_a_size_below_zero_ends_no_lock(tmp_path: Path) -> None:
    """CVE-2025-8194: tarfile would go back to the same member for ever."""
    header = tarfile.TarInfo("./other")
    header.size = -1024
    data = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    path = tmp_path / "x.deb"
    members = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", data),
        ("data.tar.gz", gzip.compress(b"")),
    )
    path.write_bytes(b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        for name, body in members))  # fmt: skip
    with path.open("rb") as file, pytest.raises(ValueError, match="below zero"):
        control_members(file, ["control"], whole=True)
