"""GitLab CI: the pipeline, and the jobs of the child pipeline that its job `plan` writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from shlex import quote
from typing import Any

from .pipeline import Pipeline
from .stages import Entry, Stages, waves
from .template import Template

CACHES = 4
"""How many caches GitLab takes in a job."""

IMAGES = {"Debian": "debian:13", "Ubuntu": "ubuntu:24.04"}
"""A container's image by the distribution that is built in it: it has that one's keyrings."""


def pipeline(facts: Pipeline) -> str:
    """The text of .gitlab-ci.yml."""
    template = Template("gitlab")
    common = facts.common()
    history = '\n  GIT_DEPTH: "0"  # `version: git` counts from the last tag'
    values = {
        **common,
        "env": common["env"] + (history if facts.whole_history else ""),
        "strata": facts.program,
        "image": IMAGES.get(facts.distribution, IMAGES["Debian"]),
    }
    setup = "setup" if facts.checkout else "strata"

    def install(*packages: str) -> str:
        keyrings = facts.keyrings if packages or facts.keyrings_always else ()
        git = ("git",) if "git+" in facts.settings.get("STRATA_REQUIREMENT", ("", ""))[1] else ()
        wanted = " ".join(dict.fromkeys([*git, *packages, *keyrings]))
        if not wanted and facts.checkout:
            return ""
        return template.fill(setup, {"packages": wanted}).replace("  ", " ").replace(" \n", "\n")

    values |= {"setup": install(), "child_setup": install()}
    jobs = template.fill("shared" if facts.remote else "plan", values)
    nightly = template.fill("lock", {**values, "setup": install("git", "curl", "ca-certificates")})
    head = template.fill("head", values)
    return head + jobs + nightly


def jobs(specs: Sequence[Stages], have: Collection[str]) -> str:
    """The jobs of the child pipeline, as YAML that continues a mapping with `.strata`."""
    import yaml

    found = jobs_of(specs, have)
    stages = [f"wave {level}" for level in range(len(waves(specs)))] + ["images"]
    return yaml.safe_dump({"stages": stages, **found}, sort_keys=False, width=1000)


def jobs_of(specs: Sequence[Stages], have: Collection[str]) -> dict[str, Any]:
    """A job for each stage of a tree, shared ones once, and one for each spec's images.

    A job restores its own entry and, of what it stands on, the nearest as long as GitLab takes
    caches; what lies deeper comes to it as the artifact of the job that made it.
    """
    found: dict[str, dict[str, Any]] = {}
    by_key: dict[str, str] = {}
    handed: set[str] = set()
    for level, wave in enumerate(waves(specs, have)):
        for one in wave:
            title = by_key[one.stage.key] = one.title
            job = _job(f"wave {level}", [one.stage], one.below, by_key, handed)
            job["variables"] = {"HAVE": " ".join(one.stage.files)}
            job["script"] = [_command(one.stage.task, one.specs[0])]
            job["artifacts"] = {"paths": ["out/*/log/"], "when": "on_failure",
                                "expire_in": "1 week"}  # fmt: skip
            found[title] = job
    for spec in specs:
        job = _job("images", spec.images, spec.tree, by_key, handed)
        job["script"] = [_command("build", spec.spec)]
        job["artifacts"] = {"paths": ["out/"], "when": "always", "expire_in": "2 weeks"}
        found[f"build {spec.spec}"] = job
    for wave in waves(specs, have):
        for one in wave:
            if one.stage.key in handed:
                found[one.title]["artifacts"] = {
                    "paths": ["out/*/log/", *one.stage.files],
                    "when": "always",
                    "expire_in": "1 day",
                }
    return found


def _command(task: str, spec: str) -> str:
    return f'"$STRATA" {quote(task)} {quote(f"spec={spec}")} lock=frozen'


def _job(
    stage: str,
    own: Sequence[Entry],
    below: Sequence[Entry],
    by_key: dict[str, str],
    handed: set[str],
) -> dict[str, Any]:
    """A job that makes `own` on what is `below`; notes in `handed` what must be an artifact."""
    mine = list(own)[:CACHES]
    room = CACHES - len(mine)
    near = list(below)[len(below) - min(room, len(below)) :]
    deep = [entry for entry in below[: len(below) - len(near)] if entry.key in by_key]
    handed |= {entry.key for entry in deep}
    needs = [
        {"job": by_key[entry.key], "artifacts": entry in deep}
        for entry in below
        if entry.key in by_key
    ]
    return {
        "extends": ".strata",
        "stage": stage,
        "needs": needs,
        # Without `unprotect`, main builds again what its merge request built.
        "cache": [
            {"key": entry.entry, "paths": list(entry.files), "unprotect": True} for entry in mine
        ]
        + [
            {"key": entry.entry, "paths": list(entry.files), "unprotect": True, "policy": "pull"}
            for entry in near
        ],
    }
