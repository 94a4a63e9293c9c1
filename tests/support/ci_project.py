"""A project as CI systems have it: a git origin, fresh clones, and what is kept between runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.world import PROJECT, World

Yaml = dict[Any, Any]


GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
}  # fmt: skip


SYSTEM = {
    # sudo without -E passes hardly a variable on.
    "sudo": '[ "$1" = -E ] || exec env -i PATH="$PATH" "$@"\nshift\nexec "$@"',
    "apt-get": 'echo apt-get "$@" >> "$CALLS"',
}
"""Programs of a CI machine that are stood in for; `gh` and `curl` speak for their services."""


def copy(source: Path, paths: Iterable[str], target: Path) -> list[str]:
    """Files and folders of `source` that match, under the same names below `target`."""
    found = []
    for pattern in paths:
        assert not pattern.startswith("/"), pattern
        assert ".." not in pattern, pattern
        for path in source.glob(pattern.rstrip("/")):
            name = str(path.relative_to(source))
            to = target / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, to, dirs_exist_ok=True)
            else:
                shutil.copy(path, to)
            found.append(name)
    return found


@dataclass
class Store:
    """A CI system's cache: files by scope and key. What is read: the first scope that has a key."""

    folder: Path
    restored: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)

    def _entry(self, scope: str, key: str) -> Path:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", key), key
        return self.folder / scope.replace("/", "%") / key

    def find(self, scopes: Sequence[str], key: str) -> Path | None:
        """Where an entry is, if one of these may see it."""
        entries = [self._entry(scope, key) for scope in scopes]
        return next((entry for entry in entries if entry.exists()), None)

    def restore(self, scopes: Sequence[str], key: str, root: Path) -> bool:
        """Bring an entry's files back into a clone."""
        entry = self.find(scopes, key)
        if entry is not None:
            shutil.copytree(entry, root, dirs_exist_ok=True)
            self.restored.add(key)
        return entry is not None

    def save(
        self, scope: str, key: str, root: Path, paths: Sequence[str], *, immutable: bool
    ) -> None:
        """Keep those of the paths that exist; of none, nothing is kept."""
        found = [path for path in paths if (root / path).exists()]
        if not found:
            return
        entry = self._entry(scope, key)
        assert len(found) == len(paths), f"{key} lacks a part: {found} of {paths}"
        if entry.exists():
            assert not immutable, f"{key} is saved again"
            return
        copy(root, found, entry)
        self.saved.add(key)

    def listing(self) -> list[dict[str, str]]:
        """Every entry, with the scope that it is of."""
        return [{"key": entry.name, "ref": entry.parent.name.replace("%", "/")}
                for entry in sorted(self.folder.glob("*/*"))]  # fmt: skip

    def begin(self) -> None:
        """Before a pipeline: nothing restored or saved so far."""
        self.restored, self.saved = set(), set()


@dataclass
class Run:
    """What became of a pipeline."""

    ok: bool = True
    log: str = ""
    jobs: list[str] = field(default_factory=list)
    uploaded: Path = Path()

    def execute(self, argv: Sequence[str | Path], clone: Path, env: dict[str, str]) -> bool:
        """Run one step in a clone."""
        done = subprocess.run(argv, cwd=clone, env=env, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        self.log += done.stdout
        return done.returncode == 0

    @property
    def built(self) -> list[str]:
        """The stages that any job built, each as often as one did."""
        line = r"^(base|layer \S+|image \S+) +[0-9a-f]{8}  built "
        return sorted(re.findall(line, self.log, re.MULTILINE))

    def image(self, name: str) -> bytes:
        """An image that it hands to the user."""
        (path,) = self.uploaded.rglob(name)
        return path.read_bytes()


@dataclass
class Project:
    """`world` as a git repository with an origin; `pipeline` is its committed file."""

    world: World
    folder: Path
    pipeline: str
    secrets: dict[str, str] = field(default_factory=dict)
    clones: int = 0

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "store")
        self.state.write_text(json.dumps({"caches": [], "artifacts": [], "requests": []}))
        tools = self.folder / "bin"
        tools.mkdir()
        stand_in = Path(__file__).with_name("ci_services.py")
        programs = {
            self.world.root / "doit": f'STRATA_PROGRAM=./doit exec {sys.executable} -m tasks "$@"',
            tools / "python3": f'exec {sys.executable} "$@"',
            **{tools / name: text for name, text in SYSTEM.items()},
            **{tools / name: f'exec {sys.executable} {stand_in} {name} "$@"'
               for name in ("gh", "curl")},
        }  # fmt: skip
        for path, text in programs.items():
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        shutil.copy(PROJECT / ".gitignore", self.world.root)
        self.git("init", "--quiet", "--bare", str(self.origin))
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", str(self.origin))

    @property
    def origin(self) -> Path:
        """The bare repository that pipelines clone."""
        return self.folder / "origin.git"

    @property
    def state(self) -> Path:
        """What the stand-ins of gh and curl know: caches, artifacts, requests to merge."""
        return self.folder / "state.json"

    def known(self, what: str) -> list[Any]:
        """A part of that."""
        found: list[Any] = json.loads(self.state.read_text())[what]
        return found

    def note(self, what: str, value: Any) -> None:
        """Let them know something."""
        state = json.loads(self.state.read_text())
        state[what] = value
        self.state.write_text(json.dumps(state))

    @property
    def calls(self) -> list[str]:
        """What was asked of the stand-ins."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def git(self, *words: str, cwd: Path | None = None) -> str:
        """Run git, in the user's checkout or elsewhere; what it prints."""
        done = subprocess.run(["git", *words], cwd=cwd or self.world.root, text=True, check=True,
                              env={**os.environ, **GIT}, capture_output=True)  # fmt: skip
        return done.stdout

    def push(self, branch: str = "main") -> None:
        """Commit all that is not ignored, and push it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        self.git("push", "--quiet", "--force", "origin", f"HEAD:{branch}")

    def clone(self, branch: str) -> Path:
        """A fresh and shallow clone."""
        self.clones += 1
        to = self.folder / f"clone-{self.clones}"
        self.git("clone", "--quiet", "--depth", "1", "--branch", branch, f"file://{self.origin}",
                 str(to), cwd=self.folder)  # fmt: skip
        # As in each checkout of the tests: what the host's tools are need not be asked again.
        (to / ".doit").mkdir()
        shutil.copy2(self.world.root / ".doit/tools.json", to / ".doit")
        return to

    def environment(self) -> dict[str, str]:
        """What a job finds: of Strata's variables only the scratch folder, which is for speed."""
        kept = {name: value for name, value in self.world.environment().items()
                if not name.startswith("STRATA_") or name == "STRATA_SCRATCH"}  # fmt: skip
        return {**kept, **GIT, "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                "CALLS": str(self.folder / "calls"), "STATE": str(self.state)}  # fmt: skip


@dataclass
class Pipeline:
    """One run of a project's pipeline, of a `branch` by an `event`; `fork`: it is one's."""

    project: Project
    event: str
    branch: str = "main"
    fork: bool = False
    run: Run = field(default_factory=Run)
