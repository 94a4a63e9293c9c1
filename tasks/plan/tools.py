"""Versions of the host's tools, as they are in keys."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import firmware, strict
from ..host.files import remove, sha256_of, write_text
from ..host.process import capture
from ..host.tools import DISK_TOOLS, EMULATORS, TOOLS, tool
from .keys import checksum
from .stage import ABSENT

MODULES = {"zlib-ng": "zlib_ng", "isal": "isal"}
"""Tools that are Python packages, by the module's name."""


VERSION_ARGUMENT = {
    "mke2fs": "-V", "mkfs.xfs": "-V", "mkfs.vfat": "--help", "mksquashfs": "-version",
}  # fmt: skip

LIBRARIES = {
    "xz": ("liblzma5",), "mksquashfs": ("libzstd1",), "mkfs.erofs": ("liblz4-1",),
    # Of a qcow2's clusters, and of a vmdk's grains.
    "qemu-img": ("libzstd1", "zlib1g"),
}  # fmt: skip
"""Packages that do a tool's work and may be of another version than its own."""


DPKG_STATUS = Path("/var/lib/dpkg/status")


def tool_versions(names: list[str], memory: Path, spare: Collection[str] = ()) -> dict[str, str]:
    """Each tool's version with Debian's revision, or with a digest where it is no package's.

    Asked only when the command's file or dpkg's status has changed since the last time. BuildError
    for one that the host lacks, unless it is a `spare` one: that is ABSENT.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = strict.read(memory)
    asked: dict[str, str] = {}
    changed = False
    installed = _mark(DPKG_STATUS) if DPKG_STATUS.exists() else ""
    for name in names:
        try:
            path = _file_of(name)
        except BuildError:
            if name not in spare:
                raise
            asked[name] = ABSENT
            continue
        mark = _mark(Path(path)) + ("" if name in MODULES else installed)
        entry = known.get(name)
        # With a digest: a version that rotted would give all stages other keys, and other UUIDs.
        if (
            not isinstance(entry, list)
            or len(entry) != 3
            or entry[0] != mark
            or entry[2] != checksum(entry[:2])
        ):
            entry = [mark, _ask_version(name, path)]
            known[name] = entry = [*entry, checksum(entry)]
            changed = True
        asked[name] = str(entry[1])
    if changed:
        # Who may only read this checkout asks each time, and so does who has no room there.
        with contextlib.suppress(OSError):
            if memory.is_dir():
                remove(memory)
            write_text(memory, json.dumps(known, indent=1, sort_keys=True))
    return asked


def _mark(path: Path) -> str:
    info = path.stat()
    return f"{path} {info.st_size} {info.st_mtime_ns} {info.st_ino} "


def _file_of(name: str) -> str:
    """What is looked at of a tool: its command, or of a module or a firmware a file."""
    if name in MODULES:
        return _module_file(MODULES[name])
    return str(firmware.file_of(name)) if name in firmware.PACKAGES else tool(name)


def _module_file(name: str) -> str:
    import importlib.util

    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise BuildError(f"the Python package {name} is missing", "run ./doit, or pip install .")
    return found.origin


def _ask_version(name: str, path: str) -> str:
    # The library inside decides the bytes, whichever version the Python package has.
    if name == "zlib-ng":
        from zlib_ng import zlib_ng

        return str(zlib_ng.ZLIBNG_RUNTIME_VERSION)
    if name == "isal":
        import isal

        return str(isal.ISAL_VERSION)
    found = _packaged({**EMULATORS, **DISK_TOOLS, **TOOLS}.get(name, name), path)
    if not found and name in firmware.PACKAGES:
        return f"sha256:{sha256_of(Path(path))[:16]}"
    if not found:
        status, out, err = capture([name, VERSION_ARGUMENT.get(name, "--version")])
        match = re.search(r"\d+\.[\w.+~-]+", out + err)
        if match is None:
            raise BuildError(f"{name} does not tell its version (exit status {status})")
        found = f"{match[0]} sha256:{sha256_of(Path(path))[:16]}"
    for package in LIBRARIES.get(name, ()):
        library = _dpkg("--show", "--showformat", "${Version}\n", package)
        found += f", {package} {library[0]}" if library else ""
    return found


def _packaged(package: str, path: str) -> str:
    """The version of a Debian package if it is installed and has this file, else ""."""
    # Before /usr was merged with /, packages shipped /sbin/mke2fs, and old ones still do.
    names = {path, path.removeprefix("/usr")}
    # Two questions: for ${db-fsys:Files} in one dpkg-query reads the files of all packages, which
    # takes ten times as long as both.
    if not names & set(_dpkg("--listfiles", package)):
        return ""
    return next(iter(_dpkg("--show", "--showformat", "${Version}\n", package)), "")


def _dpkg(*words: str) -> list[str]:
    """What dpkg-query(1) prints; nothing where there is none, or no such package."""
    try:
        tool("dpkg-query")
    except BuildError:
        return []
    status, out, _ = capture(["dpkg-query", *words]) if words[-1] else (1, "", "")
    return out.splitlines() if status == 0 else []
