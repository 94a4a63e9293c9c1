"""What a build's metadata or the cache's records tell of packages, images and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plan import lockfile
from ..plan.changes import Package
from ..plan.difference import Image
from ..session.session import Session
from ..store.record import FOLDERS, read_record
from .metadata import metadata


def of_build(path: Path, digest: str) -> dict[str, Any] | None:
    """The NAME.yaml of the same build, or None."""
    try:
        told = metadata(path)
        made = any(told.get(one) for one in ("images", "disks", "exports"))
        return told if told["lock"] == digest and made and told["installed"] else None
    except (OSError, ValueError, LookupError):
        return None


def installed(told: Mapping[str, Any]) -> dict[str, Package] | None:
    """The packages that it tells of, None where it is damaged."""
    try:
        return {
            str(name): Package(version=str(version)) for name, version in told["installed"].items()
        }
    except (LookupError, AttributeError):
        return None


def published(told: Mapping[str, Any]) -> dict[str, Image] | None:
    """Images, files of disks and exports that it tells of, None where it is damaged."""
    try:
        return {
            str(one["mount"]): Image(
                file=str(one["container_name"]),
                size=int(one["container_size"]),
                raw=int(one["raw_size"]),
                digest=str(one["raw_sha256"]),
            )
            for one in told["images"]
        } | _above(told)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _above(told: Mapping[str, Any]) -> dict[str, Image]:
    """Files of disks and exports, by their names; a folder has no size of its own."""
    files = [file for disk in told.get("disks", ()) for file in disk["files"]]
    return {
        str(one["name"]): Image(
            file=str(one["name"]),
            size=int(one.get("size", 0)),
            raw=0,
            digest=str(one.get("sha256", one["key"])),
        )
        for one in [*files, *told.get("exports", ())]
    }


def record(session: Session, kind: str, key: str) -> dict[str, Any]:
    """A stage's record by its key; OSError or ValueError where the cache has none that is whole."""
    return read_record(session.cache.root / FOLDERS[kind] / f"{kind}-{key}.json")


def cached_images(session: Session, keys: Mapping[tuple[str, str], str]) -> dict[str, Image] | None:
    """The same of the cache's records, by kind and name of each stage; None where one is gone."""
    found = {}
    try:
        for (kind, mount), key in keys.items():
            if kind not in ("image", "file", "export"):
                continue
            kept = record(session, kind, key)
            raw, packed = kept["facts"]["raw"], kept["facts"]["packed"]
            if kind != "image":
                folder = "files" in kept["facts"]
                found[mount] = Image(
                    file=mount,
                    size=0 if folder else packed["size"],
                    raw=0,
                    digest=key if folder else packed["sha256"],
                )
                continue
            found[mount] = Image(
                file=kept["file"]["name"].partition(".")[2] or "img",
                size=packed["size"],
                raw=raw["size"],
                digest=raw["sha256"],
            )
    except (OSError, ValueError):
        return None
    return found


def cached_packages(session: Session, tree: list[tuple[str, str]]) -> dict[str, Package] | None:
    """Of the stages' records: what each was made of, and takes away."""
    found: dict[str, Package] = {}
    arch = ""
    try:
        for kind, key in tree:
            kept = record(session, kind, key)
            inputs = kept["inputs"]
            arch = str(inputs.get("arch", arch))  # the settings install nothing
            for removed in inputs.get("removes", ()):
                found.pop(lockfile.short_name(*lockfile.slot(removed, arch), arch), None)
            for package, version, architecture, sha256 in inputs.get("records", ()):
                found[lockfile.short_name(package, architecture, arch)] = Package(
                    version=version,
                    sha256=sha256,
                    layer="base" if kind == "base" else kept["name"],
                )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found
