"""Pipelines as text: waves, what each provider's jobs get, and that the docs show what is printed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ci_doc import COMMAND, DOCS, PAGES, pages
from tasks.ci import github, gitlab
from tasks.ci.stages import Entry, Stages, told, waves
from tasks.ci.template import Template
from tasks.spec.schema import load_jsonschema


def entry(name: str) -> Entry:
    """A stage whose key is its name."""
    kind = name.partition(":")[0]
    return Entry(
        task=name,
        kind=kind,
        key=name.replace(":", "-"),
        files=(f"cache/{name}.zst", f"cache/{name}.json"),
    )


def stages(spec: str, tree: str, images: str) -> Stages:
    return Stages(
        spec=spec, tree=tuple(map(entry, tree.split())), images=tuple(map(entry, images.split()))
    )


WEB = stages("web", "base layer:packages layer:app", "image:web")


DB = stages("db", "base layer:packages layer:db layer:settings", "image:db image:boot")


def made(specs: list[Stages], *have: str) -> list[list[str]]:
    return [[one.title for one in wave] for wave in waves(specs, have)]


def test_a_wave_is_a_level_and_what_is_shared_is_made_once() -> None:
    assert made([WEB, DB]) == [
        ["base (web, db)"], ["layer:packages (web, db)"], ["layer:app (web)", "layer:db (db)"],
        ["layer:settings (db)"],
    ]  # fmt: skip


def test_what_no_missing_image_needs_is_not_made() -> None:
    assert made([WEB, DB], "strata-image-image-web") == [
        ["base (db)"], ["layer:packages (db)"], ["layer:db (db)"], ["layer:settings (db)"]]  # fmt: skip
    assert made([WEB], "strata-image-image-web") == [[], [], []]
    # One of two images is not there: the whole tree is wanted.
    assert made([DB], "strata-image-image-db")[0] == ["base (db)"]
    # What lies below is made, too, where it is missing.
    assert made([WEB], "strata-layer-layer-packages") == [["base (web)"], [], ["layer:app (web)"]]


def test_the_plan_is_told() -> None:
    lines = told([WEB, DB], {"strata-image-image-web", "strata-base-base"})
    assert [line.rsplit("  ", 1)[1] for line in lines] == [
        "there", "built", "not needed", "built", "built", "there", "built", "built"]  # fmt: skip


def test_outputs_are_one_line_each() -> None:
    text = github.outputs([WEB, DB], set())
    found: dict[str, Any] = {}
    for line in text.splitlines():
        assert re.fullmatch(r"[a-z]+\d?=[^\n]+", line)
        name, _, value = line.partition("=")
        found[name] = json.loads(value)
    assert (found["specs"], found["levels"], found["images"]) == (["web", "db"], 4, 2)
    (settings,) = found["wave3"]
    assert settings["task"] == "layer:settings"
    assert [settings[f"key{n}"] for n in range(3)] == [
        "strata-base-base", "strata-layer-layer-packages", "strata-layer-layer-db"]  # fmt: skip
    assert settings["path0"] == "cache/base.zst\ncache/base.json"
    web, db = found["build"]
    assert "image1" not in web
    assert db["image1"] == "strata-image-image-boot"
    assert web["entries"] != db["entries"]


@pytest.mark.parametrize("layers", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_gitlab_job_has_four_caches_and_the_rest_as_artifacts(layers: int, images: int) -> None:
    tree = " ".join(["base", *(f"layer:l{n}" for n in range(layers))])
    spec = stages("web", tree, " ".join(f"image:{n}" for n in range(images)))
    jobs = gitlab.jobs_of([spec], set())
    assert len(jobs) == layers + 2
    handed = {}
    for name, job in jobs.items():
        caches = job["cache"]
        assert 1 <= len(caches) <= gitlab.CACHES
        assert len({cache["key"] for cache in caches}) == len(caches)
        # Each thing that a job stands on comes to it by one way.
        below = [
            one
            for one in spec.tree
            if f"{one.task} (web)" in [need["job"] for need in job["needs"]]
        ]
        cached = {cache["key"] for cache in caches}
        for one, need in zip(below, job["needs"], strict=True):
            assert (one.entry in cached) != need["artifacts"]
            if need["artifacts"]:
                assert set(one.files) <= set(jobs[need["job"]]["artifacts"]["paths"])
                assert jobs[need["job"]]["artifacts"]["when"] == "always"
        handed[name] = job
    last = list(jobs)[-1]
    assert last == "build web"
    assert jobs[last]["script"] == ['"$STRATA" build spec=web lock=frozen']


def test_gitlab_jobs_of_shared_stages_are_one() -> None:
    text = gitlab.jobs([WEB, DB], set())
    child = yaml.safe_load(text)
    assert list(child)[1:3] == ["base (web, db)", "layer:packages (web, db)"]
    assert child["base (web, db)"]["script"] == ['"$STRATA" base spec=web lock=frozen']
    assert child["build db"]["needs"][0]["job"] == "base (web, db)"


def test_a_name_that_is_alone_brings_its_lines() -> None:
    template = Template.__new__(Template)
    template.parts = {"part": "a @one@ b\n  @two@\nend @three\n"}
    assert (
        template.fill("part", {"one": "1", "two": "x\n  y\n"}) == "a 1 b\n  x\n    y\nend @three\n"
    )
    assert template.fill("part", {"one": "1", "two": ""}) == "a 1 b\nend @three\n"


# ---------------------------------------------------------------- the files themselves


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is printed for the specs of the docs."""
    return pages(tmp_path_factory.mktemp("pages") / "project")


