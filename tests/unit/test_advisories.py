"""Known faults by version: Debian's security tracker and OSV's records, and what is neither."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import BuildError
from tasks.sbom.advisories import Release, faults

BOOKWORM = Release(codename="bookworm", ecosystem="Debian:12")

INSTALLED = {"openssl": "3.0.17-1~deb12u2", "linux": "6.1.1-1"}


def asked(path: Path, **installed: str) -> dict[str, tuple[str, str, str]]:
    found = faults(path, BOOKWORM, installed or INSTALLED, path.name)
    return {one.identifier: (one.status, one.severity, one.fixed) for one in found}


def tracked(folder: Path, **state: Any) -> dict[str, tuple[str, str, str]]:
    path = folder / "tracker.json"
    release = {"status": "open", "repositories": {}, "urgency": "not yet assigned", **state}
    fault = {"description": "d", "releases": {"bookworm": release, "sid": {"status": "open"}}}
    path.write_text(json.dumps({"absent": {"CVE-1": fault}, "openssl": {"CVE-2026-1": fault}}))
    return asked(path)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, ("open", "", "")),
        ({"urgency": "high**"}, ("open", "high", "")),
        ({"urgency": "unimportant"}, ("unimportant", "", "")),
        ({"urgency": "end-of-life"}, ("end-of-life", "", "")),
        ({"nodsa": "Minor issue", "nodsa_reason": ""}, ("no-dsa", "", "")),
        ({"status": "undetermined"}, ("undetermined", "", "")),
        ({"status": "resolved", "fixed_version": "3.0.17-1~deb12u3", "urgency": "low"},
         ("open", "low", "3.0.17-1~deb12u3")),
        ({"status": "resolved", "fixed_version": "3.0.17-1~deb12u2"}, None),
        ({"status": "resolved", "fixed_version": "3.0.17-1~"}, None),
        ({"status": "resolved", "fixed_version": "1:0"}, ("open", "", "1:0")),
        ({"status": "resolved", "fixed_version": "0"}, None),  # never was
        ({"status": "resolved"}, None),
    ],
)  # fmt: skip
def test_the_tracker_says_what_a_version_has(
    tmp_path: Path, state: dict[str, str], expected: tuple[str, str, str] | None
) -> None:
    assert tracked(tmp_path, **state) == ({"CVE-2026-1": expected} if expected else {})


def record(*events: dict[str, str], ecosystem: str = "Debian:12", **fields: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": ecosystem, "name": "openssl"},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": "DSA-1-1", "upstream": ["CVE-2026-1"], "affected": [affected], **fields}


NONE, FIXED = {"introduced": "0"}, {"fixed": "3.0.17-1~deb12u3"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(NONE), ("open", "", "")),
        (record(NONE, FIXED), ("open", "", "3.0.17-1~deb12u3")),
        (record(FIXED, NONE), ("open", "", "3.0.17-1~deb12u3")),  # in whatever order
        (record(NONE, {"fixed": "3.0.17-1~deb12u2"}), None),
        (record({"introduced": "3.0.18"}), None),
        (record({"introduced": "1:0"}), None),
        (record(NONE, {"last_affected": "3.0.17-1~deb12u2"}), ("open", "", "")),
        (record(NONE, {"last_affected": "3.0.16"}), None),
        (record(NONE, ecosystem="Debian:13"), None),
        (record(NONE, ecosystem="Debian:1"), None),
        (record(NONE, ecosystem="Debian:12:LTS"), ("open", "", "")),
        (record(NONE, withdrawn="2026-01-01T00:00:00Z"), None),
        (record(NONE, database_specific={"severity": "MODERATE"}), ("open", "medium", "")),
        (record(NONE, severity=[{"type": "Ubuntu", "score": "high"},
                                {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}]), ("open", "high", "")),
        (record(NONE, severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}]), ("open", "", "")),
    ],
)  # fmt: skip
def test_osv_says_what_a_version_has(
    tmp_path: Path, given: dict[str, Any], expected: tuple[str, str, str] | None
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(given))
    assert asked(path) == ({"CVE-2026-1": expected} if expected else {})


def test_records_come_in_a_folder_a_zip_or_a_list_and_are_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    records = [record(NONE), record(NONE, FIXED, id="DEBIAN-CVE-2026-1", upstream=[]),
               record(NONE, id="DSA-2-1", upstream=[])]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, one in enumerate(records):
            (folder / f"{number}.json").write_text(json.dumps(one))
            archive.writestr(f"{number}.json", json.dumps(one))
    (folder / "README").write_text("no record")
    (tmp_path / "list.json").write_text(json.dumps(records))
    expected = {"CVE-2026-1": ("open", "", "3.0.17-1~deb12u3"), "DSA-2-1": ("open", "", "")}
    for name in ("folder", "all.zip", "list.json"):
        assert asked(tmp_path / name) == expected


def bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", b" " * (17 << 20))
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[1]", "a record: expected a mapping"),
        (b'{"a": 1}', "a: expected a mapping"),
        (b'{"a": {"CVE-1": {"description": ""}}}', "has no a, CVE-1: releases"),
        (b"{}", "has no release 'bookworm'"),
        (b'{"openssl": {"\\u001b[31m": {"releases": {"bookworm": {"status": "open"}}}}}', "a fault"),
        (b'{"openssl": {"C": {"releases": {"bookworm": {"status": "?"}}}}}', "status is malformed"),
        (b'{"openssl": {"C": {"releases": {"bookworm": {"status": "open", "fixed_version": "$(x)"}}}}}',
         "a version is malformed"),
        (b'{"id": "A", "id": "B", "affected": []}', "stands twice"),
        (bomb(), "a.json is too large"),
        (bomb()[:-30], "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_neither_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        asked(path)
    message = str(caught.value)
    assert message.startswith("file: ")
    assert told in message, message
    assert "\x1b" not in message


def test_a_file_that_is_not_there_or_none_is_told(tmp_path: Path) -> None:
    for name in ("gone", "/dev/zero"):
        with pytest.raises(BuildError, match="cannot be read"):
            asked(tmp_path / name)
    with pytest.raises(BuildError, match="no records of Debian:12"):
        asked(tmp_path)
