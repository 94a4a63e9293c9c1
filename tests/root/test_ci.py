"""The examples of docs/ci.md, run: their own steps, fresh clones, and a cache that only they fill.

docs/ci/github.yml ─→ github() ─┐  each step or script by bash in a new clone; the actions,
docs/ci/gitlab.yml ─→ gitlab() ─┴─→ caches and artifacts, which are the systems' own, stood in for
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.world import PROJECT, World

Yaml = dict[Any, Any]


EXAMPLES = PROJECT / "docs" / "ci"


GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
}  # fmt: skip


def example(name: str) -> Yaml:
    """docs/ci/`name`, for the spec `web` as a user would set it."""
    loaded: Yaml = yaml.safe_load((EXAMPLES / name).read_text())
    loaded["env" if "env" in loaded else "variables"]["SPEC"] = "web"
    return loaded


# ---------------------------------------------------------------- a project and its CI


@dataclass
class Store:
    """What a CI system keeps between runs: each key's files. `version` is what else must match."""

    folder: Path
    restored: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)

    def _entry(self, key: str, version: str) -> Path:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", key), key
        return self.folder / key / re.sub(r"\W", "_", version)

    def restore(self, key: str, root: Path, version: str = "-") -> bool:
        """Bring an entry's files back into a clone."""
        entry = self._entry(key, version)
        if entry.exists():
            shutil.copytree(entry, root, dirs_exist_ok=True)
            self.restored.add(key)
        return entry.exists()

    def save(
        self, key: str, root: Path, paths: Sequence[str], version: str = "-", *, immutable: bool
    ) -> None:
        """Keep those of the paths that exist; of none, nothing is kept."""
        entry = self._entry(key, version)
        found = [path for path in paths if (root / path).exists()]
        if not found:
            return
        assert len(found) == len(paths), f"{key} lacks a part: {found} of {paths}"
        assert not (immutable and entry.exists()), f"{key} is saved again"
        copy(root, found, entry)
        self.saved.add(key)

    def keys(self) -> set[str]:
        """All that it has."""
        return {path.name for path in self.folder.iterdir()}

    def files(self) -> list[str]:
        """The files of all entries, each as often as it is kept."""
        return sorted(str(path.relative_to(entry)) for entry in self.folder.glob("*/*")
                      for path in entry.rglob("*") if path.is_file())  # fmt: skip

    def begin(self) -> None:
        """Before a pipeline: nothing restored or saved so far."""
        self.restored, self.saved = set(), set()


def copy(source: Path, paths: Sequence[str], target: Path) -> None:
    """Files and folders of `source`, under the same names below `target`."""
    for path in paths:
        assert not path.startswith("/"), path
        assert ".." not in path, path
        to = target / path
        to.parent.mkdir(parents=True, exist_ok=True)
        if (source / path).is_dir():
            shutil.copytree(source / path, to, dirs_exist_ok=True)
        elif (source / path).exists():
            shutil.copy(source / path, to)


@dataclass
class Project:
    """`world` as a git repository with an origin, and what CI machines have in their PATH."""

    world: World
    folder: Path
    store: Store
    clones: int = 0

    @property
    def origin(self) -> Path:
        """The bare repository that pipelines clone."""
        return self.folder / "origin.git"

    @property
    def calls(self) -> Path:
        """Where the stand-ins of gh and apt-get note their arguments, and origin push options."""
        return self.folder / "calls"

    def git(self, *words: str, cwd: Path | None = None) -> str:
        """Run git, in the user's checkout or elsewhere; what it prints."""
        done = subprocess.run(["git", *words], cwd=cwd or self.world.root, text=True, check=True,
                              env={**os.environ, **GIT}, capture_output=True)  # fmt: skip
        return done.stdout

    def push(self) -> None:
        """Commit all that is not ignored, and push it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        self.git("push", "--quiet", "origin", "main")

    def clone(self) -> Path:
        """A fresh clone of main."""
        self.clones += 1
        to = self.folder / f"clone-{self.clones}"
        self.git("clone", "--quiet", "--branch", "main", str(self.origin), str(to), cwd=self.folder)
        return to

    def environment(self) -> dict[str, str]:
        """What a job finds: of Strata's variables only the scratch folder, which is for speed."""
        kept = {name: value for name, value in self.world.environment().items()
                if not name.startswith("STRATA_") or name == "STRATA_SCRATCH"}  # fmt: skip
        return {**kept, **GIT, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}


