"""What a command line asks for: a spec of a project, its lock, and the words that go with them.

Nothing here needs a cache, root or a network, and nothing is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..host import safe, strict
from ..plan import lockfile
from ..spec.compose import Given
from ..spec.load import SCHEMA, find_spec, is_spec, load_spec
from ..spec.model import Spec, masked
from .variables import LOCK_MODES

if TYPE_CHECKING:
    pass


@dataclass(kw_only=True)
class Asked:
    """A spec and its lock, as the name=value words of the command line want them."""

    root: Path
    variables: Mapping[str, str]
    lock_digest: str = ""
    """Of the lock's text as it was read last, for the plan: others may write a new one."""

    # ------------------------------------------------------------ where things are

    @property
    def specs(self) -> Path:
        """Folder of the specs and their locks."""
        return self.root / "specs"

    @property
    def state(self) -> Path:
        """Folder of what this checkout remembers; nothing is lost with it."""
        return self.root / ".doit"

    @property
    def out(self) -> Path:
        """Folder of the spec's results."""
        return self.root / "out" / self.name

    @property
    def name(self) -> str:
        """The spec's name, with its variant's; "" when none is given."""
        name = self.variables.get("spec", "")
        return f"{name}-{self.variant}" if name and self.variant else name

    @property
    def given(self) -> Given:
        """What the command line says of the spec: `variant=`, `var.NAME=`."""
        values = {
            word.removeprefix("var."): value
            for word, value in self.variables.items()
            if word.startswith("var.")
        }
        return Given(variant=self.variant, variables=values)

    @property
    def variant(self) -> str:
        """The spec's variant that is wanted, "" for none."""
        return self.variables.get("variant", "")

    @cached_property
    def spec(self) -> Spec:
        """The spec; BuildError when none or a bad one is named."""
        name = self.variables.get("spec", "")
        path = find_spec(self.specs.relative_to(self.root), name)
        if self.variant and is_spec(self.specs, self.name):
            raise BuildError(
                f"{path}: variant={self.variant}: {self.name} is a spec of its own",
                "rename one of the two: both would be out/" + self.name,
            )
        return load_spec(
            path,
            name=name,
            given=self.given,
            schema=self.schema,
            validated=self.state / "validated",
        )

    @property
    def schema(self) -> Path:
        """What specs are read by: in Strata's checkout its own file, relative as the user knows it.

        In a project of one's own, specs/ has a copy for editors, which may be an older version's.
        """
        checkout = __name__.partition(".")[0] == "tasks"
        return self.specs / SCHEMA.name if checkout else SCHEMA

    # ------------------------------------------------------------ spec and lock

    @property
    def lock_path(self) -> Path:
        """specs/NAME.lock, relative as the user knows it."""
        return self.specs.relative_to(self.root) / f"{self.spec.name}.lock"

    @cached_property
    def mirrors(self) -> dict[str, str]:
        """What ${mirror} and its kin stand for."""
        from ..plan.repositories import MIRRORS, find_mirrors

        given = {name: self.variables.get(name) for name in MIRRORS}
        return find_mirrors(given, self.spec if self.name else None)

    @property
    def _named(self) -> dict[str, str]:
        """Who named what ${mirror} and its kin stand for, but for the host itself."""
        from ..plan.repositories import MIRRORS

        found = {}
        for name in MIRRORS:
            if self.variables.get(name):
                found[name] = f"{name}="
            elif os.environ.get(f"STRATA_{name.upper()}"):
                found[name] = f"STRATA_{name.upper()}"
        return found

    @property
    def lock_mode(self) -> str:
        """latest, keep or frozen."""
        mode = self.variables.get("lock", "latest")
        if mode not in LOCK_MODES:
            raise BuildError(f"lock={mode}: expected one of {', '.join(LOCK_MODES)}")
        return mode

    def read_lock(self) -> lockfile.Lock | None:
        """The lock as it is, or None; BuildError for one that is broken."""
        text = self.lock_text()
        if text is None:
            return None
        self.lock_digest = lockfile.digest(text)
        return lockfile.parse(text, where=str(self.lock_path))

    def lock_text(self) -> str | None:
        """The lock's text, None if there is none; BuildError for what is no file of text."""
        try:
            return safe.read_bytes(self.lock_path, strict.LIST_LIMIT).decode("utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise BuildError(
                f"{self.lock_path}: cannot be read: {reason}",
                "put the lock itself there, or remove what is there",
            ) from error
        except ValueError as error:
            raise BuildError(
                f"{self.lock_path}: cannot be read: {error}", lockfile.RESTORE
            ) from error

    def mask(self, text: str) -> str:
        """text without the spec's secrets."""
        return masked(text, self.spec.secrets)

    def mask_if_known(self, text: str) -> str:
        """The same, also when the spec itself is what could not be read."""
        try:
            return self.mask(text)
        except BuildError:
            return masked(text)

    def shown(self, path: Path) -> str:
        """A path as a user knows it: relative if it is in the checkout."""
        return str(path.relative_to(self.root) if self.root in path.parents else path)

    def command(self, name: str) -> str:
        """A command for this very spec, as it could be typed but for values of `var.NAME=`."""
        words = [f"{one}={self.variables[one]}" for one in ("spec", "variant")
                 if self.variables.get(one)]  # fmt: skip
        hidden = [f"{one}=…" for one in self.variables if one.startswith("var.")]
        return " ".join(["strata", name, *words, *hidden])
