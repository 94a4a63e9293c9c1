"""Runs a workflow of GitHub Actions: each job's own steps by bash, in a clone of its own."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.ci_project import Pipeline, Project, Run, Yaml, copy

FUNCTIONS = {"always()": "True", "cancelled()": "False", "&&": " and ", "||": " or ", "!": " not "}


def evaluate(expression: str, contexts: Yaml, failed: bool) -> Any:
    """An expression of the forms that the pipelines use."""

    def translated(match: re.Match[str]) -> str:
        word = match[0]
        if word.startswith("'") or word == "!=":
            return word
        if word == "failure()":
            return repr(failed)
        if word in FUNCTIONS:
            return FUNCTIONS[word]
        value: Any = contexts
        for part in word.split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        # As GitHub compares what is a number with one.
        return value if isinstance(value, str) and value.isdigit() else repr(value)

    found = re.match(r"fromJSON\((.+)\)$", expression)
    if found:
        return json.loads(evaluate(found[1], contexts, failed))
    python = re.sub(
        r"'[^']*'|[a-z]+\(\)|&&|\|\||!=|!|[a-z_]\w*(?:\.[\w-]+)+", translated, expression
    )
    return eval(python.strip(), {"__builtins__": {}})


def filled(text: Any, contexts: Yaml) -> str:
    """text with each ${{ expression }} replaced."""
    return re.sub(r"\$\{\{(.+?)\}\}",
                  lambda match: str(evaluate(match[1].strip(), contexts, False)), str(text))  # fmt: skip


def condition(text: Any) -> str:
    """What stands in an `if`, which may do without ${{ }}."""
    return re.sub(r"^\$\{\{(.*)\}\}$", r"\1", str(text)).strip()


def read_outputs(path: Path) -> dict[str, str]:
    """A step's $GITHUB_OUTPUT or $GITHUB_ENV: name=value."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@dataclass
