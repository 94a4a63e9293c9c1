"""`strata ci`: print a pipeline for a CI system, from the specs and what locks there are."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..ci import github, gitlab
from ..ci.pipeline import Pipeline
from ..debian.distributions import DEBIAN, UBUNTU
from ..errors import BuildError
from ..host import safe
from ..plan import fstab
from ..plan.repositories import ARCHIVES, MIRRORS, distribution, lacking
from ..session.session import Session
from ..spec.model import masked
from .keys import each_spec, locked

RUNS_ON = {"github": UBUNTU, "gitlab": ""}
"""Of which distribution a job's machine is; a container is of the one that it is to build."""


def pipeline(session: Session) -> None:
    """Print it. BuildError for what only a user can say: a mirror, whence pip installs Strata."""
    provider = session.variables.get("provider", "")
    if provider not in RUNS_ON:
        raise BuildError(
            f"ci: provider={provider}: expected github or gitlab", "add provider=github"
        )
    facts = _facts(session, provider)
    text = github.workflow(facts) if provider == "github" else gitlab.pipeline(facts)
    session.screen.line(text.rstrip("\n"))


def _facts(session: Session, provider: str) -> Pipeline:
    every = each_spec(session)
    if not every:
        raise BuildError("ci: no spec here", "strata init makes one")
    checkout = (session.root / "doit").is_file() and (session.root / "tasks").is_dir()
    whose = {distribution(one.spec, name) for one in every for name in MIRRORS[:2]} - {""}
    if len(whose) > 1:
        raise BuildError(
            f"ci: these specs are of {' and '.join(sorted(whose))}: no ${{mirror}} is of both",
            "write the address into the uri of those of one, or a pipeline for each: spec=A,B",
        )
    remote = session.variables.get("cache") or os.environ.get("STRATA_REMOTE", "")
    here = next(iter(whose), DEBIAN)
    runs_on = RUNS_ON[provider] or here
    spec = session.variables.get("spec") or "all"
    given = {name: value for name, value in session.variables.items() if name != "spec"}
    # An address given here is in the file already, and a command's words are in its comment.
    words = [f"{name}={value}" for name, value in given.items() if name in ("provider", "cache")]
    program = "./doit" if checkout else "strata"
    return Pipeline(
        written=shlex.join([program, "ci", *words, f"spec={spec}"]),
        spec=spec,
        specs=tuple(one.name for one in every),
        unlocked=tuple(one.name for one in every if not locked(one)),
        checkout=checkout,
        settings={
            **_mirrors(every),
            **({} if checkout else _requirement()),
            **(_shared(remote) if remote else {}),
        },
        keyrings=_keyrings(every, runs_on),
        # What is locked is known by its SHA-256; but an image's sources name keyrings.
        keyrings_always=any(one.spec.settings.apt_sources for one in every),
        distribution=here,
        whole_history=any(one.spec.settings.version == "git" for one in every),
        levels=max(map(_levels, every)),
        images=max(len(one.spec.images) for one in every),
        remote=remote,
    )


def _levels(session: Session) -> int:
    """How many trees a spec has, one on the other; without a lock, how many it may have."""
    if locked(session):
        return len(session.plan.tree)
    spec = session.spec
    files = {one.name: [[file.target] for file in one.files] for one in spec.layers}
    return 1 + len(spec.layers) + bool(spec.settings or fstab.wanted(spec, files))


def _mirrors(every: Sequence[Session]) -> dict[str, tuple[str, str]]:
    """What the specs' ${mirror} and its kin stand for: as given, or what it is on this host.

    In the file itself, since a fork's pull request gets no variable of the project's.
    """
    found: dict[str, tuple[str, str]] = {}
    for one in every:
        for fault in lacking(one.spec, one.mirrors):
            raise fault
        for name in MIRRORS:
            value = one.mirrors.get(name, "")
            used = any(f"${{{name}}}" in repo.uri for repo in one.spec.repos)
            # That of snapshots serves what a mirror has dropped, of any spec.
            if not value or not (used or name == "snapshot_mirror"):
                continue
            if masked(value) != value:
                raise BuildError(
                    f"ci: {name}={masked(value)}: a password would be in a committed file",
                    f"name a mirror that needs none: {name}=ADDRESS",
                )
            if value.startswith("file:"):
                raise BuildError(
                    f"ci: {name}={value}: a CI system's machines have no such folder",
                    f"add {name}=ADDRESS, or set STRATA_{name.upper()}",
                )
            comment = "Where packages come from. Here, where forks get it too." if not found else ""
            found.setdefault(f"STRATA_{name.upper()}", (comment, value))
    return found


def _requirement() -> dict[str, tuple[str, str]]:
    given = os.environ.get("STRATA_REQUIREMENT", "")
    if not given:
        raise BuildError(
            "ci: nothing says from where pip is to install Strata on a CI system's machines",
            "set STRATA_REQUIREMENT to what `pip install` takes: a wheel's address, or "
            "strata @ git+https://HOST/strata@TAG (another project has the bare name)",
        )
    return {"STRATA_REQUIREMENT": ("What pip installs: pin it, since it runs as root.", given)}


def _shared(remote: str) -> dict[str, tuple[str, str]]:
    trusted = os.environ.get("STRATA_TRUSTED_KEYS", "")
    if os.path.isfile(trusted):
        trusted = safe.read_bytes(Path(os.path.abspath(trusted)), 1 << 16).decode(
            "utf-8", "replace"
        )
    lines = [line for line in trusted.splitlines() if not line.startswith("#")]
    keys = " ".join(lines).split()
    if not keys or not all(re.fullmatch(r"[\w.-]+:\S+", key) for key in keys):
        raise BuildError(
            "ci: whose entries of the shared cache are to be believed?",
            "set STRATA_TRUSTED_KEYS to the public lines that `strata keygen name=ci` prints",
        )
    if masked(remote) != remote:
        raise BuildError(
            f"ci: cache={masked(remote)}: a password would be in a committed file",
            "leave it out: the CI system's secrets are the place for it",
        )
    return {
        "STRATA_REMOTE": ("The shared cache, and whose entries in it are believed.", remote),
        "STRATA_TRUSTED_KEYS": ("", " ".join(keys)),
    }


def _keyrings(every: Sequence[Session], runs_on: str) -> tuple[str, ...]:
    """Packages with the keyrings that such a machine lacks, of repositories that name none."""
    packages = {name: ARCHIVES[name][0] for name in (DEBIAN, UBUNTU)}
    found = set()
    for one in every:
        whose = distribution(one.spec, "mirror") or distribution(one.spec, "security_mirror")
        if whose and whose != runs_on and any(not repo.keyring for repo in one.spec.repos):
            found.add(packages[whose])
    return tuple(sorted(found))
