"""Who share a cache: a checkout that has built and signed, and clones of it that take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.world import Build, World


@dataclass
class Team:
    """A checkout that has built and shared, with its key, and clones of it that take."""

    first: World
    share: Path
    key: Path
    line: str
    folder: Path

    @property
    def url(self) -> str:
        """The shared folder's address."""
        return f"file://{self.share}"

    def clone(self, name: str) -> World:
        """A fresh checkout with the same specs and locks, and nothing else."""
        return self.first.clone(self.folder / name)

    def run(self, world: World, *words: str, trust: str | None = None, **env: str) -> Build:
        """A command of a machine that believes the team's key, or whom `trust` names."""
        keys = {"STRATA_TRUSTED_KEYS": self.line if trust is None else trust}
        return world.doit(*words, f"cache={self.url}", check=False, **keys, **env)

    def build(self, world: World, *words: str, trust: str | None = None, **env: str) -> Build:
        """`build` with the lock as it is."""
        done = self.run(world, "build", "spec=web", "lock=frozen", *words, trust=trust, **env)
        assert done.code == 0, done.text
        return done

    def records(self) -> list[Path]:
        """The shared records of stages."""
        return [path for path in sorted((self.share / "ac").iterdir())
                if "stage" in json.loads(path.read_text())]  # fmt: skip

    def edit(self, change: Callable[[dict[str, Any]], Any], *, sign: bool = False) -> None:
        """Change each shared record, and sign it anew as whoever has the team's key could."""
        from tasks.remote.signing import secret_key

        for path in self.records():
            record = json.loads(path.read_text())
            change(record)
            if sign:
                record["signatures"] = {"ci": secret_key(self.key).sign(record)}
            path.write_text(json.dumps(record))


def make_key(world: World, name: str, folder: Path) -> tuple[Path, str]:
    """A key outside of the checkout, and its public line."""
    line = world.doit("keygen", f"name={name}").out.strip()
    key = folder / f"{name}.key"
    shutil.move(world.root / f"{name}.key", key)
    return key, line
