"""A checkout of its own for each test, and what is asked of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import forks
from support.debs import make_deb
from support.file_server import Server
from support.repository import Repository
from tasks.plan.tools import tool_versions

PROJECT = Path(__file__).resolve().parents[2]


SPEC = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: apt}
fstab: false
packages: [alpha]
layers:
  - name: app
    packages: [beta]
    files: {/etc/motd: files/motd}
    script: scripts/app.sh
images:
  /: {file: web.img.gz, format: ext4}
  /boot: {file: web-boot.img.gz, format: ext2}
"""


TINY = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: extract, include: [baseline, beta]}
images:
  /: {file: web.img.gz, format: ext2}
"""
"""A spec whose base is two packages, only unpacked: it builds within a second."""


def says(text: str, *parts: str) -> None:
    """Each part stands in the text, in this order, whatever breaks its lines."""
    rest = re.sub(r"\s+", " ", text)
    for part in parts:
        assert part in rest, f"{part!r} is not in, or not in its place in:\n{text}"
        rest = rest.partition(part)[2]


@dataclass
class Build:
    """What one run of doit printed and returned."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything it said."""
        return self.out + self.err


@dataclass
class World:
    """One checkout with its own specs, cache and out, beside a repository that it can change."""

    root: Path
    repository: Repository
    server: Server
    debs: Path
    env: dict[str, str] = field(default_factory=dict)

    def doit(self, *words: str, check: bool = True, **env: str) -> Build:
        """Run doit in the checkout; with `check`, a failure of it is one of the test."""
        environment = self.environment(**env)
        if forks.fits(self.root, {**self.env, **env}):
            build = Build(*forks.run(words, self.root, environment))
        else:
            done = subprocess.run(
                [sys.executable, "-m", "doit", *words], cwd=self.root, text=True, check=False,
                capture_output=True, env=environment, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            build = Build(done.returncode, done.stdout, done.stderr)
        if check:
            assert build.code == 0, build.text
        return build

    def refused(self, *parts: str, words: Sequence[str] = (), **env: str) -> str:
        """What a build says that fails: one clear message with these parts; nothing is changed."""
        before = self.kept()
        build = self.doit("build", "spec=web", *words, check=False, **env)
        assert build.code != 0, build.text
        assert "Traceback" not in build.text, build.text
        assert build.err.count("ERROR: ") == 1, build.text
        says(build.text, *parts)
        assert self.kept() == before
        assert self.leftovers() == []
        return build.text

    def kept(self) -> dict[str, bytes]:
        """What a failed run may not change: locks, and out/ but for its logs."""
        files = [*self.root.glob("specs/*.lock"), *self.root.glob("out/*/*")]
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    def leftovers(self) -> list[Path]:
        """What no run may leave: temporary or partial files, half an entry, mounts."""
        scratch = Path(self.env.get("STRATA_SCRATCH", self.root / ".doit/scratch"))
        found = [path for pattern in ("specs/.*", "out/**/.*", "cache/**/*.tmp", "cache/**/.new-*",
                                      "cache/**/*.part", "cache/**/*.FAILED", ".doit/*.tmp",
                                      ".doit/*-journal")
                 for path in self.root.glob(pattern)]  # fmt: skip
        found += scratch.glob("strata-*/build-*")
        for path in self.root.glob("cache/*/*-*.*"):
            if path.suffix != ".json" and path.parent.name in ("layers", "images"):
                record = path.with_name(path.name.partition(".")[0] + ".json")
                found += [] if record.exists() else [path]
        mounts = Path("/proc/self/mounts").read_text()
        found += [Path(scratch)] if f"{scratch}/" in mounts else []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                found += [backing] if backing.read_text().startswith(f"{scratch}/") else []
        return found

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a run: none of the host's mirror settings."""
        keep = {name: value for name, value in os.environ.items()
                if not name.startswith(("STRATA_", "SOURCE_DATE"))}  # fmt: skip
        return {**keep, "PYTHONDONTWRITEBYTECODE": "1", "STRATA_MIRROR": self.server.url,
                "STRATA_RETRIES": "0",
                **self.env, **more}  # fmt: skip

    def build(self, *words: str, spec: str = "web", **env: str) -> dict[str, str]:
        """`doit build`; each stage's result by its name (base, packages, app, /, /boot)."""
        self.doit("build", f"spec={spec}", *words, check=True, **env)
        return self.results(spec)

    def json(self, spec: str = "web") -> dict[str, Any]:
        """build.json."""
        found: dict[str, Any] = json.loads((self.root / f"out/{spec}/build.json").read_text())
        return found

    def results(self, spec: str = "web") -> dict[str, str]:
        """Each stage's result in the last build."""
        return {stage["name"]: stage["result"] for stage in self.json(spec)["stages"]}

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file below specs/."""
        path = self.root / "specs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def edit(self, old: str, new: str, name: str = "web.yaml") -> None:
        """Replace a part of a spec that is there just once."""
        path = self.root / "specs" / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))

    def add(self, *debs: Path) -> None:
        """Put .debs into the repository and publish it."""
        self.repository.add(*debs)
        self.repository.publish()

    def deb(self, name: str, version: str = "1", **options: Any) -> Path:
        """A small real package that ships /usr/share/NAME/version."""
        options.setdefault("files", {f"/usr/share/{name}/version": f"{version}\n"})
        return make_deb(self.debs, name, version, **options)

    def outputs(self, spec: str = "web") -> dict[str, str]:
        """SHA-256 of each image in out/."""
        folder = self.root / "out" / spec
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob("*.img*"))
        }

    def clone(self, to: Path, *, cache: str = "") -> World:
        """A fresh checkout elsewhere: specs and locks, and of cache/ only what matches `cache`."""
        checkout(to, self.root / "specs")
        for path in sorted((self.root / "cache").glob(cache)) if cache else ():
            target = to / "cache" / path.relative_to(self.root / "cache")
            if path.is_dir():
                shutil.copytree(path, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        return World(to, self.repository, self.server, self.debs, self.env)


def checkout(root: Path, specs: Path | None) -> None:
    """A clean copy of what git has, with other specs."""
    root.mkdir(parents=True)
    for name in ("dodo.py", "tasks"):
        (root / name).symlink_to(PROJECT / name)
    if specs is not None:
        shutil.copytree(specs, root / "specs")
    else:
        (root / "specs").mkdir()
    shutil.copy(PROJECT / "specs/spec.schema.json", root / "specs/spec.schema.json")
    # What a checkout remembers of the host's tools, for as long as they are the same files.
    (root / ".doit").mkdir()
    (root / ".doit/tools.json").write_text(_tools())


def stocked(
    root: Path, repository: Repository, server: Server, debs: Path, env: Mapping[str, str],
    spec: str = SPEC,
) -> World:  # fmt: skip
    """A checkout with one spec, `web`, and all that SPEC names; nothing is built."""
    checkout(root, None)
    world = World(root, repository, server, debs, dict(env))
    world.write("web.yaml", spec)
    world.write("files/motd", "hello\n")
    script = "#!/bin/sh\nset -eu\nmkdir -p /boot\necho k > /boot/kernel\n"
    world.write("scripts/app.sh", script, 0o755)
    world.write("keys/test.gpg", "").write_bytes(repository.keyring.read_bytes())
    return world


@contextlib.contextmanager
def shipped_specs(folder: Path, env: Mapping[str, str], *names: str) -> Iterator[World]:
    """A checkout with these of what specs/ ships; ${mirror} is the host's own."""
    root = folder / "checkout"
    checkout(root, None)
    for name in names:
        source = PROJECT / "specs" / name
        if source.is_dir():
            shutil.copytree(source, root / "specs" / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, root / "specs" / name)
    with Server(folder) as server:
        yield World(root, Repository(folder / "unused"), server, folder,
                    {**env, "STRATA_MIRROR": ""})  # fmt: skip


@functools.cache
def _tools() -> str:
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder, "tools.json")
        tool_versions(["apt-get", "mmdebstrap", "mke2fs", "isal", "zstd"], memory)
        return memory.read_text()


