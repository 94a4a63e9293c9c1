"""A local mirror for the benchmark: the real indexes with a signature of its own, the .debs needed.

    FOLDER/debian/dists/{bookworm,bookworm-updates}   FOLDER/security/dists/bookworm-security
    FOLDER/merged/dists/bookworm                      all three in one, for mkosi
    FOLDER/*/pool/…                                   what some spec of the benchmark locks
    FOLDER/bench.gpg                                  the key that signs

The indexes have their full size, so that reading them costs what it costs elsewhere; `move` changes
a package that nobody installs, as most publications do.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from pathlib import Path

from support.signing import SigningKey
from tasks.plan.repositories import find_mirrors

SUITES = {"debian": "bookworm", "updates": "bookworm-updates", "security": "bookworm-security"}
"""Suite of each repository in specs/server.yaml, by the repository's name."""

FOLDERS = {"debian": "debian", "updates": "debian", "security": "security"}


class Mirror:
    """The mirror in `folder`; `publish` signs it anew each time that the benchmark begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey("Strata Bench")
        self.moves = 0

    @property
    def keyring(self) -> Path:
        """The public key."""
        return self.folder / "bench.gpg"

    def fill(self, project: Path, locks: Iterable[Path]) -> None:
        """Take the indexes from a cache of Strata's, and .debs of these locks from the host's mirror."""
        wanted: dict[Path, tuple[str, str]] = {}
        given = find_mirrors({})
        sources = {"debian": given["mirror"], "updates": given["mirror"],
                   "security": given["security_mirror"]}  # fmt: skip
        for path in locks:
            lock = json.loads(path.read_text())
            records = [
                *lock["base"],
                *(one for layer in lock["layers"] for one in layer["records"]),
            ]
            for record in records:
                name = record["repository"]
                target = self.folder / FOLDERS[name] / record["path"]
                if not target.exists():
                    wanted[target] = (f"{sources[name]}/{record['path']}", record["sha256"])
        arguments = []
        for target, (uri, digest) in wanted.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            arguments += [uri, str(target), f"SHA256:{digest}"]
        if arguments:
            print(f"mirror: fetching {len(wanted)} packages", flush=True)
            subprocess.run(["/usr/lib/apt/apt-helper", "download-file", *arguments], check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        for target, (_uri, digest) in wanted.items():
            assert hashlib.sha256(target.read_bytes()).hexdigest() == digest, target
        for name, suite in SUITES.items():
            pattern = f"cache/index/snapshot-*/dists_{suite}_main_binary-amd64_Packages"
            found = max(project.glob(pattern), key=os.path.getmtime)
            dist = self.folder / FOLDERS[name] / "dists" / suite
            dist.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, dist / "Packages.all")
            shutil.copy(found.with_name(f"dists_{suite}_InRelease"), dist / "Release.real")

    def publish(self) -> None:
        """Sign all suites; what was moved before is as it was."""
        self.key.export(self.keyring)
        texts = {}
        for name, suite in SUITES.items():
            dist = self.folder / FOLDERS[name] / "dists" / suite
            texts[name] = (dist / "Packages.all").read_text()
            fields = _fields((dist / "Release.real").read_text())
            self._write(dist, texts[name], fields)
        merged = self.folder / "merged"
        for name in ("debian", "security"):
            (merged / name).parent.mkdir(parents=True, exist_ok=True)
            if not (merged / name).exists():
                (merged / name).symlink_to(f"../{name}")
        stanzas: dict[str, str] = {}
        for name, text in texts.items():
            for stanza in text.strip().split("\n\n"):
                package = stanza[9 : stanza.index("\n")]
                moved = stanza.replace("\nFilename: ", f"\nFilename: {FOLDERS[name]}/", 1)
                if package not in stanzas or self._better(moved, stanzas[package]):
                    stanzas[package] = moved
        self._write(merged / "dists/bookworm", "\n\n".join(stanzas.values()) + "\n",
                    {"Origin": "Debian", "Label": "Debian", "Suite": "oldstable",
                     "Codename": "bookworm", "Version": "12"})  # fmt: skip

    def _better(self, stanza: str, other: str) -> bool:
        """Whether of two versions this is the one to show: it is here, and newer if both are."""
        fields = [_fields(text) for text in (stanza, other)]
        here = [(self.folder / one["Filename"]).exists() for one in fields]
        if all(here):
            argv = ["dpkg", "--compare-versions", fields[0]["Version"], "gt", fields[1]["Version"]]
            return subprocess.run(argv, check=False).returncode == 0
        return here[0]

    def move(self) -> None:
        """Publish a newer version of a package that nobody installs."""
        self.moves += 1
        dist = self.folder / "debian/dists/bookworm"
        text = (dist / "Packages.all").read_text()
        moved, count = re.subn(
            r"(?<=^Package: 0ad-data\n)((?:.+\n)*?Version: \S+)", rf"\g<1>+b{self.moves}", text,
            count=1, flags=re.MULTILINE,
        )  # fmt: skip
        assert count == 1
        self._write(dist, moved, _fields((dist / "Release.real").read_text()))

    def _write(self, dist: Path, packages: str, fields: Mapping[str, str]) -> None:
        binary = dist / "main/binary-amd64"
        binary.mkdir(parents=True, exist_ok=True)
        digests = []
        raw = packages.encode()
        # Not last: debootstrap does not see the last line of an InRelease, which has no newline.
        for name, data in (("Packages.xz", lzma.compress(raw, preset=1)), ("Packages", raw)):
            digest = hashlib.sha256(data).hexdigest()
            digests.append(f" {digest} {len(data):8} main/binary-amd64/{name}")
            if name.endswith("xz"):
                (binary / name).write_bytes(data)
        # HTTP dates count seconds, and apt refuses a Release of the future.
        stamp = int(time.time()) - 86400 + 10 * self.moves
        lines = [f"{name}: {fields[name]}"
                 for name in ("Origin", "Label", "Suite", "Version", "Codename") if name in fields]  # fmt: skip
        date = formatdate(stamp, usegmt=True).replace("GMT", "UTC")
        lines += [f"Date: {date}", "Architectures: amd64", "Components: main", "SHA256:", *digests]
        release = "\n".join([*lines, ""]).encode()
        inline, detached = self.key.sign(release)
        for name, data in (("Release", release), ("InRelease", inline), ("Release.gpg", detached)):
            (dist / name).write_bytes(data)
            os.utime(dist / name, (stamp, stamp))


def _fields(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Za-z-]+): (.+)$", text, re.MULTILINE))
