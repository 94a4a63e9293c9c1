"""An apt of its own that knows what a test gives it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tasks.debian import apt


@dataclass
class Private:
    """A real apt in a directory of its own: repositories are list files at their sites."""

    folder: Path
    pins: str = ""

    def __post_init__(self) -> None:
        for name in ("lists/partial", "cache", "trusted.gpg.d"):
            (self.folder / name).mkdir(parents=True)
        for name in ("status", "apt.sources", "auth.conf"):
            (self.folder / name).touch()

    def repository(self, release: str, packages: str = "", *, suite: str = "stable") -> None:
        """One more repository, at the next site."""
        sources = self.folder / "apt.sources"
        number = sources.read_text().count("Types:")
        stanza = apt.source(apt.site(number), suite, ["main"], trusted=True)
        sources.write_text(f"{sources.read_text()}\n{stanza}")
        lists = self.folder / "lists"
        prefix = f"{apt.list_name(apt.site(number))}_dists_{suite}"
        (lists / f"{prefix}_InRelease").write_text(release)
        (lists / f"{prefix}_main_binary-amd64_Packages").write_text(packages)

    def run(self, *argv: str, code: int = 0, **options: str) -> str:
        """What an apt command prints."""
        (self.folder / "preferences").write_text(self.pins)
        config = self.folder / "apt.conf"
        config.write_text(apt.configuration(str(self.folder), arch="amd64", foreign=["i386"],
                                            options=options))  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False,
                              env={**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8",
                                   "http_proxy": "http://host-proxy.invalid:1"})  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def priorities(self) -> dict[int, int]:
        """Each site's pin priority, as apt sees it."""
        policy = self.run("apt-cache", "policy")
        lines = re.findall(r"^ *(-?\d+) http://(\d+)\.strata\.invalid", policy, re.MULTILINE)
        return {int(number): int(priority) for priority, number in lines}