@pytest.mark.parametrize("name", PAGES)
def test_the_docs_show_what_is_printed(printed: dict[str, str], name: str) -> None:
    assert (DOCS / name).read_text() == printed[name], f"docs/ci/{name} is not: run {COMMAND}"


def published(name: str) -> Any:
    """A schema as its owners publish it, which the package check-jsonschema brings."""
    found = importlib.util.find_spec("check_jsonschema")
    assert found is not None
    assert found.origin is not None
    return json.loads((Path(found.origin).parent / f"builtin_schemas/{name}.json").read_text())


def valid(document: Any, name: str) -> None:
    """Raises ValidationError where a document is not what a published schema allows."""
    load_jsonschema()
    import jsonschema

    jsonschema.Draft7Validator(published(name)).validate(document)


@pytest.mark.parametrize("name", PAGES)
def test_files_are_what_the_published_schemas_ask_for(printed: dict[str, str], name: str) -> None:
    document = yaml.safe_load(printed[name])
    if "gitlab" in name:
        valid(document, "vendor/gitlab-ci")
        return
    # To YAML 1.1, which PyYAML speaks, `on` is a truth value.
    document = {("on" if key is True else key): value for key, value in document.items()}
    valid(document, "vendor/github-workflows")
    valid(document, "custom/github-workflows-require-timeout")


def test_a_child_pipeline_is_what_the_published_schema_asks_for(printed: dict[str, str]) -> None:
    script = yaml.safe_load(printed["gitlab.yml"])["plan"]["script"][-1]
    head = script.partition("<<'END'\n")[2].partition("END\n")[0]
    child = yaml.safe_load(head + gitlab.jobs([WEB, DB], set()))
    valid(child, "vendor/gitlab-ci")
    assert all(job["extends"] == ".strata" for name, job in child.items() if "(" in name)


# Inputs as each action's action.yml has them.
ACTIONS = {
    "actions/checkout": {"ref", "fetch-depth", "token"},
    "actions/cache/restore": {"key", "path", "restore-keys", "fail-on-cache-miss", "lookup-only"},
    "actions/cache/save": {"key", "path"},
    "actions/upload-artifact": {"name", "path", "retention-days", "if-no-files-found", "overwrite"},
    "actions/download-artifact": {"name", "path", "run-id", "github-token"},
    "actions/attest-build-provenance": {"subject-path", "subject-digest", "subject-checksums"},
}


@pytest.mark.parametrize("name", [name for name in PAGES if "github" in name])
def test_steps_name_what_there_is(printed: dict[str, str], name: str) -> None:
    """What a schema cannot see: inputs of actions, steps and jobs that are named elsewhere."""
    jobs = yaml.safe_load(printed[name])["jobs"]
    for job in jobs.values():
        assert set(job.get("needs", ())) <= set(jobs)
        names = [step["id"] for step in job["steps"] if "id" in step]
        assert len(names) == len(set(names))
        assert set(re.findall(r"needs\.(\w+)\.", json.dumps(job))) <= set(job.get("needs", ()))
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert set(re.findall(r"steps\.(\w+)\.", json.dumps(step))) <= set(names)
            # What a name of a branch or a spec holds never becomes a word of a shell's program.
            assert "${{" not in step.get("run", "")
            if "uses" in step:
                action, _, version = step["uses"].partition("@")
                assert re.fullmatch(r"v\d+", version)
                assert set(step.get("with", {})) <= ACTIONS[action]