@pytest.fixture
def project(world: World, tmp_path: Path) -> Project:
    """The spec `web`, locked, committed and pushed."""
    project = Project(world, tmp_path, Store(tmp_path / "store"))
    project.store.folder.mkdir()
    tools = tmp_path / "bin"
    tools.mkdir()
    programs = {
        world.root / "doit": f'exec {sys.executable} -m doit "$@"',
        tools / "python3": f'exec {sys.executable} "$@"',
        # sudo without -E passes hardly a variable on.
        tools / "sudo": '[ "$1" = -E ] || exec env -i PATH="$PATH" "$@"\nshift\nexec "$@"',
        **{tools / name: f'echo {name} "$@" >> {project.calls}' for name in ("gh", "apt-get")},
    }
    for path, text in programs.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    shutil.copy(PROJECT / ".gitignore", world.root)
    world.doit("lock", "spec=web")
    project.git("init", "--quiet", "--bare", str(project.origin))
    project.git("config", "receive.advertisePushOptions", "true", cwd=project.origin)
    hook = project.origin / "hooks/pre-receive"
    hook.write_text(f"#!/bin/sh\nenv | grep GIT_PUSH_OPTION_[0-9] | sort >> {project.calls}\n:\n")
    hook.chmod(0o755)
    project.git("init", "--quiet", "--initial-branch", "main")
    project.git("remote", "add", "origin", str(project.origin))
    project.push()
    world.server.clear()
    return project


