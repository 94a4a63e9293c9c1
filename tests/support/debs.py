""".debs that are made as a test wants them, and what an index says of them."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.commands import run

MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


def make_deb(
    folder: Path,
    name: str,
    version: str = "1",
    *,
    arch: str = "all",
    depends: str = "",
    conflicts: str = "",
    priority: str = "optional",
    essential: bool = False,
    files: Mapping[str, str | bytes] = {},
    scripts: Mapping[str, str] = {},
    extra: Mapping[str, str] = {},
    mtime: int = 1_700_000_000,
) -> Path:
    """Build `folder`/name_version_arch.deb, the same bytes from the same arguments.

    `files` maps a path in the rootfs to its content: mode 0755 if that starts with "#!", else 0644.
    `scripts` maps a member of the control archive (postinst, conffiles, triggers, ...) to its text;
    a maintainer script without "#!" becomes a `set -e` shell script. `extra` adds or replaces
    fields of the control file. `mtime` is that of every member, in seconds since 1970.
    """
    control = {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": "Strata Test <test@example.invalid>",
        "Priority": priority,
        "Section": "misc",
        **({"Essential": "yes"} if essential else {}),
        **({"Depends": depends} if depends else {}),
        **({"Conflicts": conflicts} if conflicts else {}),
        "Description": f"test package {name}",
        **extra,
    }
    members: dict[str, str | bytes] = {path.lstrip("/"): content for path, content in files.items()}
    members["DEBIAN/control"] = "".join(f"{key}: {value}\n" for key, value in control.items())
    for script, text in scripts.items():
        plain = script not in MAINTAINER_SCRIPTS or text.startswith("#!")
        members[f"DEBIAN/{script}"] = text if plain else f"#!/bin/sh\nset -e\n{text}\n"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}_{version.split(':', 1)[-1]}_{arch}.deb"
    # The same one in each test's repository is built once by each process.
    made = _made() / hashlib.sha256(repr((sorted(members.items()), mtime)).encode()).hexdigest()
    if not made.exists():
        _build_deb(made, members, mtime)
    try:
        target.unlink(missing_ok=True)
        os.link(made, target)
    except OSError:  # another file system, or fs.protected_hardlinks
        shutil.copy2(made, target)
    return target


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="debs-", dir=tempfile.gettempdir()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _build_deb(target: Path, members: Mapping[str, str | bytes], mtime: int) -> None:
    with tempfile.TemporaryDirectory(prefix=".deb-", dir=target.parent) as temporary:
        tree, built = Path(temporary, "tree"), Path(temporary, "built.deb")
        for path, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        for item in (tree, *tree.rglob("*")):  # the umask has no say in the bytes
            executable = item.is_dir() or item.read_bytes().startswith(b"#!")
            item.chmod(0o755 if executable else 0o644)
        run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, built],
            env={"SOURCE_DATE_EPOCH": str(mtime)},
        )
        built.replace(target)


@dataclass(frozen=True, kw_only=True)
class _Stanza:
    package: str
    version: str
    arch: str
    text: str  # without Filename


# Of every .deb seen in this process. Hard links share the key: a new Repository of known .debs
# hashes nothing.
_stanzas: dict[tuple[int, int, int, int], _Stanza] = {}


def _stanza(deb: Path) -> _Stanza:
    stat = deb.stat()
    key = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _stanzas:
        control = run(["dpkg-deb", "--field", deb]).decode().rstrip("\n")
        fields = dict(
            re.findall(r"^(Package|Version|Architecture):\s*(\S+)", control, re.MULTILINE)
        )
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        _stanzas[key] = _Stanza(
            package=fields["Package"],
            version=fields["Version"],
            arch=fields["Architecture"],
            text=f"{control}\nSize: {stat.st_size}\nSHA256: {sha256}\n",
        )
    return _stanzas[key]


def _read_stanzas(debs: Sequence[Path]) -> list[tuple[Path, _Stanza]]:
    with ThreadPoolExecutor() as pool:
        return list(zip(debs, pool.map(_stanza, debs), strict=True))
