"""The .debs that a stage needs: fetched in parallel by apt, checked, and made a repository of."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from tasks import apt, host
from tasks.cache import Cache
from tasks.errors import BuildError
from tasks.lockfile import Record
from tasks.spec import Spec, masked


def fetch(
    records: Sequence[Record], cache: Cache, uris: Mapping[str, str], spec: Spec,
    scratch: Path, log: host.Log,
) -> None:  # fmt: skip
    """Bring the .debs of these records into the cache; `uris` gives each repository's address.

    Raises BuildError that names the packages which no repository has any more.
    """
    wanted = {record.sha256: record for record in records}
    for sha256 in list(wanted):
        path = cache.deb(sha256)
        # A .deb is used as it is by dpkg, which checks nothing: read it, unless it was before.
        if path.exists():
            if cache.memory.sha256(path) == sha256:
                del wanted[sha256]
            else:
                path.unlink()
    if not wanted:
        return
    cache.debs.mkdir(parents=True, exist_ok=True)
    with host.locked(cache.debs / ".lock", waiting=log.step):
        missing = [record for record in wanted.values() if not cache.deb(record.sha256).exists()]
        total = sum(record.size for record in missing)
        if not missing:
            return
        free = host.free_bytes(cache.debs)
        if free < total:
            raise BuildError(
                f"{cache.debs}: {total >> 20} MiB of packages are to be fetched, "
                f"{free >> 20} MiB are free",
                "free some room (doit prune), or set STRATA_CACHE to a larger filesystem",
            )
        log.step(f"fetching {len(missing)} packages, {total / 1e6:.1f} MB")
        _download(missing, cache, uris, spec, scratch, log)


def _download(
    missing: Sequence[Record], cache: Cache, uris: Mapping[str, str], spec: Spec,
    scratch: Path, log: host.Log,
) -> None:  # fmt: skip
    folder = scratch / "download"
    folder.mkdir(exist_ok=True)
    config = folder / "apt.conf"
    config.write_text(
        apt.configuration(str(folder), arch=spec.arch, proxies=spec.proxies, direct=spec.direct),
        encoding="utf-8",
    )
    config.chmod(0o600)
    auth = folder / "auth.conf"
    auth.touch(mode=0o600)
    auth.write_text(apt.auth_conf(uris.values()), encoding="utf-8")
    # Not in the cache itself: a killed build's scratch goes as a whole.
    came = {record.sha256: folder / f"{record.sha256}.deb" for record in missing}
    fetched: list[Record] = []
    remote: list[str] = []
    failure = ""
    for record in missing:
        uri = f"{apt.without_user(uris[record.repository])}/{quote(record.path, safe='/+~:')}"
        if uri.startswith("file:"):
            # Not joined as a Path: a path that begins with `/` must stay below the repository.
            source = f"{uris[record.repository][5:].replace('//', '/', 1)}/{record.path}"
            try:
                shutil.copyfile(source, came[record.sha256])
            except OSError as error:
                failure = f"{source}: {error.strerror}"
        else:
            remote += [uri, str(came[record.sha256]), f"SHA256:{record.sha256}"]
    if remote:
        host.tool("apt-helper")
        try:
            _apt_helper(remote, folder, config, log)
        except BuildError as error:
            lines = error.message.splitlines()
            failure = next((line.strip() for line in lines if "E: " in line), error.message)
    for record in missing:
        path = came[record.sha256]
        # apt has checked it; a copy from a file: repository nobody has.
        whole = path.exists() and path.stat().st_size == record.size
        if whole and cache.take_deb(path, record.sha256):
            fetched.append(record)
        path.unlink(missing_ok=True)
    host.sync_folder(cache.debs)
    lost = [record for record in missing if record not in fetched]
    if lost:
        raise _lost(lost, uris, failure)


def _apt_helper(arguments: Sequence[str], folder: Path, config: Path, log: host.Log) -> None:
    host.run(
        ["apt-helper", "download-file", *arguments],
        log=log, env={"APT_CONFIG": str(config)}, cwd=folder, what="fetching packages", quiet=True,
    )  # fmt: skip


def _lost(lost: Sequence[Record], uris: Mapping[str, str], failure: str) -> BuildError:
    names = ", ".join(f"{record.package} {record.version}" for record in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    first = lost[0]
    hint = "otherwise check that it answers"
    if not failure or re.search("Hash Sum mismatch|unexpected size", failure):
        failure = f"what came is not what is locked {failure and f'({failure})'}".rstrip()
        hint = "otherwise use another mirror"
    return BuildError(
        f"cannot fetch {names}{more} from repository {first.repository} "
        f"({masked(uris[first.repository])}):\n    {masked(failure)}",
        f"if the repository has changed since it was locked, build with lock=latest; {hint}",
    )


# ---------------------------------------------------------------- a repository of them


def local_repository(
    folder: Path, records: Sequence[Record], cache: Cache, *, suite: str = "", arch: str = ""
) -> list[Path]:
    """A repository of exactly these .debs in `folder`, flat or, for debootstrap, with dists/.

    The stanzas come from the .debs themselves, whose SHA-256 the lock vouches for. Returns the
    paths of the .debs.
    """
    pool = folder / "pool"
    pool.mkdir(parents=True)
    paths = []
    for record in records:
        version = record.version.replace(":", "%3a")
        path = pool / f"{record.package}_{version}_{record.architecture}.deb"
        source = cache.deb(record.sha256)
        try:
            os.link(source, path)
        except OSError:
            # Another filesystem, or one without hard links.
            shutil.copyfile(source, path)
        paths.append(path)
    code, packages, err = host.capture(["apt-ftparchive", "packages", "pool"], cwd=folder)
    if code:
        raise BuildError(f"apt-ftparchive failed (exit status {code}):\n{err.strip()}")
    if suite:
        binary = f"main/binary-{arch}"
        _indexes(
            folder / "dists" / suite,
            binary + "/",
            packages,
            f"""\
Suite: {suite}
Codename: {suite}
Architectures: {arch}
Components: main
""",
        )
    else:
        _indexes(folder, "", packages, "")
    return paths


def _indexes(folder: Path, below: str, packages: str, fields: str) -> None:
    """Packages, plain and for debootstrap in gzip, and a Release that names both."""
    (folder / below).mkdir(parents=True, exist_ok=True)
    content = packages.encode()
    sums = ""
    for name, data in (("Packages", content), ("Packages.gz", gzip.compress(content, 1, mtime=0))):
        (folder / below / name).write_bytes(data)
        sums += f" {hashlib.sha256(data).hexdigest()} {len(data)} {below}{name}\n"
    text = f"{fields}Date: {formatdate(0, usegmt=True)}\nSHA256:\n{sums}"
    (folder / "Release").write_text(text)