@dataclass
class Run:
    """What became of a pipeline."""

    ok: bool = True
    log: str = ""
    clone: Path = Path()
    uploaded: Path = Path()

    def execute(self, argv: Sequence[str | Path], env: dict[str, str]) -> bool:
        """Run one step in the clone."""
        done = subprocess.run(argv, cwd=self.clone, env=env, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        self.log += done.stdout
        return done.returncode == 0

    @property
    def results(self) -> dict[str, str]:
        """Each stage's result by its name; one that any job built was built."""
        found: dict[str, str] = {}
        line = r"^(?:base|layer|image)(?: (\S+))? +[0-9a-f]{8}  (\w+) "
        for name, result in re.findall(line, self.log, re.MULTILINE):
            if found.get(name or "base") != "built":
                found[name or "base"] = result
        return found

    @property
    def outputs(self) -> dict[str, bytes]:
        """The images that it hands to the user."""
        return {path.name: path.read_bytes() for path in self.uploaded.glob("out/web/*.img*")}


System = Callable[[Project, str], Run]


# ---------------------------------------------------------------- GitHub Actions


def evaluate(expression: str, contexts: Yaml) -> Any:
    """An expression of the few forms that the example uses."""

    def translated(match: re.Match[str]) -> str:
        word = match[0]
        if word.startswith("'"):
            return word
        if word in OPERATORS:
            return OPERATORS[word]
        value: Any = contexts
        for part in word.split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        return repr(value)

    python = re.sub(r"'[^']*'|always\(\)|&&|\|\||[a-z_]\w*(?:\.[\w-]+)+", translated, expression)
    return eval(python, {"__builtins__": {}})


OPERATORS = {"always()": "True", "&&": " and ", "||": " or "}


def filled(text: str, contexts: Yaml) -> str:
    """text with each ${{ expression }} replaced."""
    return re.sub(r"\$\{\{(.+?)\}\}", lambda match: str(evaluate(match[1].strip(), contexts)), text)


def read_outputs(path: Path) -> dict[str, str]:
    """A step's $GITHUB_OUTPUT: name=value, or name<<END, lines, END."""
    found: dict[str, str] = {}
    lines = path.read_text().splitlines()
    while lines:
        name, mark, end = lines.pop(0).partition("<<")
        if mark:
            size = lines.index(end)
            found[name] = "\n".join(lines[:size])
            del lines[: size + 1]
        else:
            name, _, found[name] = name.partition("=")
    return found


def github(project: Project, event: str) -> Run:
    """Run the jobs of docs/ci/github.yml that an event starts."""
    workflow = example("github.yml")
    project.store.begin()
    run = Run()
    contexts: Yaml = {
        "github": {"event_name": event, "token": "token"},
        "vars": {"STRATA_MIRROR": project.world.server.url},
    }
    contexts["env"] = {name: filled(value, contexts) for name, value in workflow["env"].items()}
    for job in workflow["jobs"].values():
        if evaluate(job["if"], contexts):
            _github_job(project, job, run, contexts)
    return run


def _github_job(project: Project, job: Yaml, run: Run, contexts: Yaml) -> None:
    run.clone = project.folder / "nothing yet"
    outcomes: Yaml = {}
    contexts["steps"] = outcomes
    for number, step in enumerate(job["steps"]):
        condition = str(step.get("if", "true"))
        wanted = condition == "true" or evaluate(condition, contexts)
        mine: Yaml = {"outcome": "skipped", "outputs": {}}
        outcomes[step.get("id", f"step {number}")] = mine
        if not wanted or not (run.ok or "always()" in condition):
            continue
        if "uses" in step:
            inputs = {name: filled(value, contexts) for name, value in step.get("with", {}).items()}
            good = _github_action(project, step["uses"], inputs, run, mine["outputs"])
        else:
            script, output = project.folder / "step", project.folder / "output"
            script.write_text(filled(step["run"], contexts))
            output.write_text("")
            env = {**project.environment(), **contexts["env"], "GITHUB_OUTPUT": str(output),
                   "GITHUB_WORKFLOW": "strata"}  # fmt: skip
            env |= {name: filled(value, contexts) for name, value in step.get("env", {}).items()}
            # What `shell` is when it is not given: no pipefail.
            argv = step.get("shell", "bash -e {0}").replace("{0}", str(script)).split()
            good = run.execute(argv, env)
            mine["outputs"] = read_outputs(output)
        mine["outcome"] = "success" if good else "failure"
        run.ok = run.ok and good


def _github_action(
    project: Project, uses: str, inputs: dict[str, str], run: Run, outputs: Yaml
) -> bool:
    name = uses.partition("@")[0]
    if name == "actions/checkout":
        run.clone = project.clone()
    elif name == "actions/cache/restore":
        if not project.store.restored:
            # The runner's user unpacks entries: root, who asked for the keys, made no folder there.
            assert not (run.clone / "cache").exists()
        # An entry is found only by one who asks with the very paths with which it was saved.
        if project.store.restore(inputs["key"], run.clone, inputs["path"]):
            outputs["cache-hit"] = "true"
    elif name == "actions/cache/save":
        project.store.save(inputs["key"], run.clone, inputs["path"].splitlines(), inputs["path"],
                           immutable=True)  # fmt: skip
    elif name == "actions/upload-artifact":
        run.uploaded = project.folder / f"artifacts of {run.clone.name}"
        copy(run.clone, [inputs["path"]], run.uploaded)
    else:
        raise AssertionError(f"no such action here: {uses}")
    return True


# ---------------------------------------------------------------- GitLab CI


def ruled_in(rules: list[Yaml], variables: dict[str, str]) -> bool:
    """Whether a job's or workflow's rules say yes."""

    def value(word: str) -> str:
        return variables.get(word[1:], "") if word.startswith("$") else word.strip('"')

    for rule in rules:
        left, operator, right = str(rule.get("if", '"" == ""')).split()
        assert operator in ("==", "!=")
        if (value(left) == value(right)) == (operator == "=="):
            return True
    return False


def gitlab(project: Project, event: str) -> Run:
    """Run docs/ci/gitlab.yml as a pipeline that an event starts, with the child pipeline."""
    pipeline = example("gitlab.yml")
    project.store.begin()
    run = Run()
    variables = {
        **pipeline["variables"], "CI_PIPELINE_SOURCE": event, "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main", "CI_JOB_IMAGE": pipeline["default"]["image"],
        "CI_SERVER_HOST": "gitlab.invalid", "CI_PROJECT_PATH": "group/project",
        # Variables of the project: its settings, not the file.
        "STRATA_MIRROR": project.world.server.url, "STRATA_PUSH_TOKEN": "token",
    }  # fmt: skip
    if event == "merge_request_event":
        del variables["CI_COMMIT_BRANCH"]
    assert ruled_in(pipeline["workflow"]["rules"], variables)
    artifacts = project.folder / f"artifacts {project.clones}"
    for stage in pipeline["stages"]:
        for name, job in pipeline.items():
            if not (isinstance(job, dict) and job.get("stage") == stage and run.ok
                    and ruled_in(job["rules"], variables)):  # fmt: skip
                continue
            if "trigger" in job:
                (include,) = job["trigger"]["include"]
                text = (artifacts / include["job"] / include["artifact"]).read_text()
                _child(project, yaml.safe_load(text), run, variables, artifacts / name)
            else:
                _gitlab_job(project, name, job, run, variables, artifacts)
    return run


def _child(
    project: Project, jobs: Yaml, run: Run, variables: dict[str, str], artifacts: Path
) -> None:
    done: list[str] = []
    for name, job in jobs.items():
        assert set(job["needs"]) <= set(done), "jobs stand in the order of their needs"
        if run.ok:
            _gitlab_job(project, name, job, run, variables, artifacts)
        done.append(name)


def _gitlab_job(
    project: Project, name: str, job: Yaml, run: Run, variables: dict[str, str], artifacts: Path
) -> None:
    run.clone = project.clone()
    for cache in job.get("cache", ()):
        project.store.restore(cache["key"], run.clone)
    for needed in job.get("needs", ()):
        shutil.copytree(artifacts / needed, run.clone, dirs_exist_ok=True)
    address = "https://strata:token@gitlab.invalid/group/project.git"
    env = {
        **project.environment(), **variables, "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{project.origin}.insteadOf", "GIT_CONFIG_VALUE_0": address,
    }  # fmt: skip
    run.ok = run.execute(["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])], env)
    for cache in job.get("cache", ()):
        if run.ok or cache.get("when") == "always":
            project.store.save(cache["key"], run.clone, cache["paths"], immutable=False)
    run.uploaded = artifacts / name
    run.uploaded.mkdir(parents=True)
    if run.ok or job.get("artifacts", {}).get("when") == "always":
        copy(run.clone, job.get("artifacts", {}).get("paths", ()), run.uploaded)


# ---------------------------------------------------------------- what both are to do

HIT = {"base": "hit", "packages": "hit", "app": "hit", "/": "hit", "/boot": "hit"}


IMAGES = {"/": "built", "/boot": "built"}


BOTH = pytest.mark.parametrize("system", [github, gitlab])


@pytest.mark.parametrize("system", [github, pytest.param(gitlab, marks=pytest.mark.nightly)])
@pytest.mark.root
def test_pipelines_redo_only_what_changed(project: Project, system: System) -> None:
    world, store = project.world, project.store

    # Nothing is cached: everything is built, and every file of every stage is saved, once.
    first = system(project, "push")
    assert first.ok, first.log
    assert first.results == dict.fromkeys(HIT, "built")
    assert sorted(first.outputs) == ["web-boot.img.gz", "web.img.gz"]
    keys = json.loads(world.doit("keys", "spec=web", "format=json").out)["stages"]
    assert store.saved == {f"strata-{stage['stage']}-{stage['key']}" for stage in keys}
    assert store.files() == sorted(file for stage in keys for file in stage["files"])

    # Nothing changed: nothing is built, no repository asked, and the images are the same.
    world.server.clear()
    second = system(project, "push")
    assert second.ok, second.log
    assert set(second.results.values()) <= {"hit", "skipped"}
    assert {name: second.results[name] for name in IMAGES} == dict.fromkeys(IMAGES, "hit")
    assert second.outputs == first.outputs
    assert world.server.requests == []
    if system is github:
        assert all(key.startswith("strata-image-") for key in store.restored)
        assert not store.saved

    # A file of the top layer changed: that layer and the images.
    world.write("files/motd", "changed\n")
    project.push()
    third = system(project, "pull_request" if system is github else "merge_request_event")
    assert third.ok, third.log
    assert third.results == {**HIT, "app": "built", **IMAGES}
    assert third.outputs.keys() == first.outputs.keys()
    assert third.outputs["web.img.gz"] != first.outputs["web.img.gz"]
    new = json.loads(world.doit("keys", "spec=web", "format=json").out)["stages"][-3:]
    assert {f"strata-{stage['stage']}-{stage['key']}" for stage in new} <= store.saved

    # A layer is good and the one above fails: the good one is saved all the same.
    script = (world.root / "specs/scripts/app.sh").read_text()
    world.write("scripts/app.sh", script + "exit 1\n", 0o755)
    world.edit("packages: [alpha]", "packages: [alpha, delta]")
    world.doit("lock", "spec=web")
    project.push()
    had = store.keys()
    failed = system(project, "push")
    assert not failed.ok
    assert "app.sh" in failed.log
    assert failed.results == {"packages": "built"}
    (layer,) = store.keys() - had
    assert layer.startswith("strata-layer-")
    assert (failed.uploaded / "out/web/log/layer-app.log").exists()


@BOTH
def test_nightly_proposes_a_lock_that_moved(project: Project, system: System) -> None:
    old = (project.world.root / "specs/web.lock").read_text()
    quiet = system(project, "schedule")
    assert quiet.ok, quiet.log
    assert "strata-lock" not in project.git("branch", "--list", cwd=project.origin)

    project.world.add(project.world.deb("beta", "2", depends="gamma"))
    moved = system(project, "schedule")
    assert moved.ok, moved.log
    changed = project.git("diff", "--name-only", "main", "strata-lock", cwd=project.origin)
    assert changed.split() == ["specs/web.lock"]
    new = project.git("show", "strata-lock:specs/web.lock", cwd=project.origin)
    assert new != old
    assert '"2"' in new
    assert moved.results == {}
    calls = project.calls.read_text().splitlines()
    if system is github:
        assert calls == [
            "gh pr create --head strata-lock --title Lock web --body ",
            "gh workflow run strata --ref strata-lock",
        ]
    else:
        assert calls[-2:] == [
            "GIT_PUSH_OPTION_0=merge_request.create",
            "GIT_PUSH_OPTION_1=merge_request.target=main",
        ]


def test_frozen_build_refuses_a_stale_lock(project: Project) -> None:
    project.world.edit("packages: [alpha]", "packages: [alpha, delta]")
    project.push()
    run = github(project, "pull_request")
    assert not run.ok
    assert "doit lock spec=web" in run.log
    assert not project.store.keys()


# ---------------------------------------------------------------- doit keys


def test_keys_come_from_the_lock_alone(project: Project) -> None:
    world = project.world
    printed = world.doit("keys", "spec=web", "format=json", STRATA_MIRROR="http://127.0.0.1:1")
    keys = json.loads(printed.out)
    assert keys["spec"] == "web"
    assert re.fullmatch("[0-9a-f]{64}", keys["lock"])
    assert [(stage["stage"], stage["name"]) for stage in keys["stages"]] == [
        ("base", "base"), ("layer", "packages"), ("layer", "app"), ("image", "/"),
        ("image", "/boot"),
    ]  # fmt: skip
    for stage in keys["stages"]:
        assert re.fullmatch("[0-9a-f]{32}", stage["key"])
        file, record = stage["files"]
        folder = "images" if stage["stage"] == "image" else "layers"
        start = f"cache/{folder}/{stage['stage']}-{stage['key']}."
        assert file.startswith(start)
        assert record == f"{start}json"
    text = world.doit("keys", "spec=web").out.splitlines()
    assert [line.split()[:3] for line in text] == [
        [stage["stage"], stage["name"], stage["key"]] for stage in keys["stages"]
    ]
    assert not (world.root / "cache/layers").exists()
    assert world.server.requests == []


def test_keys_without_a_lock_say_how_to_get_one(world: World) -> None:
    failed = world.doit("keys", "spec=web", "format=json", check=False)
    assert failed.code != 0
    assert "doit lock spec=web" in failed.err


def test_keys_in_an_unknown_format(project: Project) -> None:
    failed = project.world.doit("keys", "spec=web", "format=xml", check=False)
    assert failed.code != 0
    assert "expected text or json" in failed.err


# ---------------------------------------------------------------- the files themselves

# Inputs as each action's action.yml has them.
ACTIONS = {
    "actions/checkout": {"ref", "fetch-depth", "token"},
    "actions/cache/restore": {"key", "path", "restore-keys", "fail-on-cache-miss", "lookup-only"},
    "actions/cache/save": {"key", "path"},
    "actions/upload-artifact": {"name", "path", "retention-days", "if-no-files-found"},
}


STEP_KEYS = {"id", "if", "name", "uses", "with", "run", "shell", "env"}


def test_github_example_is_a_workflow() -> None:
    workflow = example("github.yml")
    # To YAML 1.1, which PyYAML speaks, `on` is a truth value.
    assert set(workflow) == {"name", True, "env", "jobs"}
    assert {"push", "pull_request", "workflow_dispatch", "schedule"} == set(workflow[True])
    for job in workflow["jobs"].values():
        assert set(job) == {"if", "runs-on", "permissions", "steps"}
        names = [step["id"] for step in job["steps"] if "id" in step]
        assert len(names) == len(set(names))
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                name, _, version = step["uses"].partition("@")
                assert re.fullmatch(r"v\d+", version)
                assert set(step.get("with", {})) <= ACTIONS[name]
                if name.startswith("actions/cache/"):
                    assert set(step["with"]) == {"key", "path"}
            used = re.findall(r"steps\.(\w+)\.", json.dumps(step))
            assert set(used) <= set(names)


def test_github_example_saves_what_it_restores() -> None:
    steps = example("github.yml")["jobs"]["build"]["steps"]
    restored = {step["id"]: step["with"] for step in steps
                if step.get("uses", "").startswith("actions/cache/restore")}  # fmt: skip
    saves = [step for step in steps if step.get("uses", "").startswith("actions/cache/save")]
    saved = {re.findall(r"steps\.(\w+)\.outcome", step["if"])[0]: step["with"] for step in saves}
    assert saved == restored
    # The step that names the entries says of a stage without steps that it has none.
    (script,) = [step["run"] for step in steps if step.get("id") == "keys"]
    counts = json.loads(re.search(r"steps, count = (\{.*?\})", script)[1])  # type: ignore[index]
    assert set(restored) == {f"{kind}{n + 1}" for kind in counts for n in range(counts[kind])}


@pytest.mark.parametrize("spec", ["minimal", "server", "layered"])
def test_github_example_has_steps_for_each_shipped_spec(spec: str) -> None:
    from tasks.spec.load import load_spec

    loaded = load_spec(PROJECT / f"specs/{spec}.yaml", schema=PROJECT / "specs/spec.schema.json")
    text = (EXAMPLES / "github.yml").read_text()
    layers = len(loaded.layers) + 1  # and the settings, which images or the lock may ask for
    for kind, number in (("layer", layers), ("image", len(loaded.images))):
        assert all(f"id: {kind}{n + 1}\n" in text for n in range(number)), kind


def child_pipeline(folder: Path, stages: list[Yaml]) -> Yaml:
    """What the job `keys` of the GitLab example writes for such stages."""
    (folder / "keys.json").write_text(json.dumps({"spec": "web", "lock": "", "stages": stages}))
    script = example("gitlab.yml")["keys"]["script"][-1].replace("python3", sys.executable)
    subprocess.run(["bash", "-ec", script], cwd=folder, check=True,
                   env={**os.environ, "CI_JOB_IMAGE": "debian:12"})  # fmt: skip
    child: Yaml = yaml.safe_load((folder / "child.yml").read_text())
    return child


@pytest.mark.parametrize("layers", [1, 2, 3, 7])
def test_gitlab_child_pipeline_has_each_stage_once(tmp_path: Path, layers: int) -> None:
    names = [("base", "base"), *(("layer", f"l{n}") for n in range(layers)), ("image", "/")]
    stages = [{"stage": kind, "name": name, "key": f"{n:032x}",
               "files": [f"cache/x/{n}.file", f"cache/x/{n}.json"]}
              for n, (kind, name) in enumerate(names)]  # fmt: skip
    child = child_pipeline(tmp_path, stages)
    jobs = list(child.values())
    caches = [cache for job in jobs for cache in job["cache"]]
    assert [(cache["key"], cache["paths"]) for cache in caches] == [
        (f"strata-{stage['stage']}-{stage['key']}", stage["files"]) for stage in stages
    ]
    assert all(1 <= len(job["cache"]) <= 4 for job in jobs)
    assert len(jobs) == -(-len(stages) // 4)
    for number, (name, job) in enumerate(child.items()):
        assert name == f"build {number + 1}"
        assert set(job) == {"image", "tags", "rules", "needs", "cache", "script", "artifacts"}
        assert job["needs"] == list(child)[:number]
        # A later job finds the files of the earlier ones among their artifacts.
        own = [path for cache in job["cache"] for path in cache["paths"]]
        assert job["artifacts"]["paths"] == ["out/", *(own if job is not jobs[-1] else [])]
    assert jobs[-1]["script"] == ["./doit build spec=web lock=frozen"]
    if len(jobs) > 1:
        assert jobs[0]["script"][0].startswith("./doit base")


def test_gitlab_example_is_a_pipeline() -> None:
    pipeline = example("gitlab.yml")
    settings = {"workflow", "variables", "default", "stages"}
    assert set(pipeline) == settings | {"keys", "build", "lock"}
    for name in ("keys", "lock"):
        assert set(pipeline[name]) <= {"stage", "rules", "script", "artifacts"}
        assert pipeline[name]["stage"] in pipeline["stages"]
    trigger = pipeline["build"]["trigger"]
    assert trigger == {"include": [{"artifact": "child.yml", "job": "keys"}], "strategy": "depend"}
    assert pipeline["keys"]["artifacts"]["paths"] == ["child.yml"]
