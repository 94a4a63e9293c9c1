"""An apt of its own for each repository: it knows no other, and no setting of the host's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..builder import Builder
from ..debian import apt
from ..host.files import sha256_of
from ..host.patience import timeout
from ..plan.keys import key
from ..plan.repositories import keyring_files, keys_of
from ..spec.model import Repo, Spec

VERIFY = Path(__file__).parent / "scripts/verify-release.sh"
"""What checks a signature in apt-key's place."""


@dataclass(frozen=True, kw_only=True)
class PrivateApt:
    """What asks one repository, by the keys that may sign it; `folder` is its own in scratch."""

    spec: Spec
    builder: Builder
    repo: Repo
    keeping: bool = False
    """With lock=keep, which asks only because the spec has changed."""

    @property
    def uri(self) -> str:
        """The repository's address, with user and password."""
        return self.builder.reach.uris[self.repo.name]

    @property
    def where(self) -> str:
        """The repository as a message names it."""
        return f"{self.spec.path}: repos.{self.repo.name}"

    @property
    def arches(self) -> list[str]:
        """The architectures whose packages it looks for, the image's own first."""
        return [self.spec.arch, *self.spec.foreign]

    @cached_property
    def keyrings(self) -> list[Path]:
        """Files of the keys that may sign the repository."""
        return keyring_files(self.repo, self.spec)

    @cached_property
    def live_id(self) -> str:
        """Names apt's own state for it: another address, keyring or rule starts anew."""
        repo = self.repo
        return key(
            [
                apt.without_user(self.uri),
                repo.suite,
                repo.section,
                self.arches,
                [sha256_of(path) for path in self.keyrings],
                repo.trusted,
                repo.check_valid_until,
            ]
        )[:16]

    @property
    def folder(self) -> Path:
        """Its configuration, in scratch."""
        return self.builder.scratch / f"repo-{self.live_id}-{self.repo.name}"

    @property
    def trusted(self) -> Path:
        """The folder of its keyrings, as apt reads them."""
        return self.folder / "trusted.gpg.d"

    @property
    def live(self) -> Path:
        """Its lists in the cache, which it brings up to date."""
        return self.builder.cache.index / f"live-{self.live_id}"

    @property
    def lock(self) -> Path:
        """Held by who changes its lists."""
        return self.builder.cache.index / f".{self.live_id}.lock"

    @property
    def env(self) -> dict[str, str]:
        """apt is ended by SIGKILL: what it has for gpgv must not be left in /tmp."""
        return {"APT_CONFIG": str(self.folder / "apt.conf"), "TMPDIR": str(self.folder)}

    def configure(self, lists: Path) -> None:
        """Write its configuration and keys; `lists` is where it keeps what it fetches."""
        spec, repo = self.spec, self.repo
        for path in (self.trusted, self.folder / "cache"):
            path.mkdir(parents=True, exist_ok=True)
        for number, keyring in enumerate(self.keyrings):
            (self.trusted / f"{number}.gpg").write_bytes(keys_of(keyring, repo, spec))
        (self.folder / "status").touch()
        source = apt.source(
            apt.source_uri(self.uri), repo.suite, repo.components, trusted=repo.trusted
        )
        configuration = apt.configuration(
            str(self.folder),
            arch=spec.arch,
            foreign=spec.foreign,
            lists=str(lists),
            proxies=spec.proxies,
            direct=spec.direct,
            timeout=timeout(),
            options={
                "Acquire::Check-Valid-Until": "true" if repo.check_valid_until else "false",
                # A Release may have SHA-512 alone; what is weaker than SHA-256 apt does not take.
                "Acquire::ForceHash": "",
                # Nobody resolves from here: the cache would take longer than all the rest.
                "pkgCacheFile::Generate": "false",
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
                "Acquire::AllowInsecureRepositories": "false",
                "Acquire::AllowDowngradeToInsecureRepositories": "false",
                # One `Origin` or `Suite` for another is what a change of the spec's lock shows.
                "Acquire::AllowReleaseInfoChange": "true",
                # Where it cannot be run, as in a folder that is mounted noexec, apt's own does it.
                **({"Dir::Bin::apt-key": str(VERIFY)} if os.access(VERIFY, os.X_OK) else {}),
            },
        )
        for name, text in (
            ("apt.sources", source),
            ("auth.conf", apt.auth_conf([self.uri])),
            ("apt.conf", configuration),
        ):
            private_text(self.folder / name, text)


def private_text(path: Path, text: str) -> None:
    """Write what may hold a password: nobody else can read it at any moment."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
