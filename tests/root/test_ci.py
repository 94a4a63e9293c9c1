"""What `strata ci` prints, run: its own steps, fresh and shallow clones, a cache that only they fill.

support/ci_github.py, support/ci_gitlab.py: each step or script by bash; the actions, caches,
artifacts and requests to merge, which are the systems' own, are stood in for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ci_github import github
from support.ci_gitlab import gitlab
from support.ci_project import Project, Run
from support.world import TINY, World, says

System = Callable[..., Run]


BOTH = pytest.mark.parametrize("system", [github, gitlab])


BASE = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: apt}
fstab: false
packages: [alpha]
"""


IMAGE = "images: {/: {file: NAME.img, format: ext2, container: raw, pack: direct, label: NAME}}\n"


SMALL = TINY[: TINY.index("images:")]


SHELL = SMALL.replace("beta]", "shell]")


COMMON = "{name: common, files: {/etc/motd: files/motd}}"


LAYERED = {
    "packages": {
        "db": BASE + IMAGE.replace("NAME", "db"),
        "web": BASE + "layers: [{name: app, files: {/etc/motd: files/motd}}]\n"
        + IMAGE.replace("NAME", "web"),
    },
    "common": {
        "db": f"{SHELL}layers: [{COMMON}]\n" + IMAGE.replace("NAME", "db"),
        "web": f"{SHELL}layers: [{COMMON}, {{name: app, files: {{/etc/app: {{content: a}}}}}}]\n"
        + IMAGE.replace("NAME", "web"),
    },
}  # fmt: skip
"""Two specs with a base and a layer in common, by that layer's name: of packages, or of files alone."""


PLAIN = SMALL + IMAGE.replace("NAME", "web")
"""A base that is only unpacked, which takes a second: nothing stands on it."""


def begin(world: World, folder: Path, specs: dict[str, str], system: System, **env: str) -> Project:
    """The project of these specs, with what `strata ci` printed for it, locked and pushed."""
    (world.root / "specs/web.yaml").unlink()
    for name, text in specs.items():
        world.write(f"{name}.yaml", text)
    project = Project(world, folder, "", secrets={"STRATA_PUSH_TOKEN": "token"})
    if "STRATA_REMOTE" not in env:
        world.doit("lock", "spec=all")
    said = world.doit("ci", f"provider={system.__name__}", "spec=all", check=True, **env)
    project.pipeline = said.out
    project.push()
    world.server.clear()
    return project


@pytest.mark.root
@pytest.mark.parametrize("layer", [pytest.param("packages", marks=pytest.mark.nightly), "common"])
def test_pipelines_redo_only_what_changed(
    request: pytest.FixtureRequest, tmp_path: Path, closure: list[Path], layer: str
) -> None:
    world: World = request.getfixturevalue("built" if layer == "packages" else "tiny")
    if layer == "common":
        world.add(*(deb for deb in closure if deb.name.startswith("shell_")))
    world.write("files/motd", "hello\n")
    project = begin(world, tmp_path, LAYERED[layer], github)
    store = project.store
    # The base is in the cache, as of a run on main long ago; that a pipeline makes one, others show.
    world.doit("base", "spec=web")
    base = json.loads(world.doit("keys", "spec=web", "format=json").out)["stages"][0]
    store.save("refs/heads/main", f"strata-base-{base['key']}", world.root, base["files"],
               immutable=True)  # fmt: skip

    # What is not cached is built once, and saved once.
    first = github(project, "push")
    assert first.ok, first.log
    assert first.built == ["image /", "image /", "layer app", f"layer {layer}"]
    assert len(store.saved) == len(first.built)

    # Nothing changed: nothing is built, no repository is asked, and the images are the same. Nor is
    # anything restored, or a machine begun, but for the images.
    world.server.clear()
    second = github(project, "push")
    assert second.ok, second.log
    assert second.built == []
    assert second.image("web.img") == first.image("web.img")
    assert world.server.requests == []
    assert store.saved == set()
    assert all(key.startswith("strata-image-") for key in store.restored)
    assert second.jobs[:3] == ["plan", "build db", "build web"]

    # A package or a file is new in the layer that both share: that one, once, and what stands on it.
    world.write("files/motd", "hello again\n") if layer == "common" else world.add(
        world.deb("alpha", "2")
    )
    world.doit("lock", "spec=all")
    project.push("bump")
    third = github(project, "pull_request", "bump")
    assert third.ok, third.log
    assert third.built == first.built

    # main builds nothing of what its own pull request has built.
    project.push()
    merged = github(project, "push")
    assert merged.ok, merged.log
    assert merged.built == []
    assert merged.image("web.img") == third.image("web.img")