class GitHub(Pipeline):
    """One run of a workflow."""

    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        request = self.event == "pull_request"
        self.ref = f"refs/pull/{self.branch}/merge" if request else f"refs/heads/{self.branch}"
        self.scopes = [self.ref, *(["refs/heads/main"] if self.ref != "refs/heads/main" else [])]
        self.number = len(self.project.known("artifacts")) + 1
        self.run.uploaded = self.project.folder / f"artifacts {self.project.clones}"
        self.contexts: Yaml = {
            "github": {
                "event_name": self.event, "token": "token", "workflow": "strata", "ref": self.ref,
                "ref_name": f"{self.branch}/merge" if request else self.branch,
                "event": {"repository": {"default_branch": "main", "private": False}}
                if self.event != "schedule" else {},
            },
            # A fork's pull request gets no secret and no variable.
            "secrets": {} if self.fork else self.project.secrets,
            "vars": {},
            "needs": {},
        }  # fmt: skip

    def start(self) -> Run:
        """Run all jobs that the event starts, in the order of their needs."""
        workflow = yaml.safe_load(self.project.pipeline)
        assert self.event in workflow[True]  # to YAML 1.1, `on` is a truth value
        self.project.store.begin()
        self.contexts["env"] = workflow.get("env", {})
        results: dict[str, dict[str, Any]] = {}
        for name, job in workflow["jobs"].items():
            needs = {one: results[one] for one in job.get("needs", ())}
            results[name] = {"result": "skipped", "outputs": {}}
            self.contexts["needs"] = needs
            text = condition(job.get("if", "True"))
            failed = any(one["result"] == "failure" for one in results.values())
            asks = re.search(r"(always|failure|cancelled)\(\)", text)
            if not asks and not all(one["result"] == "success" for one in needs.values()):
                continue
            if text == "True" or evaluate(text, self.contexts, failed):
                results[name] = self._several(name, job)
        self.run.ok = all(one["result"] != "failure" for one in results.values())
        return self.run

    def _several(self, name: str, job: Yaml) -> dict[str, Any]:
        """A job, as often as its matrix says."""
        matrix = job.get("strategy", {}).get("matrix", {})
        rows: list[Yaml] = [{}]
        for key, value in matrix.items():
            listed = value if isinstance(value, list) else \
                evaluate(condition(value), self.contexts, False)  # fmt: skip
            assert listed, f"{name}: GitHub takes no empty matrix"
            rows = listed if key == "include" else [{key: one} for one in listed]
        outcome = {"result": "success", "outputs": {}}
        for row in rows:
            self.contexts["matrix"] = row
            title = filled(job.get("name", name), self.contexts)
            assert job["timeout-minutes"]
            self.run.jobs.append(title)
            if not self._job(job):
                outcome["result"] = "failure"
            outcome["outputs"] = {key: filled(value, self.contexts)
                                  for key, value in job.get("outputs", {}).items()}  # fmt: skip
        return outcome

    def _job(self, job: Yaml) -> bool:
        self.clone = self.project.folder / "nothing yet"
        self.temp = self.project.folder / f"temp-{self.project.clones}"
        self.temp.mkdir(exist_ok=True)
        steps: Yaml = {}
        self.contexts["steps"], self.more = steps, {}
        good = True
        for number, step in enumerate(job["steps"]):
            text = condition(step.get("if", "True"))
            mine: Yaml = {"outcome": "skipped", "outputs": {}}
            steps[step.get("id", f"step {number}")] = mine
            asks = re.search(r"(always|failure|cancelled)\(\)", text)
            if not (good or asks):
                continue
            if text != "True" and not evaluate(text, self.contexts, not good):
                continue
            if "uses" in step:
                inputs = {name: filled(value, self.contexts)
                          for name, value in step.get("with", {}).items()}  # fmt: skip
                self._action(step["uses"].partition("@")[0], inputs, mine["outputs"])
                done = True
            else:
                done = self._script(step, mine)
            mine["outcome"] = "success" if done else "failure"
            good = good and done
        return good

    def _script(self, step: Yaml, mine: Yaml) -> bool:
        script, output, more = (self.temp / name for name in ("step", "output", "env"))
        script.write_text(filled(step["run"], self.contexts))
        output.write_text("")
        more.write_text("")
        env = {**self.project.environment(), **self.contexts["env"], **self.more,
               "GITHUB_OUTPUT": str(output), "GITHUB_ENV": str(more), "GITHUB_WORKFLOW": "strata",
               "GITHUB_REF": self.ref, "GITHUB_REPOSITORY": "group/project",
               "GITHUB_BASE_REF": "main" if self.event == "pull_request" else "",
               "RUNNER_TEMP": str(self.temp)}  # fmt: skip
        env |= {name: filled(value, self.contexts) for name, value in step.get("env", {}).items()}
        self.project.note("caches", self.project.store.listing())
        # What `shell` is when it is not given: no pipefail.
        done = self.run.execute(["bash", "-e", str(script)], self.clone, env)
        mine["outputs"] = read_outputs(output)
        self.more |= read_outputs(more)
        return done

    def _action(self, name: str, inputs: dict[str, str], outputs: Yaml) -> None:
        store = self.project.store
        match name:
            case "actions/checkout":
                self.clone = self.project.clone(self.branch)
            case "actions/cache/restore" if "lookup-only" in inputs:
                if store.find(self.scopes, inputs["key"]):
                    outputs["cache-hit"] = "true"
            case "actions/cache/restore":
                assert inputs["key"]
                assert inputs["path"]
                if store.restore(self.scopes, inputs["key"], self.clone):
                    outputs["cache-hit"] = "true"
            case "actions/cache/save":
                store.save(self.ref, inputs["key"], self.clone, inputs["path"].splitlines(),
                           immutable=True)  # fmt: skip
            case "actions/upload-artifact":
                self._upload(inputs)
            case "actions/download-artifact":
                self.clone = self.run.uploaded / inputs["name"]
                self.clone.mkdir(parents=True, exist_ok=True)
            case "actions/attest-build-provenance":
                assert (self.clone / inputs["subject-checksums"]).is_file()
            case _:
                raise AssertionError(f"no such action here: {name}")

    def _upload(self, inputs: dict[str, str]) -> None:
        """An artifact: what the paths have in common is not in its files' names."""
        assert inputs["retention-days"]
        to = self.run.uploaded / inputs["name"]
        taken = self.project.folder / "taken"
        shutil.rmtree(taken, ignore_errors=True)
        found = copy(self.clone, inputs["path"].splitlines(), taken)
        if found:
            root = taken / found[0] if len(found) == 1 and (taken / found[0]).is_dir() \
                else (taken / found[0]).parent  # fmt: skip
            to.parent.mkdir(parents=True, exist_ok=True)
            root.rename(to)
            run = {
                "id": self.number,
                "repository_id": 1,
                "head_repository_id": 2 if self.fork else 1,
            }
            self.project.note("artifacts", [
                *self.project.known("artifacts"),
                {"name": inputs["name"], "expired": False, "folder": str(to), "workflow_run": run},
            ])  # fmt: skip


def github(project: Project, event: str, branch: str = "main", *, fork: bool = False) -> Run:
    """Run the project's workflow."""
    return GitHub(project, event, branch, fork).start()
