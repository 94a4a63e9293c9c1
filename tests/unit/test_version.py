"""An image's version: what it is made of, where it stands, and what a change of it redoes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import IMAGE, record
from tasks.errors import BuildError
from tasks.plan.image_version import git_version, image_version
from tasks.plan.lockfile import Lock, LockedRepo
from tasks.plan.plan import make_plan
from tasks.plan.settings import os_release, settings_identity
from tasks.plan.stage import Plan
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

LOCK = samples.lock([record("base")], {"packages": [record("one")]})

FILE = {"/": {**IMAGE, "file": "web-${version}.img.gz"}}


def planned(folder: Path, lock: Lock = LOCK, **fields: Any) -> Plan:
    spec = samples.load(folder, **{"packages": ["one"], "images": FILE, **fields})
    version = image_version(spec, lock, folder)
    settings = settings_identity(spec, lock, {}, version)
    return make_plan(spec, lock, samples.host(spec, settings=settings, version=version))


def dated(*dates: str) -> Lock:
    repos = tuple(LockedRepo(name=f"r{number}" if number else "main", release="a" * 64, date=date, fields={})
                  for number, date in enumerate(dates))  # fmt: skip
    return replace(LOCK, repos=repos)


def refused(folder: Path, *parts: str, **fields: Any) -> None:
    with pytest.raises(BuildError) as caught:
        planned(folder, **fields)
    rest = str(caught.value)
    for part in parts:
        assert part in rest, f"{part!r} is not in, or not in its place in:\n{caught.value}"
        rest = rest.partition(part)[2]


# ---------------------------------------------------------------- text and date


def test_a_text_is_in_the_settings_and_in_the_files_name(tmp_path: Path) -> None:
    plan = planned(tmp_path, version="1.0-rc1")
    assert plan.version == "1.0-rc1"
    assert plan.files == ("web-1.0-rc1.img.gz",)
    assert plan.layers[-1].inputs["settings"]["os_release"] == ["web", "1.0-rc1"]


def test_a_date_is_the_newest_of_the_lock_in_utc(tmp_path: Path) -> None:
    lock = dated("Sat, 10 Feb 2024 23:59:59 UTC", "Sun, 11 Feb 2024 01:30:00 +0200", "",
                 "Mon, 01 Jan 2024 00:00:00 UTC", "nonsense")  # fmt: skip
    plan = planned(tmp_path, lock, version="date")
    assert plan.files == ("web-20240210.img.gz",)


def test_a_lock_without_a_date_is_told(tmp_path: Path) -> None:
    refused(tmp_path, "web.yaml: version: date: no repository of the lock has a Date",
            "give version as a text", version="date")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", "web"),
        ("team/Web_1", "team-web_1"),
        ("größe", "gr-e"),
        ("über/ö", "ber"),
        ("ö", "image"),
    ],
)
def test_the_specs_name_is_made_fit_for_an_id(tmp_path: Path, name: str, found: str) -> None:
    assert os_release(replace(samples.load(tmp_path), name=name), "1") == [found, "1"]


# ---------------------------------------------------------------- names in ${}


def test_it_stands_in_an_included_and_merged_file_too(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(
        "x-image: &image {file: 'a-${version}.img', container: raw}\n"
        "images: {/: {<<: *image, format: ext4}}\n"
    )
    path = tmp_path / "web.yaml"
    path.write_text('include: [common.yaml]\nrepos: [{name: main, uri: "${mirror}", suite: s, '
                    "section: main}]\nversion: git\n")  # fmt: skip
    assert load_spec(path, schema=samples.SCHEMA).images[0].file == "a-${version}.img"


def test_the_specs_own_variable_of_that_name_comes_first(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "vars": {"version": "2"},
        "version": "${version}",
        "hostname": "h${version}",
    }
    plan = planned(tmp_path, **given)
    assert (plan.version, plan.files) == ("2", ("web-2.img.gz",))


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"version": "1", "hostname": "${version}"},
         ["web.yaml:1: ${version}: it is known only when the lock is", "only file of an image"]),
        ({"version": "1", "images": {"/": {**IMAGE, "label": "${version}"}}},
         ["${version}: it is known only when the lock is"]),
        ({"version": "1", "layers": [{"name": "a", "files": {"/v": {"content": "${version}"}}}]},
         ["${version}: it is known only when the lock is"]),
        ({}, ["web.yaml: images./.file: ${version}: the spec has no version", "version: 1.0-rc1"]),
        ({"images": {"/": {**IMAGE, "file": "${verison}.img"}}, "version": "1"},
         ["${verison}: nothing gives it a value", "did you mean ${version}?"]),
        ({"version": "1", "vars": {"version": "2"}},
         ["vars.version: ${version} is what the field version says, and that is another"]),
        ({"version": "1", "images": {"/": {**IMAGE, "file": "a-${version}"},
                                     "/b": {**IMAGE, "file": "a-1"}}},
         ["images: file: 'a-1' stands twice"]),
        ({"version": "build.json", "images": {"/": {**IMAGE, "file": "${version}"}}},
         ["images./.file: 'build.json' is the name of what is published"]),
        ({"version": "a" * 64, "images": {"/": {**IMAGE, "file": "${version}" * 5}}},
         ["is longer than the 255 bytes that Linux takes"]),
        ({"version": 1.5}, ["version: expected a text", "put it in quotes"]),
        ({"version": "1/2"}, ["version: '1/2'", "expected git, date, or a version"]),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, fields: dict[str, Any], parts: list[str]) -> None:
    refused(tmp_path, *parts, **fields)


def test_a_name_that_is_anothers_only_with_the_date_is_refused_then(tmp_path: Path) -> None:
    images = {"/": {**IMAGE, "file": "a-${version}"}, "/b": {**IMAGE, "file": "a-20240101"}}
    with pytest.raises(BuildError, match="images: file: 'a-20240101' stands twice"):
        planned(tmp_path, dated("Mon, 01 Jan 2024 00:00:00 UTC"), version="date", images=images)


# ---------------------------------------------------------------- what it redoes


@pytest.mark.parametrize(
    ("one", "other", "redone"),
    [
        ({"version": "1"}, {"version": "2"}, {"layer:settings", "image:/"}),
        ({"version": "1"}, {"version": "1", "images": {"/": IMAGE}}, set()),
        ({"version": "1", "hostname": "a"}, {"hostname": "a", "images": {"/": IMAGE}},
         {"layer:settings", "image:/"}),
        ({"locales": ["de_DE.UTF-8"]}, {"locales": ["pl_PL"]}, {"layer:settings", "image:/"}),
        ({"locales": ["de_DE.UTF-8"]}, {"locales": ["de_DE.UTF-8", "pl_PL"]},
         {"layer:settings", "image:/"}),
        ({"locale": "pl_PL"}, {"locale": "pl_PL", "locales": ["pl_PL", "C.UTF-8"]}, set()),
    ],
)  # fmt: skip
def test_what_a_change_redoes(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], redone: set[str]
) -> None:
    plain = {"images": {"/": IMAGE}}
    before, after = (planned(tmp_path, **(fields if "version" in fields else {**plain, **fields}))
                     for fields in (one, other))  # fmt: skip
    assert {stage.task for stage, then in zip(before.stages, after.stages, strict=True)
            if stage.key != then.key} == redone  # fmt: skip


def test_a_locale_of_the_list_is_checked_as_the_one(tmp_path: Path) -> None:
    refused(tmp_path, "web.yaml: locales[1]: 'de-DE'", "expected a locale such as de_DE.UTF-8",
            images={"/": IMAGE}, locales=["C.UTF-8", "de-DE"])  # fmt: skip
    refused(tmp_path, "locales: expected a list, found the text",
            images={"/": IMAGE}, locales="pl_PL")  # fmt: skip


def test_a_limit_below_the_size_is_refused(tmp_path: Path) -> None:
    def load(**fields: Any) -> Spec:
        return samples.load(tmp_path, images={"/": {**IMAGE, **fields}})

    with pytest.raises(BuildError, match=r"images\./\.max_size: it is smaller than size"):
        load(size="200M", max_size="199M")
    assert load(size="200M", max_size="200M").images[0].max_size == 200 << 20
    assert load(max_size="1GB").images[0].max_size == 10**9
    with pytest.raises(BuildError, match=r"images\./\.max_size: '5 GB'"):
        load(max_size="5 GB")
    with pytest.raises(BuildError, match=r"images\./\.max_size: larger than 16 TiB"):
        load(max_size="17T")


# ---------------------------------------------------------------- git


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x.invalid", *words], cwd=folder, check=True,
        capture_output=True, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("1\n")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_git_says_tag_distance_and_dirt(tmp_path: Path, project: Path) -> None:
    spec = samples.load(tmp_path, version="git")
    assert len(git_version(spec, project)) >= 7
    git(project, "tag", "v1.0")
    assert git_version(spec, project) == "v1.0"
    (project / "file").write_text("2\n")
    assert git_version(spec, project) == "v1.0-dirty"
    git(project, "commit", "-q", "-a", "-m", "two")
    assert git_version(spec, project).startswith("v1.0-1-g")
    below = project / "below"
    below.mkdir()
    assert git_version(spec, below) == git_version(spec, project)


def test_a_tag_that_is_no_version_is_told(tmp_path: Path, project: Path) -> None:
    git(project, "tag", "release/1")
    with pytest.raises(BuildError) as caught:
        git_version(samples.load(tmp_path, version="git"), project)
    assert "web.yaml: version: git: git describes it as 'release/1'" in caught.value.message
    assert "name the tag so" in caught.value.hint


def test_what_git_cannot_describe_is_one_error(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = samples.load(tmp_path, version="git")
    with pytest.raises(BuildError) as caught:
        git_version(spec, tmp_path)
    assert f"version: git: git cannot describe {tmp_path}: fatal: not a git" in caught.value.message
    assert "give version as a text" in caught.value.hint
    monkeypatch.setattr("tasks.host.tools.shutil.which", lambda *_args, **_more: None)
    with pytest.raises(BuildError) as caught:
        git_version(spec, project)
    assert "version: git: the host has no command git" in caught.value.message
    assert caught.value.hint == "apt-get install git"


def test_the_callers_git_says_nothing(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "tag", "v1")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    for name, value in {
        "GIT_DIR": f"{other}/.git", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree",
        "GIT_CONFIG_VALUE_0": "/", "GIT_CEILING_DIRECTORIES": str(tmp_path), "HOME": str(tmp_path),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert git_version(samples.load(tmp_path, version="git"), project) == "v1"


@pytest.mark.root
def test_what_a_project_of_another_names_is_not_run_by_root(tmp_path: Path, project: Path) -> None:
    """A filter of .git/config is its owner's program: it runs as the owner, or not at all."""
    git(project, "tag", "v1")
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    proof = project / "proof"
    (project / ".gitattributes").write_text("file filter=x\n")
    git(project, "config", "filter.x.clean", f"id -u > {proof}; cat")
    git(project, "config", "core.fsmonitor", f"id -u > {proof}.monitor; false")
    (project / "file").write_text("3\n")
    for path in (project, *project.rglob("*")):
        os.chown(path, 12345, 12345)
    assert git_version(samples.load(tmp_path, version="git"), project) == "v1-dirty"
    assert proof.read_text() == "12345\n"
    assert not Path(f"{proof}.monitor").exists()
    os.chown(project / ".git", 0, 0)  # neither root's nor its owner's: git takes no such project
    proof.unlink()
    with pytest.raises(BuildError, match="git cannot describe"):
        git_version(samples.load(tmp_path, version="git"), project)
    assert not proof.exists()