@pytest.mark.root
@pytest.mark.nightly
def test_gitlab_builds_once_what_a_branch_and_main_have(tiny: World, tmp_path: Path) -> None:
    project = begin(tiny, tmp_path, {"web": PLAIN}, gitlab)
    project.push("branch")
    first = gitlab(project, "pull_request", "branch")
    assert first.ok, first.log
    assert first.built == ["base", "image /"]
    assert len(project.store.listing()) == 2
    tiny.server.clear()
    merged = gitlab(project, "push")
    assert merged.ok, merged.log
    assert merged.jobs == ["plan", "base (web)", "build web"]
    assert merged.built == []
    assert merged.image("web.img") == first.image("web.img")
    assert tiny.server.requests == []
    assert project.store.saved == set()


@pytest.mark.root
def test_forks_build_without_a_secret_and_a_failure_keeps_what_was_good(
    tiny: World, tmp_path: Path
) -> None:
    project = begin(tiny, tmp_path, {"web": PLAIN}, github)
    theirs = github(project, "pull_request", fork=True)
    assert theirs.ok, theirs.log
    assert theirs.built == ["base", "image /"]
    assert "token" not in theirs.log
    assert "STRATA_MIRROR" in project.pipeline

    # Of a fork's, main takes nothing. A stage fails: what is below it is kept all the same, and
    # the other spec has its image.
    script = "layers: [{name: app, script: scripts/app.sh}]\n"
    tiny.write("db.yaml", SMALL + IMAGE.replace("NAME", "db") + script)
    tiny.write("scripts/app.sh", "#!/bin/sh\nexit 1\n", 0o755)
    tiny.doit("lock", "spec=all")
    project.pipeline = tiny.doit("ci", "provider=github", "spec=all").out
    project.push()
    failed = github(project, "push")
    assert not failed.ok
    assert failed.built == ["base", "image /"]
    assert sorted(key.split("-")[1] for key in project.store.saved) == ["base", "image"]
    assert failed.image("web.img") == theirs.image("web.img")
    assert list(failed.uploaded.rglob("layer-app.log"))


@pytest.mark.parametrize("system", [github, pytest.param(gitlab, marks=pytest.mark.nightly)])
def test_nightly_proposes_what_moved(tiny: World, tmp_path: Path, system: System) -> None:
    project = begin(tiny, tmp_path, {"web": TINY}, system)
    # A Release that is new, and nothing of ours in it: no branch, no request, no comment.
    tiny.add(tiny.deb("epsilon", "2"))
    if system is github:
        quiet = system(project, "schedule")
        assert quiet.ok, quiet.log
        assert quiet.jobs == ["lock"]
        assert project.known("requests") == []

    tiny.add(tiny.deb("beta", "2"))
    moved = system(project, "schedule")
    assert moved.ok, moved.log
    (request,) = project.known("requests")
    assert request["body"] == "### web\n\n- `beta 1 → 2 (from main)`\n\n"
    branch = request["headRefName"]
    changed = project.git("diff", "--name-only", "main", branch, cwd=project.origin)
    assert changed.split() == ["specs/web.lock"]
    # The next night has nothing to add; that it was refused would be the same.
    again = system(project, "schedule")
    assert again.ok, again.log
    assert project.known("requests") == [request]

    tiny.add(tiny.deb("baseline", "2", priority="required", essential=True))
    later = system(project, "schedule")
    assert later.ok, later.log
    older, newer = project.known("requests")
    assert (older["open"], newer["open"]) == (False, True)
    assert newer["headRefName"] != branch
    assert "beta" in newer["body"]
    assert "token" not in moved.log + later.log
    assert not any("token" in call for call in project.calls)
    if system is github:
        assert project.calls[-1].startswith("gh workflow run strata --ref strata-lock-")


