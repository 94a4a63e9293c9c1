"""Bundles of files: what is in one, what is published of it, and those that are damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import disks
from support.entries import DIGESTS
from support.export_cases import case
from tasks.builder import Builder
from tasks.errors import DamagedEntry
from tasks.formats import bundle
from tasks.host import strict
from tasks.plan.plan import make_plan
from tasks.plan.stage import Plan, Product, Stage
from tasks.stages import items

# ---------------------------------------------------------------- bundles


FILES: dict[str, bytes | Path] = {"index.json": b"{}", "blobs/sha256/ab": b"x" * 3000, "empty": b""}


def test_a_bundle_holds_its_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"of a file" * 1000)
    files = {**FILES, "vmlinuz": tmp_path / "from"}
    found = bundle.write(tmp_path / "one", files)
    again = bundle.write(tmp_path / "two", dict(reversed(files.items())))
    assert found == again
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    listed = bundle.listed(json.loads(json.dumps(found)))
    for name, (sha256, size) in listed.items():
        with (tmp_path / "one").open("rb") as file:
            content = bundle.reader(file, name).read()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, size)
    assert listed.keys() == files.keys()
    with tarfile.open(tmp_path / "one") as tar:
        assert {(one.mtime, one.uid, one.uname, one.mode) for one in tar} == {(0, 0, "", 0o644)}


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"../x": ["0" * 64, 1]}, "no plain name: '../x'"),
        ({"/etc/passwd": ["0" * 64, 1]}, "no plain name"),
        ({"a/../b": ["0" * 64, 1]}, "no plain name"),
        ({"a//b": ["0" * 64, 1]}, "no plain name"),
        ({".hidden": ["0" * 64, 1]}, "no plain name"),
        ({"a\nb": ["0" * 64, 1]}, "no plain name"),
        ({"": ["0" * 64, 1]}, "no plain name"),
        ({"a/b/c/d/e/f": ["0" * 64, 1]}, "no plain name"),
        ({"a" * 101: ["0" * 64, 1]}, "no plain name"),
        ({"a": ["0" * 63, 1]}, "sha256 is malformed"),
        ({"a": ["0" * 64, -1]}, "size is malformed"),
        ({"a": ["0" * 64, True]}, "size is malformed"),
        ({"a": ["0" * 64]}, "expected a digest and a size"),
        ({"a": "0" * 64}, "expected a list"),
        ({"a": ["0" * 64, 1], "a/b": ["0" * 64, 1]}, "as a file and as a folder"),
        ([], "expected a mapping"),
        (None, "expected a mapping"),
    ],
)
def test_what_no_bundle_lists(files: Any, part: str) -> None:
    with pytest.raises(strict.Damaged, match=r"^its file") as caught:
        bundle.listed(files)
    assert part in str(caught.value)


def hostile(kind: bytes, name: str = "index.json") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    return raw.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar" * 1000, bytes(10240), hostile(tarfile.SYMTYPE), hostile(tarfile.LNKTYPE),
     hostile(tarfile.DIRTYPE), hostile(tarfile.CHRTYPE), hostile(tarfile.REGTYPE, "../index.json"),
     hostile(tarfile.REGTYPE, "/index.json")],
)  # fmt: skip
def test_a_bundle_without_the_file(content: bytes) -> None:
    with pytest.raises(strict.Damaged, match=r"^the bundle "):
        bundle.reader(io.BytesIO(content), "index.json")


@pytest.mark.parametrize("at", range(0, 512, 37))
def test_a_bundles_first_header_has_a_sum(tmp_path: Path, at: int) -> None:
    bundle.write(tmp_path / "one", FILES)
    content = bytearray((tmp_path / "one").read_bytes())
    for bit in (1, 64, 128):
        content[at] ^= bit
        for name in FILES:
            with pytest.raises(strict.Damaged):
                bundle.reader(io.BytesIO(bytes(content)), name)
        content[at] ^= bit


# ---------------------------------------------------------------- what is published of them


def published_bundle(tmp_path: Path, files: Any = ...) -> tuple[Builder, Plan, Stage]:
    """A cache that has the bundle of an export, with these facts of it."""
    builder = disks.builder(tmp_path / "build")
    spec, lock, host = case(tmp_path / "spec", {"net": {"format": "squashfs"}})
    plan = make_plan(spec, lock, host)
    (stage,) = [one for one in plan.stages if one.kind == "export"]
    facts: dict[str, Any] = {"raw": DIGESTS, "packed": DIGESTS}
    with builder.cache.put(stage, facts) as target:
        facts["files"] = bundle.write(target, FILES)
        facts["files"] = facts["files"] if files is ... else files
    product = Product(name="net", stage=stage, folder=True)
    return builder, replace(plan, products=(product,), tops=(stage,)), stage


def test_each_file_of_a_bundle_is_published_by_its_path(tmp_path: Path) -> None:
    builder, plan, _stage = published_bundle(tmp_path)
    found = list(items.items(plan, items.entries(plan, builder.cache)))
    assert [one.path for one in found] == ["net/blobs/sha256/ab", "net/empty", "net/index.json"]
    for one in found:
        items.copy(one, tmp_path / "copy", builder.cache, lambda _text: None)
        assert (tmp_path / "copy").read_bytes() == FILES[one.member]


@pytest.mark.parametrize("files", [{"../../x": ["0" * 64, 1]}, None, [], {"a": 1}])
def test_a_record_with_hostile_files_is_dropped(tmp_path: Path, files: Any) -> None:
    builder, plan, stage = published_bundle(tmp_path, files)
    with pytest.raises(DamagedEntry, match=rf"{stage.entry}\.json: .*; it is dropped"):
        items.entries(plan, builder.cache)
    assert builder.cache.get(stage) is None


def copied(found: Sequence[items.Item], to: Path, builder: Builder) -> None:
    for one in found:
        items.copy(one, to, builder.cache, lambda _text: None)


@pytest.mark.parametrize("at", [0, 600, 1100, -1])
def test_a_damaged_bundle_is_dropped_when_it_is_copied(tmp_path: Path, at: int) -> None:
    builder, plan, stage = published_bundle(tmp_path)
    found = list(items.items(plan, items.entries(plan, builder.cache)))
    path = builder.cache.file(stage)
    content = bytearray(path.read_bytes())
    content = content[:600] if at < 0 else content
    for byte in range(at, min(at + 200, len(content))) if at >= 0 else ():
        content[byte] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DamagedEntry, match="it is dropped"):
        copied(found, tmp_path / "copy", builder)
    assert builder.cache.get(stage) is None
