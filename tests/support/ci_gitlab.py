"""Runs a pipeline of GitLab CI with its child pipeline: each job's script in a clone of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.ci_project import Pipeline, Project, Run, Yaml, copy

CACHES = 4


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


@dataclass
class GitLab(Pipeline):
    """One pipeline; a fork's runs in its own project, with a cache of its own and no secret."""

    def __post_init__(self) -> None:
        self.protected = self.branch == "main" and not self.fork
        self.artifacts = self.project.folder / f"artifacts {self.project.clones}"
        self.run.uploaded = self.artifacts
        pipeline = yaml.safe_load(self.project.pipeline)
        self.variables = {
            **pipeline["variables"], "CI_PIPELINE_SOURCE": self.event,
            "CI_DEFAULT_BRANCH": "main", "CI_SERVER_HOST": "gitlab.invalid",
            "CI_API_V4_URL": "https://gitlab.invalid/api/v4", "CI_PROJECT_ID": "1",
            "CI_PROJECT_PATH": "group/project",
            **({"CI_COMMIT_BRANCH": self.branch} if self.event != "merge_request_event" else {}),
            **(self.project.secrets if self.protected else {}),
        }  # fmt: skip

    def scope(self, cache: Yaml) -> str:
        """Whose entries those of a job are."""
        if self.fork:
            return "fork"
        # "Use separate caches for protected branches", as GitLab has it by default.
        return "both" if cache.get("unprotect") else f"protected {self.protected}"

    def start(self) -> Run:
        """Run all jobs that the event starts."""
        pipeline = yaml.safe_load(self.project.pipeline)
        self.project.store.begin()
        assert ruled_in(pipeline["workflow"]["rules"], self.variables)
        for stage in pipeline["stages"]:
            for name, job in pipeline.items():
                if not (isinstance(job, dict) and job.get("stage") == stage and self.run.ok
                        and ruled_in(job["rules"], self.variables)):  # fmt: skip
                    continue
                if "trigger" in job:
                    (include,) = job["trigger"]["include"]
                    self._child(self.artifacts / include["job"] / include["artifact"])
                else:
                    assert job["timeout"]
                    self.run.ok = self._job(name, job)
        return self.run

    def _child(self, path: Path) -> None:
        child: Yaml = yaml.safe_load(path.read_text())
        stages = child.pop("stages")
        failed: set[str] = set()
        done: list[str] = []
        template = child.pop(".strata")
        for name, given in child.items():
            job = {**template, **given,
                   "variables": {**template["variables"], **given.get("variables", {})}}  # fmt: skip
            assert job["extends"] == ".strata"
            assert job["stage"] in stages
            needs = [one["job"] for one in job["needs"]]
            assert set(needs) <= set(done), "jobs stand in the order of their needs"
            done.append(name)
            if failed & set(needs) or not self._job(name, job):
                failed.add(name)
        self.run.ok = not failed

    def _job(self, name: str, job: Yaml) -> bool:
        self.run.jobs.append(name)
        clone = self.project.clone(self.branch)
        caches = job.get("cache", ())
        assert len(caches) <= CACHES
        for cache in caches:
            self.project.store.restore([self.scope(cache)], cache["key"], clone)
        for needed in job.get("needs", ()):
            if needed["artifacts"]:
                shutil.copytree(self.artifacts / needed["job"], clone, dirs_exist_ok=True)
        env = {
            **self.project.environment(), **self.variables, **job.get("variables", {}),
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{self.project.origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://gitlab.invalid/group/project.git",
        }  # fmt: skip
        script = "\n".join([*job.get("before_script", ()), *job["script"]])
        good = self.run.execute(["bash", "-eo", "pipefail", "-c", script], clone, env)
        for cache in caches:
            if good and cache.get("policy") != "pull":
                self.project.store.save(self.scope(cache), cache["key"], clone, cache["paths"],
                                        immutable=False)  # fmt: skip
        kept = job.get("artifacts", {})
        when = kept.get("when", "on_success")
        (self.artifacts / name).mkdir(parents=True)
        if when == "always" or good == (when == "on_success"):
            assert not kept or kept["expire_in"]
            copy(clone, kept.get("paths", ()), self.artifacts / name)
        return good


def gitlab(project: Project, event: str, branch: str = "main", *, fork: bool = False) -> Run:
    """Run the project's pipeline."""
    event = "merge_request_event" if event == "pull_request" else event
    return GitLab(project, event, branch, fork).start()
