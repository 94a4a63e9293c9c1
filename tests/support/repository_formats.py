"""Repositories in each form that Debian's format and sources.list(5) allow.

https://wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.debs import _read_stanzas, make_deb
from support.file_server import Server
from support.repository import _release_date
from support.signing import session_key
from support.world import World, checkout

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    ".zst": lambda data: subprocess.run(["zstd", "-q"], input=data, capture_output=True,
                                        check=True).stdout,
    ".lz4": lambda data: lz4(data),
}  # fmt: skip


def lz4(data: bytes) -> bytes:
    """One frame of one block that is not compressed: version 1, independent, of up to 4 MB."""
    header = b"\x04\x22\x4d\x18\x60\x70\x73"
    return header + struct.pack("<I", len(data) | 1 << 31) + data + bytes(4)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to lay out a repository, and the words of a spec for it."""

    suite: str = "stable"
    section: str = "main"
    dist: str = ""  # where the Release lies, dists/SUITE if not said
    indexes: Sequence[str] = ("main/binary-amd64/Packages",)
    suffixes: Sequence[str] = ("", ".xz")  # that are there
    listed: Sequence[str] | None = None  # that the Release lists, all that are there if not said
    sums: Sequence[str] = ("SHA256",)
    indent: str = " "  # of the lines below them
    by_hash: str = ""
    signed: str = "InRelease"
    fields: Mapping[str, str] = field(default_factory=dict)
    padding: int = 0  # bytes of further files that the Release lists
    prefix: str = ""  # of each Filename
    escaped: bool = False  # Filenames with %3a for the colon of an epoch
    index: Callable[[str], str] = str  # what becomes of the text of Packages
    folder: str = ""  # of the server, that the uri names
    uri: str = ""  # how the uri names it
    version: str = "1"
    spec: str = ""
    root: str = "pool/"  # of the .debs


