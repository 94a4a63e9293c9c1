"""docs/ci/: what `strata ci` prints for the specs minimal and layered, with a lock of each.

`PYTHONPATH=.:tests .venv/bin/python -m support.ci_doc` writes it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import samples
from support.samples import record
from tasks.commands.ci import pipeline
from tasks.host.files import write_text
from tasks.plan import lockfile
from tasks.plan.keys import resolution_inputs
from tasks.plan.lockfile import LockedRepo
from tasks.session.session import Session

PROJECT = Path(__file__).resolve().parents[2]


DOCS = PROJECT / "docs/ci"


SPECS = ("layered", "minimal")


COMMAND = "PYTHONPATH=.:tests .venv/bin/python -m support.ci_doc"


SHARED = {"cache": "https://cache.example.org/strata"}


PAGES = {
    "github.yml": {"provider": "github"},
    "github-shared.yml": {"provider": "github", **SHARED},
    "gitlab.yml": {"provider": "gitlab"},
    "gitlab-shared.yml": {"provider": "gitlab", **SHARED},
}
"""By its file, what is given to the command."""


MIRRORS = {
    "mirror": "https://mirror.example.org/debian",
    "security_mirror": "https://mirror.example.org/debian-security",
}


@contextlib.contextmanager
def project(folder: Path) -> Iterator[None]:
    """A checkout of Strata with these specs, in which a command runs."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "doit").touch()
    shutil.copytree(PROJECT / "specs", folder / "specs", ignore=lambda _folder, names: [
        name for name in names if name.endswith(".lock")])  # fmt: skip
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in SPECS:
            lock(Session(root=folder, variables={"spec": name, **MIRRORS}))
        yield
    finally:
        os.chdir(before)


def lock(session: Session) -> None:
    """A lock as if the repositories had one package."""
    spec = session.spec
    repos = tuple(LockedRepo(name=repo.name, release="a" * 64, date="", fields={"Origin": "Debian"})
                  for repo in spec.repos)  # fmt: skip
    layers = {
        layer.name: [record(layer.name, repository=spec.repos[0].name)] for layer in spec.layers
    }
    made = samples.lock([record("base-files", repository=spec.repos[0].name)], layers, repos=repos,
                        arch=spec.arch, inputs=resolution_inputs(spec, {}))  # fmt: skip
    write_text(session.lock_path, lockfile.dump(made))


def printed(given: dict[str, str], folder: Path) -> str:
    """What the command prints in the project."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        pipeline(Session(root=folder, variables={**given, "spec": ",".join(SPECS), **MIRRORS}))
    return out.getvalue()


def pages(folder: Path) -> dict[str, str]:
    """Every page, by its file."""
    before = os.environ.get("STRATA_TRUSTED_KEYS")
    os.environ["STRATA_TRUSTED_KEYS"] = "ci:PUBLIC-KEY"
    try:
        with project(folder):
            return {name: printed(given, folder) for name, given in PAGES.items()}
    finally:
        os.environ.pop("STRATA_TRUSTED_KEYS")
        if before is not None:
            os.environ["STRATA_TRUSTED_KEYS"] = before


def main() -> None:
    """Write docs/ci/."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in pages(Path(folder) / "project").items():
            (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
