"""A cache entry's record: its form, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..host import strict
from ..host.files import OWN_TEMPORARY
from ..plan.keys import checksum
from ..spec.model import LAST_EPOCH

FORMAT = 2

ABOVE = ("image", "filesystem", "verity", "esp", "bios", "file", "blob", "export", "test")
"""Kinds of stages above the tree that the cache keeps."""

FOLDERS = {"base": "layers", "layer": "layers", **dict.fromkeys(ABOVE, "images")}

LARGEST = 1 << 46
"""Bytes of a file, or of the files of a tree: four times the largest filesystem of an image."""


DOUBTFUL = "any"
"""`trust` of a record that came with nobody's signature who is believed here (cache_trust=any)."""

TEMPORARY_NAME = OWN_TEMPORARY.pattern

ENTRY = "[0-9a-f]{32}"
"""A key in the name of an entry."""

SUFFIXES = ("img", "verity", "qcow2", "vhd", "vmdk", "bmap", "tar", "squashfs", "erofs", "cpio")
"""Of files of stages above the tree, before a container's."""

MADE_OF = "made_of"
"""The fact of what has a digest of others in it: by their entries' names what they are, SHA-256."""

OWN = {
    "layers": re.compile(rf"(base|layer)-{ENTRY}\.(json|tar\.zst)"),
    "images": re.compile(
        rf"({'|'.join(ABOVE)})-{ENTRY}\.(json|{'|'.join(SUFFIXES)})(\.gz|\.zst|\.xz)?"
    ),
    "debs": re.compile(r"[0-9a-f]{64}\.deb"),
    "locks": re.compile(rf"prune|({'|'.join(FOLDERS)})-{ENTRY}"),
    "index": re.compile(
        r"(live|\.new)-[0-9a-f]{16}|snapshot-[0-9a-f]{16}-[0-9a-f]{32}|\.[0-9a-f]{16}\.lock"
    ),
}
"""The names, in full, of what Strata puts into the folders of its cache; no other is removed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A record and its file: `size` in bytes, `facts` what the stage found out while it ran."""

    path: Path
    sha256: str
    size: int
    facts: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)
    """All that is written of it."""

    @property
    def doubtful(self) -> bool:
        """It came with nobody's signature who is believed here, or was built on what did."""
        return "trust" in self.record


def read_record(path: Path) -> dict[str, Any]:
    """A record, whole and of the form that `put` writes; Damaged (a ValueError) or OSError."""
    record = strict.read(path, paths=True)
    if path.name != f"{checked(record)}.json":
        raise strict.Damaged("it is another entry's")
    if strict.text(record, "sum", strict.SHA256) != record_sum(record):
        raise strict.Damaged("it was changed since it was written")
    return record


def checked(record: dict[str, Any]) -> str:
    """The name of a record's entry, when all is there and of its form; else Damaged."""
    if record.get("format") != FORMAT or type(record["format"]) is not int:
        raise strict.Damaged(f"its format is not {FORMAT}")
    stage = strict.text(record, "stage", "|".join(FOLDERS))
    strict.text(record, "name")
    entry = f"{stage}-{strict.text(record, 'key', strict.KEY)}"
    file = strict.mapping(strict.field(record, "file"), "its file")
    name = strict.text(file, "name", OWN[FOLDERS[stage]].pattern, what="file's ")
    if name.partition(".")[0] != entry or name == f"{entry}.json":
        raise strict.Damaged(f"its file's name is another entry's: {name!r}")
    strict.text(file, "sha256", strict.SHA256, what="file's ")
    strict.number(file, "size", LARGEST, "file's ")
    inputs = strict.mapping(strict.field(record, "inputs"), "its inputs")
    facts = strict.mapping(strict.field(record, "facts"), "its facts")
    _check_facts(stage, facts)
    if inputs.get("bmap") is True:
        strict.text(facts, "bmap", r"[\n -~]+", what="facts' ")
    for signer, signature in strict.mapping(record.get("signatures", {}), "its signatures").items():
        if not isinstance(signature, str):
            raise strict.Damaged(f"its signature of {signer[:80]!r} is malformed")
    if record.get("trust", DOUBTFUL) != DOUBTFUL:
        raise strict.Damaged(f"its trust is malformed: {str(record['trust'])[:80]!r}")
    return entry


def _check_facts(stage: str, facts: dict[str, Any]) -> None:
    """Damaged unless all is there that a later stage or `out/` takes from a record of this kind."""
    # Entries of older versions lack what has a default here.
    if type(facts.get("private", False)) is not bool:
        raise strict.Damaged(f"its facts' private is malformed: {str(facts['private'])[:80]!r}")
    for gone in strict.items(facts.get("removed", []), "its facts' removed"):
        kinds = [type(one) for one in strict.items(gone, "of its facts' removed")]
        if kinds not in ([str, int], [str, str, int]):
            raise strict.Damaged(f"its facts' removed is malformed: {str(gone)[:80]!r}")
    for notice in strict.items(facts.get("drawn", []), "its facts' drawn"):
        strict.mapping(notice, "of its facts' drawn")
    if stage in ("base", "layer"):
        strict.number(facts, "epoch", LAST_EPOCH, "facts' ")
        for name in ("installed", "size"):
            if name in facts:
                strict.number(facts, name, LARGEST, "facts' ")
        for path in strict.items(facts.get("own", []), "its facts' own"):
            if not isinstance(path, str):
                raise strict.Damaged(f"its facts' own is malformed: {str(path)[:80]!r}")
        return
    if stage in ("image", "filesystem"):
        strict.text(facts, "uuid", what="facts' ")
    if stage == "verity":
        strict.text(facts, "root_hash", strict.SHA256, what="facts' ")
    for name in strict.mapping(facts.get(MADE_OF, {}), f"its facts' {MADE_OF}"):
        if not re.fullmatch(f"({'|'.join(FOLDERS)})-{ENTRY}", name):
            raise strict.Damaged(f"its facts' {MADE_OF} is malformed: {name[:80]!r}")
        strict.text(facts[MADE_OF], name, strict.SHA256, what=f"facts' {MADE_OF}'s ")
    for part in ("raw", "packed"):
        what = f"facts' {part}'s "
        digests = strict.mapping(strict.field(facts, part, "facts' "), f"its facts' {part}")
        strict.text(digests, "md5", strict.MD5, what)
        strict.text(digests, "sha256", strict.SHA256, what)
        strict.number(digests, "size", LARGEST, what)


def record_sum(record: Mapping[str, Any]) -> str:
    """The checksum of a record without its `sum`: a flipped bit of its facts is seen, too."""
    return checksum({name: value for name, value in record.items() if name != "sum"})
