"""A repository made of locked .debs, for the apt and the bootstrap tool of a stage."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

from ..builder import Builder
from ..host import safe
from ..host.process import capture
from ..plan.lockfile import Record
from ..spec.words import counted
from ..store.cache import Cache

# ---------------------------------------------------------------- a repository of them


def local_repository(
    folder: Path,
    records: Sequence[Record],
    builder: Builder,
    *,
    suite: str = "",
    arch: str = "",
    copied: bool = False,
) -> list[Path]:
    """A repository of exactly these .debs in `folder`, flat or, for debootstrap, with dists/.

    The stanzas come from the .debs themselves, whose SHA-256 the lock vouches for. `copied` says
    that they will be copied into the tree, too. Returns the paths of the .debs; NoRoom unless
    scratch can take what they install.
    """
    log = builder.log
    pool = folder / "pool"
    pool.mkdir(parents=True)
    paths = []
    for record in records:
        version = record.version.replace(":", "%3a")
        path = pool / f"{record.package}_{version}_{record.architecture}.deb"
        source = builder.cache.deb(record.sha256)
        safe.link_or_copy(source, path)
        paths.append(path)
    # The host's apt.conf may say what it reads, and APT_CONFIG is read first.
    config = folder.with_name(f"{folder.name}.conf")
    config.write_text('Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n')
    code, packages, err = capture(
        ["apt-ftparchive", "packages", "pool"], cwd=folder, env={"APT_CONFIG": str(config)}
    )
    if code:
        raise log.failure("apt-ftparchive", f"failed (exit status {code}):\n{err.strip()}")
    sizes = re.findall(r"^Installed-Size: (\d+)$", packages, re.MULTILINE)  # KiB
    size = (sum(map(int, sizes)) << 10) + sum(record.size for record in records if copied)
    log.need_room("scratch", size, f"installing {counted(len(records), 'package')}")
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


def bytes_here(missing: Sequence[Record], cache: Cache, folder: Path) -> int:
    """Bytes of these .debs that are here: whole ones in the cache, others as they come."""
    here = 0
    for record in missing:
        names = (
            cache.deb(record.sha256),
            *(folder / f"{kind}{record.sha256}.deb" for kind in ("", "shared-")),
        )
        sizes = [name.lstat().st_size for name in names if name.exists()]
        here += min(max(sizes, default=0), record.size)
    return here
