"""Whether an entry of the cache is whole: every byte of it is read."""

from __future__ import annotations

from pathlib import Path

from ..host.files import read_sha256
from .record import read_record


def fault_of(paths: list[Path]) -> str:
    """Why the entry made of these files is not whole, or ""; reads every byte."""
    if paths[0].suffix == ".deb":
        try:
            digest = read_sha256(paths[0])
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if digest == paths[0].stem else "its SHA-256 is another"
    record = next((path for path in paths if path.suffix == ".json"), None)
    if record is None:
        return "it has no record"
    try:
        content = read_record(record)
    except OSError as error:
        return f"its record cannot be read: {error.strerror}"
    except ValueError as error:
        return f"its record is damaged: {error}"
    file = record.with_name(content["file"]["name"])
    if file not in paths:
        return "its file is missing"
    try:
        if file.lstat().st_size != content["file"]["size"]:
            return "its size is another"
        whole = read_sha256(file) == content["file"]["sha256"]
    except OSError as error:
        return f"its file cannot be read: {error.strerror}"
    return "" if whole else "its SHA-256 is another"