def populate(repository: Repository, debs: Path, closure: list[Path]) -> None:
    """The repository as each test finds it: real base packages and some small ones."""
    own = [
        make_deb(debs, name, "1", files={f"/usr/share/{name}/version": "1\n"}, **options)
        for name, options in (
            ("baseline", {"priority": "required", "essential": True}),
            ("alpha", {}), ("beta", {"depends": "gamma"}), ("gamma", {}), ("delta", {}),
            ("epsilon", {}),
        )
    ]  # fmt: skip
    repository.add(*closure, *own)
    repository.publish()


@contextlib.contextmanager
def tiny_world(folder: Path, env: Mapping[str, str]) -> Iterator[World]:
    """A checkout with the spec TINY, and nothing built, beside a repository of its two packages."""
    debs = folder / "debs"
    repository = Repository(folder / "repository")
    repository.add(*(make_deb(debs, name, files={f"/usr/{name}": "1\n"})
                     for name in ("baseline", "beta")))  # fmt: skip
    repository.publish()
    with Server(repository.root) as server:
        checkout(folder / "checkout", None)
        world = World(folder / "checkout", repository, server, debs, dict(env))
        world.env |= {"STRATA_TIMEOUT": "1"}
        world.write("web.yaml", TINY)
        world.write("keys/test.gpg", "")
        shutil.copy(repository.keyring, world.root / "specs/keys/test.gpg")
        yield world