FORMATS = {
    "plain": Format(),
    "Release and Release.gpg": Format(signed="Release.gpg"),
    "suite with a suffix": Format(suite="bookworm-proposed-updates",
                                  fields={"Suite": "proposed-updates",
                                          "Codename": "bookworm-proposed-updates"}),
    "suite with a slash": Format(suite="stable/updates", fields={"Suite": "stable"}),
    "old security archive": Format(suite="stable/updates", indexes=["main/binary-amd64/Packages"],
                                   fields={"Suite": "stable", "Components": "updates/main"}),
    "flat": Format(suite="./", section="", dist=".", indexes=["Packages"], prefix="./"),
    "flat, root named by a slash": Format(suite="/", section="", dist=".", indexes=["Packages"]),
    "flat, in folders": Format(suite="a/b/", section="", dist="a/b", indexes=["Packages"]),
    "flat, in folders, after a dot": Format(suite="./a/b/", section="", dist="a/b",
                                            indexes=["Packages"]),
    "two components": Format(section="main contrib", indexes=["main/binary-amd64/Packages",
                                                             "contrib/binary-amd64/Packages"],
                             fields={"Components": "main contrib non-free"}),
    "component without an index": Format(section="main contrib",
                                         fields={"Components": "main contrib"}),
    "component with a dash": Format(section="non-free-firmware",
                                    indexes=["non-free-firmware/binary-amd64/Packages"],
                                    fields={"Components": "main non-free-firmware"}),
    "component with a slash": Format(section="updates/main",
                                     indexes=["updates/main/binary-amd64/Packages"],
                                     fields={"Components": "updates/main"}),
    "trailing slashes": Format(folder="deb", uri="/deb///"),
    "index of all": Format(indexes=["main/binary-amd64/Packages", "main/binary-all/Packages"],
                           fields={"Architectures": "all amd64",
                                   "No-Support-for-Architecture-all": "Packages"}),
    "all in an index of its own": Format(indexes=["main/binary-all/Packages",
                                                  "main/binary-amd64/Packages"],
                                         fields={"Architectures": "all amd64"}),
    "by hash": Format(by_hash="SHA256", fields={"Acquire-By-Hash": "yes"}),
    "by hash, by nothing else": Format(by_hash="SHA256", suffixes=[".xz"],
                                       fields={"Acquire-By-Hash": "yes"}),
    "SHA512 only": Format(sums=["SHA512"]),
    **{f"SHA512 and {suffix} only": Format(sums=["SHA512"], suffixes=[suffix])
       for suffix in (".gz", ".xz")},
    "SHA512 and .gz only, flat": Format(suite="./", section="", dist=".", indexes=["Packages"],
                                        sums=["SHA512"], suffixes=[".gz"]),
    "SHA512 and .gz only, by hash": Format(sums=["SHA512"], suffixes=[".gz"], by_hash="SHA512",
                                           fields={"Acquire-By-Hash": "yes"}),
    "sha256 in small letters, .gz only": Format(sums=["sha256"], suffixes=[".gz"]),
    "fields of Release in small letters": Format(
        sums=["sha512"], suffixes=[".bz2"], by_hash="SHA512",
        fields={"Suite": "", "suite": "stable", "acquire-by-hash": "yes"}),
    "lines after a tab, .gz only": Format(indent="\t", suffixes=[".gz"]),
    "MD5 and SHA256": Format(sums=["MD5Sum", "SHA256"]),
    "SHA256 before SHA512": Format(sums=["SHA512", "SHA256"]),
    "uncompressed only": Format(suffixes=[""]),
    "flat, uncompressed only": Format(suite="./", section="", dist=".", indexes=["Packages"],
                                      suffixes=[""]),
    "no Release": Format(suite="./", section="", dist=".", indexes=["Packages"], suffixes=[""],
                         signed="", spec="trusted: true, "),
    **{f"{suffix} only": Format(suffixes=[suffix]) for suffix in PACK if suffix},
    **{f"{suffix} there, all listed": Format(suffixes=[suffix], listed=[*PACK])
       for suffix in (".gz", ".xz")},
    "no Suite, no Codename": Format(fields={"Suite": "", "Codename": ""}),
    "only a codename": Format(suite="teststable", fields={"Suite": ""}),
    "valid for long": Format(fields={"Valid-Until": _release_date(4e9)}),
    "expired, and taken": Format(fields={"Valid-Until": _release_date(1e9)},
                                 spec="check_valid_until: false, "),
    "Date of one digit and GMT": Format(fields={"Date": "Sat, 3 Jan 2026 01:02:03 GMT"}),
    "fields nobody knows": Format(fields={"X-Long": "word " * 2000, "Snapshots": "http://x/@1/",
                                          "NotAutomatic": "yes", "ButAutomaticUpgrades": "yes",
                                          "Changelogs": "no", "Description": "Test 1.0"}),
    "a Release of 12 MB": Format(padding=12_000_000),
    "Filename with ./": Format(prefix="./"),
    "epoch": Format(version="2:1.0~rc1+dfsg-1"),
    "epoch in the Filename": Format(version="2:1.0~rc1+dfsg-1", escaped=True),
    "Filename with signs": Format(root="pool/a b/+~&=/(x)/%2F/ü/"),
    "upper-case digest": Format(index=lambda text: "".join(
        line.upper().replace("SHA256", "SHA256") if line.startswith("SHA256:") else line
        for line in text.splitlines(keepends=True))),
    "fields in another case": Format(index=lambda text: text.replace("Size:", "size:").replace(
        "Filename:", "FILENAME:").replace("SHA256:", "sha256:")),
    "no blank after a colon": Format(index=lambda text: text.replace("SHA256: ", "SHA256:").replace(
        "Version: ", "Version:\t")),
    "SHA256 first": Format(index=lambda text: "\n".join(sorted(text.splitlines(), reverse=True)) + "\n"),
    "multi-line fields": Format(index=lambda text: text.replace(
        "Description: ", "Tag: a::b,\n c::d\nConffiles:\n /etc/x 0123\n SHA256: no\n"
        "Description: ").replace("\nMaintainer", "\nX-Long: " + "y" * 70_000 + "\nMaintainer")),
    "other digests beside": Format(index=lambda text: text.replace(
        "SHA256:", "MD5sum: 0123456789abcdef0123456789abcdef\nSHA1: "
        "0123456789abcdef0123456789abcdef01234567\nSHA256:")),
    "stanzas of packages elsewhere": Format(index=lambda text: text + "\nPackage: nothing\n"
        "Version: 1\nArchitecture: amd64\nFilename: a.deb\nSize: 1\n"),
    "escaped path": Format(folder="sp ace", uri="/sp%20ace"),
    "escaped slash and percent": Format(folder="a%2Fb/c", uri="/a%252Fb/c"),
    "escaped without need": Format(folder="de~b", uri="/%64e%7eb"),
    "the architecture in the path": Format(folder="amd64", uri="/$(ARCH)"),
    "plain signs in the path": Format(folder="pl+us~t,ilde;x=1", uri="/pl+us~t,ilde;x=1"),
}  # fmt: skip