def test_without_a_lock_the_first_job_says_what_to_do(tiny: World, tmp_path: Path) -> None:
    for lock in tiny.root.glob("specs/*.lock"):
        lock.unlink()
    project = Project(tiny, tmp_path, "")
    project.pipeline = tiny.doit("ci", "provider=github").out
    says(project.pipeline, "NO LOCK YET of web: run # ./doit lock spec=all # and commit")
    project.push()
    run = github(project, "push")
    assert not run.ok
    assert run.jobs == ["plan"]
    says(run.log, "specs/web.lock: missing", "run `doit lock spec=web` and commit")


@BOTH
def test_shared_cache_needs_no_steps_of_stages(tiny: World, tmp_path: Path, system: System) -> None:
    """Who has the key signs and pushes, a fork pulls; what that does is for the caches' tests."""
    env = {"STRATA_REMOTE": "http://127.0.0.1:1", "STRATA_TRUSTED_KEYS": "ci:abc"}
    project = begin(tiny, tmp_path, {"web": TINY}, system, **env)
    key = tmp_path / "a key"
    key.write_text("secret\n")
    # GitLab gives a variable of the type `file` as its path.
    project.secrets["STRATA_SIGNING_KEY"] = "secret" if system is github else str(key)
    said = tmp_path / "said"
    program = (
        'case "$1" in build) echo "$@" $STRATA_REMOTE $STRATA_TRUSTED_KEYS'
        ' $(stat -c %a "$STRATA_SIGNING_KEY") $(cat "$STRATA_SIGNING_KEY")'
        f" >> {said} 2>&1;; esac\nmkdir -p out/web\necho > out/web/SHA256SUMS\n"
    )
    (tiny.root / "doit").write_text(f"#!/bin/sh\n{program}")
    project.push()
    trusted = system(project, "push")
    assert trusted.ok, trusted.log
    fork = system(project, "pull_request", "main", fork=True)
    assert fork.ok, fork.log
    project.push("branch")
    request = system(project, "pull_request", "branch")
    assert request.ok, request.log
    ours, theirs, asked = [one for one in said.read_text().splitlines() if one.startswith("build")]
    if system is github:  # GitLab gives no protected variable to it
        assert asked.startswith("build spec=all lock=frozen cache_mode=pull ")
        assert "secret" not in asked
    told = "build spec=all lock=frozen cache_mode={} http://127.0.0.1:1 ci:abc"
    assert ours == f"{told.format('both')} 600 secret"
    assert theirs.startswith(told.format("pull"))
    assert "secret" not in theirs
    assert len(project.pipeline.splitlines()) < 120


# ---------------------------------------------------------------- doit keys


def test_keys_come_from_the_lock_alone(tiny: World) -> None:
    tiny.doit("lock", "spec=web")
    tiny.server.clear()
    printed = tiny.doit("keys", "spec=web", "format=json", STRATA_MIRROR="http://127.0.0.1:1")
    keys = json.loads(printed.out)
    assert keys["spec"] == "web"
    assert re.fullmatch("[0-9a-f]{64}", keys["lock"])
    assert [(one["stage"], one["name"]) for one in keys["stages"]] == [
        ("base", "base"),
        ("image", "/"),
    ]
    for stage in keys["stages"]:
        assert re.fullmatch("[0-9a-f]{32}", stage["key"])
        file, record = stage["files"]
        folder = "images" if stage["stage"] == "image" else "layers"
        start = f"cache/{folder}/{stage['stage']}-{stage['key']}."
        assert file.startswith(start)
        assert record == f"{start}json"
    text = tiny.doit("keys", "spec=web").out.splitlines()
    assert [line.split()[:3] for line in text] == [
        [stage["stage"], stage["name"], stage["key"]] for stage in keys["stages"]
    ]
    # A pipeline's have the same keys, whatever was read of several specs.
    lines = tiny.doit("keys", "spec=all", "format=github").out.splitlines()
    found: dict[str, Any] = {name: json.loads(value)
                             for name, _, value in (line.partition("=") for line in lines)}  # fmt: skip
    base, image = keys["stages"]
    assert (found["specs"], found["levels"], found["images"]) == (["web"], 1, 1)
    (made,) = found["wave0"]
    assert (made["task"], made["spec"], made["key"]) == (
        "base",
        "web",
        f"strata-base-{base['key']}",
    )
    assert made["path"].split("\n") == base["files"]
    (build,) = found["build"]
    assert build["image0"] == f"strata-image-{image['key']}"
    # What is there is not made; with the images there, nothing is.
    have = tiny.write("../have", build["image0"] + "\n")
    assert "wave0=[]" in tiny.doit("keys", "spec=web", "format=github", f"have={have}").out
    child = yaml.safe_load(tiny.doit("keys", "spec=web", "format=gitlab").out)
    assert child["base (web)"]["cache"][0]["paths"] == base["files"]
    assert tiny.server.requests == []


