"""A real, signed Debian repository for a test to change while it is served.

    make_deb, real_debs --> Repository.add, .remove --> .publish (SigningKey) --> Server --> apt

What the host configures for apt or gpg has no part in it; only real_debs, whose packages fill it, needs the network.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import formatdate
from pathlib import Path
from types import EllipsisType
from urllib.parse import urlsplit

from support.commands import run, write_whole
from support.debs import _read_stanzas
from support.signing import SigningKey, session_key


class Repository:
    """One suite with one component in `root`; what is in the pool is what gets published.

    Attributes may be set between two publishes (`key=None`: unsigned). `flat` puts the index files
    into `root` itself, and the suite is then "./". Repositories of several suites may share a root.
    """

    def __init__(
        self,
        root: Path,
        *,
        suite: str = "stable",
        codename: str = "teststable",
        component: str = "main",
        origin: str = "Strata Test",
        label: str = "Strata Test",
        version: str = "1",
        arch: str = "amd64",
        flat: bool = False,
        key: SigningKey | EllipsisType | None = ...,  # ...: session_key()
        valid_until: datetime | None = None,
        inrelease: bool = True,
        by_hash: bool = False,
    ) -> None:
        self.by_hash = by_hash
        self.root = root.absolute()
        self.suite = "./" if flat else suite
        self.codename, self.component, self.arch, self.flat = codename, component, arch, flat
        self.origin, self.label, self.version = origin, label, version
        self.key = session_key() if isinstance(key, EllipsisType) else key
        self.valid_until, self.inrelease = valid_until, inrelease
        self.changelogs = ""  # the Release's field
        self.dist = self.root if flat else self.root / "dists" / suite
        self.pool = self.root / "pool" / ("" if flat else f"{suite}/{component}")
        self.pool.mkdir(parents=True, exist_ok=True)

    @property
    def keyring(self) -> Path:
        """The public half of `key`; another key has another file."""
        if self.key is None:
            raise ValueError(f"{self.root}: an unsigned repository has no keyring")
        path = self.root / f"{self.key.fingerprint}.gpg"
        if not path.exists():
            self.key.export(path)
        return path

    def source(self, url: str, *options: str) -> str:
        """Return the one-line entry of sources.list for a server of `root` at `url`."""
        signed = [f"signed-by={self.keyring}"] if self.key else []
        bracket = f"[{' '.join([*signed, *options])}] " if signed or options else ""
        return f"deb {bracket}{url} {self.suite} {'' if self.flat else self.component}".rstrip()

    def add(self, *debs: Path) -> None:
        """Hard-link .debs into the pool under the names a pool gives them (no epoch, no %3a).

        Never write into a file of the pool, it is the caller's as well: a Fault changes bytes.
        """
        for deb, stanza in _read_stanzas(debs):
            name = f"{stanza.package}_{stanza.version.split(':', 1)[-1]}_{stanza.arch}.deb"
            temporary = self.pool / f".{name}.new"
            temporary.unlink(missing_ok=True)  # left by a crash
            try:
                os.link(deb, temporary)
            except OSError:  # another file system, or fs.protected_hardlinks
                shutil.copy2(deb, temporary)
            temporary.replace(self.pool / name)
            temporary.unlink(missing_ok=True)  # rename(2) of two links to one file does nothing

    def remove(self, package: str, version: str | None = None) -> None:
        """Delete a package from the pool at once; LookupError if there is none such."""
        found = [
            deb
            for deb, stanza in _read_stanzas(self._debs())
            if stanza.package == package and version in (None, stanza.version)
        ]
        if not found:
            raise LookupError(f"{self.pool}: no package {package} {version or ''}")
        for deb in found:
            deb.unlink()

    def publish(self) -> None:
        """Write Packages, then Release and its signatures, each whole and at least 10 s newer."""
        stamp = self._next_stamp()
        folder = "" if self.flat else f"{self.component}/binary-{self.arch}/"
        packages = self._packages().encode()
        indexes = {
            f"{folder}Packages": packages,
            f"{folder}Packages.gz": gzip.compress(packages, 1, mtime=0),
            f"{folder}Packages.xz": lzma.compress(packages, preset=0),
        }
        release = self._release(stamp, indexes).encode()
        (self.dist / folder).mkdir(parents=True, exist_ok=True)
        for path, data in indexes.items():
            write_whole(self.dist / path, data, stamp)
            if self.by_hash:
                named = (self.dist / path).parent / "by-hash/SHA256"
                named.mkdir(parents=True, exist_ok=True)
                write_whole(named / hashlib.sha256(data).hexdigest(), data, stamp)
        inline, detached = self.key.sign(release) if self.key else (None, None)
        files = {
            "Release.gpg": detached,
            "Release": release,
            "InRelease": inline if self.inrelease else None,
        }
        for name, content in files.items():
            if content is None:
                (self.dist / name).unlink(missing_ok=True)
            else:
                write_whole(self.dist / name, content, stamp)
        alias = self.root / "dists" / self.codename
        if not self.flat and not alias.exists():
            alias.symlink_to(os.path.relpath(self.dist, alias.parent))

    def _debs(self) -> list[Path]:
        return sorted(self.pool.rglob("[!.]*.deb"))

    def _next_stamp(self) -> int:
        # HTTP dates count seconds, publishes may not wait for one. They start a day ago because
        # apt refuses a Release whose Date is to come, as well as one older than it has.
        with suppress(FileNotFoundError):
            return int((self.dist / "Release").stat().st_mtime) + 10
        return int(time.time()) - 86_400

    def _packages(self) -> str:
        dot = "./" if self.flat else ""
        return "\n".join(
            f"{stanza.text}Filename: {dot}{deb.relative_to(self.root)}\n"
            for deb, stanza in _read_stanzas(self._debs())
            if stanza.arch in ("all", self.arch)
        )

    def _release(self, stamp: int, indexes: Mapping[str, bytes]) -> str:
        until = self.valid_until and _release_date(self.valid_until.timestamp())
        fields = {
            "Origin": self.origin,
            "Label": self.label,
            "Suite": None if self.flat else self.suite,
            "Version": self.version,
            "Codename": None if self.flat else self.codename,
            "Date": _release_date(stamp),
            "Valid-Until": until,
            "Acquire-By-Hash": "yes" if self.by_hash else None,
            "Architectures": self.arch,
            "Changelogs": self.changelogs,
            "Components": None if self.flat else self.component,
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if value]
        sums = [
            f" {hashlib.sha256(data).hexdigest()} {len(data):8} {path}"
            for path, data in indexes.items()
        ]
        return "\n".join([*lines, "SHA256:", *sums, ""])


def _release_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True).replace("GMT", "UTC")


def apt_environment(folder: Path, *sources: str, arch: str = "amd64") -> dict[str, str]:
    """Return the environment of an apt that knows only `folder` and these sources.list lines."""
    state = ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial")
    for path in (*state, "var/log/apt"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path in ("apt.conf", "preferences", "sources.list", "trusted.gpg"):
        (folder / "etc/apt" / f"{path}.d").mkdir(exist_ok=True)
    (folder / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
    (folder / "status").touch()
    config = {
        "Dir": folder.absolute(),
        "Dir::State::status": folder.absolute() / "status",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::http::Proxy::127.0.0.1": "DIRECT",
        "Debug::NoLocking": "true",
    }
    (folder / "private.conf").write_text("".join(f'{k} "{v}";\n' for k, v in config.items()))
    return {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(folder / "private.conf")}


def host_mirror() -> str:
    """Return STRATA_MIRROR, or the Debian archive that this host installs from."""
    if mirror := os.environ.get("STRATA_MIRROR"):
        return mirror
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.[ls]*"))]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    entry = r"^(?:URIs:|deb(?:[ \t]+\[[^\]]*\])?)[ \t]+(https?://\S+/debian)/?(?=\s|$)"
    found: list[str] = re.findall(entry, text, re.MULTILINE)
    if not found:
        raise RuntimeError(f"{etc}: no http source ends in /debian; set STRATA_MIRROR")
    # A vendor's archive may end in /debian as well, below some other folder.
    return min(found, key=lambda url: urlsplit(url).path != "/debian")


def real_debs(
    cache: Path, names: Sequence[str], *, suite: str = "bookworm", arch: str = "amd64"
) -> list[Path]:
    """Return the .debs of `names` (packages, or patterns as ?essential) and all they depend on.

    `cache` keeps them, and a list of each closure: the network is needed once. Do not change them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    closure = hashlib.sha256("\0".join([arch, *sorted(names)]).encode()).hexdigest()[:16]
    marker, debs = cache / f"{suite}-{closure}", cache / "debs"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
            source = f"deb [signed-by={keyring}] {host_mirror()} {suite} main"
            env = apt_environment(cache / f"apt-{suite}-{arch}", source, arch=arch)
            (debs / "partial").mkdir(parents=True, exist_ok=True)
            run(["apt-get", "update", "--error-on=any"], env=env)
            install = ["apt-get", "install", "--yes", *names]
            # into the empty archives, to see also what is in the cache already
            uris = run([*install, "--print-uris"], env=env).decode()
            found = re.findall(r"^'[^']+' (\S+\.deb) ", uris, re.MULTILINE)
            run([*install, "--download-only", "-o", f"Dir::Cache::archives={debs}"], env=env)
            write_whole(marker, "".join(f"{name}\n" for name in sorted(found)).encode())
    return [debs / name for name in marker.read_text().split()]
