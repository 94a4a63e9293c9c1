"""Stands in for gh and curl in the tests of pipelines: a few requests, answered from one file.

A program of its own: `ci_services.py gh|curl WORDS…`, with STATE and CALLS in the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def main(words: list[str]) -> int:
    """Answer one request."""
    path = Path(os.environ["STATE"])
    state = json.loads(path.read_text())
    with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
        calls.write(" ".join(words).replace("\n", " ") + "\n")
    answer = (gh if words[0] == "gh" else curl)(words[1:], state)
    path.write_text(json.dumps(state))
    if answer is not None:
        sys.stdout.write(answer)
    return 0


def option(words: list[str], name: str) -> str:
    """The word after an option, "" without it."""
    return words[words.index(name) + 1] if name in words else ""


def queried(words: list[str], value: Any) -> str:
    """What --jq makes of an answer."""
    # gh has its own jq, of the same language.
    done = subprocess.run(["jq", "-r", option(words, "--jq")], input=json.dumps(value), text=True,
                          check=True, stdout=subprocess.PIPE)  # fmt: skip
    return done.stdout


def gh(words: list[str], state: dict[str, Any]) -> str | None:
    """GitHub's own: caches, artifacts, pull requests, workflows."""
    assert os.environ["GH_TOKEN"] == "token"
    match words[:2]:
        case ["cache", "list"]:
            start = option(words, "--key")
            return queried(words, [one for one in state["caches"] if one["key"].startswith(start)])
        case ["api", address]:
            name = address.partition("?name=")[2]
            found = [one for one in state["artifacts"] if one["name"] == name]
            return queried(words, {"artifacts": found[::-1]})
        case ["run", "download"]:
            (one,) = [one for one in state["artifacts"] if one["name"] == option(words, "--name")
                      and str(one["workflow_run"]["id"]) == words[2]]  # fmt: skip
            shutil.copytree(one["folder"], option(words, "--dir"), dirs_exist_ok=True)
        case ["pr", "list"]:
            head = option(words, "--head")
            closed = option(words, "--state") == "all"
            found = [one for one in state["requests"] if head in ("", one["headRefName"])
                     and (closed or one["open"])]  # fmt: skip
            return queried(words, found)
        case ["pr", "create"]:
            body = Path(option(words, "--body-file")).read_text()
            add(state, option(words, "--head"), option(words, "--title"), body)
        case ["pr", "close"]:
            close(state, words[2])
        case ["workflow", "run"]:
            pass
        case _:
            raise AssertionError(words)
    return None


def curl(words: list[str], state: dict[str, Any]) -> str | None:
    """GitLab's own: merge requests."""
    assert Path(option(words, "--header")[1:]).read_text() == "PRIVATE-TOKEN: token\n"
    data: dict[str, str] = {}
    for number, word in enumerate(words):
        if word == "--data-urlencode":
            name, at, file = words[number + 1].partition("@")
            key, _, value = words[number + 1].partition("=")
            data |= {name: Path(file).read_text()} if at and "=" not in name else {key: value}
    address = words[-1]
    if "?source_branch=" in address:
        branch = address.partition("?source_branch=")[2]
        return json.dumps([one for one in state["requests"] if one["headRefName"] == branch])
    if "?state=opened&labels=strata-lock" in address:
        return json.dumps([{"iid": one["number"], "source_branch": one["headRefName"]}
                           for one in state["requests"] if one["open"]])  # fmt: skip
    if option(words, "--request") == "PUT":
        assert option(words, "--data") == "state_event=close"
        close(state, address.rpartition("/")[2])
        return None
    add(state, data["source_branch"], data["title"], data["description"])
    return None


def add(state: dict[str, Any], branch: str, title: str, body: str) -> None:
    """A request to merge is opened; a forge takes none without a title or a body of blanks."""
    assert title.strip()
    assert body.strip()
    assert len(body) < 65536
    state["requests"].append({"number": len(state["requests"]) + 1, "headRefName": branch,
                              "body": body, "open": True})  # fmt: skip


def close(state: dict[str, Any], number: str) -> None:
    """One of them is closed."""
    (one,) = [one for one in state["requests"] if str(one["number"]) == number]
    one["open"] = False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