def publish(one: Format, root: Path, made: Path, number: int = 0) -> None:
    """Write the repository below `root`: its packages are `baseline` and one of this number."""
    root = root / one.folder
    dist = root / (one.dist or f"dists/{one.suite.strip('/')}")
    dist.mkdir(parents=True)
    paths = [make_deb(made, "baseline", "1", arch="amd64", files={"/usr/baseline": "1\n"}),
             make_deb(made, f"beta{number}", one.version, depends="baseline", files={"/usr/beta": "1\n"})]  # fmt: skip
    texts = {"amd64": "", "all": ""}
    for deb, stanza in _read_stanzas(paths):
        version = stanza.version.replace(":", "%3a") if one.escaped else stanza.version
        name = (
            f"{one.root}{stanza.package}_{version.partition(':')[2] or version}_{stanza.arch}.deb"
        )
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(deb, root / name)
        text = one.index(f"{stanza.text}Filename: {one.prefix}{name}\n")
        texts[stanza.arch] += f"{text}\n"
    sums: dict[str, bytes] = {}
    split = "No-Support-for-Architecture-all" not in one.fields and any(
        "binary-all" in name for name in one.indexes
    )
    for number, name in enumerate(one.indexes):
        if split:
            text = texts["all" if "binary-all" in name else "amd64"]
        else:
            text = "".join(texts.values()) if number == 0 else ""
        (dist / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in PACK:
            if suffix not in (one.suffixes if one.listed is None else {*one.suffixes, *one.listed}):
                continue
            data = PACK[suffix](text.encode())
            if one.listed is None or suffix in one.listed:
                sums[name + suffix] = data
            if suffix in one.suffixes and not one.by_hash:
                (dist / (name + suffix)).write_bytes(data)
            if one.by_hash:
                hashed = (dist / name).parent / "by-hash" / one.by_hash
                hashed.mkdir(parents=True, exist_ok=True)
                digest = hashlib.new(one.by_hash.lower(), data).hexdigest()
                (hashed / digest).write_bytes(data)
    fields = {"Origin": "T", "Suite": "stable", "Codename": "teststable",
              "Date": _release_date(1_770_000_000), "Architectures": "amd64",
              "Components": one.section, **one.fields}  # fmt: skip
    release = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    for kind in one.sums:
        algorithm = kind.lower().removesuffix("sum")
        release += f"{kind}:\n"
        for path, data in sums.items():
            release += one.indent
            release += f"{hashlib.new(algorithm, data).hexdigest()} {len(data)} {path}\n"
        line = f" {'0' * 64} 1 main/i18n/{'x' * 900}\n"
        release += line * (one.padding // len(line))
    inline, detached = session_key().sign(release.encode())
    if one.signed == "InRelease":
        (dist / "InRelease").write_bytes(inline)
    elif one.signed:
        (dist / "Release").write_text(release)
        (dist / "Release.gpg").write_bytes(detached)
    for file in dist.glob("*Release*"):  # what has just been written is asked for once more
        os.utime(file, (1_770_000_000, 1_770_000_000))


def label(name: str) -> str:
    """A repository's name for a format's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def world_of(folder: Path, names: Sequence[str], server: Server, uri: str = "${mirror}") -> World:
    """A checkout whose spec names these repositories, each at `uri`/NUMBER; all are published."""
    checkout(folder / "checkout", None)
    repository: Any = None
    world = World(folder / "checkout", repository, server, folder, {})
    session_key().export(world.write("keys/test.gpg", ""))
    repos = ""
    for number, name in enumerate(names):
        one = FORMATS[name]
        publish(one, folder / f"site/{number}", folder / f"debs/{number}", number)
        section = f"section: {one.section}, " if one.section else ""
        repos += (
            f'  - {{name: "{label(name)}", uri: "{uri}/{number}{one.uri}", suite: "{one.suite}", '
            f"{section}{one.spec}keyring: keys/test.gpg}}\n"
        )
    wanted = ", ".join(f"beta{number}" for number in range(len(names)))
    world.write("web.yaml", f"""\
repos:
{repos}base: {{tool: mmdebstrap, variant: extract, include: [baseline]}}
packages: [{wanted}]
images: {{/: {{file: web.img, format: ext2, container: raw, pack: direct}}}}
""")  # fmt: skip
    return world
