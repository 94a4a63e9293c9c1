"""What a pipeline is written from: facts of a project and its specs, by whatever they are found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Facts of a project: all that either provider's text depends on.

    `checkout`: Strata's own wrapper is there, else pip installs what a setting names. `settings`
    are variables for every job, a comment above each. `keyrings` are Debian packages that a job
    which asks repositories needs, or every job (`keyrings_always`). `remote` is the shared cache,
    "" for the CI system's own.
    """

    written: str
    spec: str
    specs: tuple[str, ...]
    unlocked: tuple[str, ...]
    checkout: bool
    settings: Mapping[str, tuple[str, str]]
    keyrings: tuple[str, ...]
    keyrings_always: bool
    distribution: str
    whole_history: bool
    levels: int
    images: int
    remote: str

    @property
    def program(self) -> str:
        """The command of a job."""
        return "./doit" if self.checkout else ".doit/venv/bin/strata"

    def common(self) -> dict[str, str]:
        """What the texts of both providers name alike."""
        shown = ", ".join(self.specs)
        no_lock = [
            "#",
            f"# NO LOCK YET of {', '.join(self.unlocked)}: run",
            f"#   {self.written.split()[0]} lock {self.word}",
            "# and commit specs/*.lock; until then, the first job ends by saying so.",
        ]
        env = [
            line
            for name, (comment, value) in self.settings.items()
            for line in (*([f"# {comment}"] if comment else []), f"{name}: {json.dumps(value)}")
        ]
        return {
            "specs": shown if len(shown) < 60 else f"{len(self.specs)} specs",
            "written": self.written,
            "unlocked": "\n".join(no_lock) if self.unlocked else "",
            "env": "\n".join(f"  {line}" for line in env),
            "spec": self.word,
        }

    @property
    def word(self) -> str:
        """`spec=` as a shell takes it."""
        return shlex.quote(f"spec={self.spec}")