def test_keys_without_a_lock_say_how_to_get_one(world: World) -> None:
    for form in ("json", "github", "gitlab"):
        failed = world.doit("keys", "spec=web", f"format={form}", check=False)
        assert failed.code != 0
        assert "doit lock spec=web" in failed.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["keys", "spec=web", "format=xml"], ["expected text or json, github or gitlab"]),
        (["keys", "spec=web", "format=markdown"], ["expected text or json, github or gitlab"]),
        (["lock", "spec=web", "format=json"], ["lock format=json: expected text or markdown"]),
        (["keys", "format=github"], ["keys format=github: which spec?", "add spec=all"]),
        (["keys", "spec=web", "format=github", "have=/nowhere"], ["have=/nowhere: cannot be read"]),
        (["ci"], ["ci: provider=: expected github or gitlab"]),
        (["ci", "provider=x"], ["ci: provider=x: expected github or gitlab"]),
        (["ci", "provider=github", "spec=web,x"], ["'x' is no spec here"]),
        (["ci", "provider=gitlab", "mirror=http://u:p@h/d"],
         ["mirror=http://***@h/d: a password would be in a committed file"]),
        (["ci", "provider=gitlab", "mirror=file:/srv"],
         ["mirror=file:/srv: a CI system's machines have no such folder", "add mirror=ADDRESS"]),
        (["ci", "provider=gitlab", "cache=http://h"],
         ["whose entries of the shared cache are to be believed?", "STRATA_TRUSTED_KEYS"]),
    ],
)  # fmt: skip
def test_what_is_refused(unbuilt: World, words: list[str], parts: list[str]) -> None:
    (unbuilt.root / "doit").touch()
    failed = unbuilt.doit(*words, check=False)
    assert failed.code == 1, failed.text
    assert "Traceback" not in failed.text
    says(failed.err, *parts)


def test_a_project_of_ones_own_says_from_where_pip_installs(tiny: World) -> None:
    """The bare name is another project's in the public index: nothing is guessed."""
    failed = tiny.doit("ci", "provider=github", check=False)
    says(failed.err, "nothing says from where pip is to install Strata", "set STRATA_REQUIREMENT")
    for provider in ("github", "gitlab"):
        text = tiny.doit("ci", f"provider={provider}", STRATA_REQUIREMENT="strata @ file:x").out
        says(text, 'STRATA_REQUIREMENT: "strata @ file:x"',
             'pip install --quiet "$STRATA_REQUIREMENT"', "-m strata.host.tools",
             ".doit/venv/bin/strata keys spec=all")  # fmt: skip
        assert "./doit" not in text
        script = yaml.safe_load(text)["jobs" if provider == "github" else "plan"]
        assert script


def test_specs_of_two_distributions_have_no_mirror_in_common(tiny: World) -> None:
    (tiny.root / "doit").touch()
    tiny.write("a.yaml", TINY.replace("suite: stable", "suite: noble"))
    tiny.write("b.yaml", TINY.replace("suite: stable", "suite: trixie"))
    failed = tiny.doit("ci", "provider=github", "spec=a,b", check=False)
    says(failed.err, "these specs are of Debian and Ubuntu: no ${mirror} is of both")
