"""Stanzas of deb822(5): Release, Packages, dpkg's status, apt's extended states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Release fields to the conditions of a `Pin: release` line, as fuel-agent mapped them.
PIN_FIELDS = {"Archive": "a", "Suite": "a", "Codename": "n", "Version": "v", "Origin": "o",
              "Label": "l"}  # fmt: skip


# What a base variant selects from the first repository: (Essential, priorities, names).
_REQUIRED = (True, ("required",), ("apt",))

_IMPORTANT = (True, ("required", "important"), ("apt",))

VARIANTS: Mapping[str, tuple[bool, tuple[str, ...], tuple[str, ...]]] = {
    "extract": (False, (), ()),
    "custom": (False, (), ()),
    "essential": (True, (), ()),
    "apt": (True, (), ("apt",)),
    "required": _REQUIRED,
    "minbase": _REQUIRED,
    "buildd": (True, ("required",), ("apt", "build-essential")),
    "important": _IMPORTANT,
    "debootstrap": _IMPORTANT,
    "-": _IMPORTANT,
    "standard": (True, ("required", "important", "standard"), ("apt",)),
}


def stanza_fields(text: str) -> dict[str, str]:
    """The fields of one deb822 stanza; continuation lines stay in the value, apart by newlines."""
    # Lists: a text that grows by a line would be copied for each of a Release's thousands.
    fields: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                fields[name].append(line.strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = [value.strip()]
    return {name: "\n".join(lines) for name, lines in fields.items()}


_RELEASE = {
    name.lower(): name
    for name in (*PIN_FIELDS, "Date", "Components", "Architectures", "Acquire-By-Hash")
}


def _what_is_signed(text: str) -> str:
    """The Release in an InRelease file."""
    if text.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
        text = text.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    return text


def release_fields(text: str) -> dict[str, str]:
    """The single-line fields of a Release or InRelease file, whose signature apt has verified.

    Those that are looked at have the names that the format gives them, in whatever case they stand,
    and may be folded, as apt takes them.
    """
    found: dict[str, str] = {}
    for given, value in stanza_fields(_what_is_signed(text)).items():
        name = _RELEASE.get(given.lower())
        if name or "\n" not in value:
            found[name or given] = value.replace("\n", " ").strip()
    return found


COMPRESSED = (".xz", ".gz", ".zst", ".bz2", ".lzma", ".lz4")


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What a Release says of a file: an algorithm by apt's name, the digest and the size."""

    algorithm: str
    digest: str
    size: int

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


def only_compressed(
    sums: Mapping[str, Sum], components: Sequence[str], arches: Sequence[str]
) -> dict[str, str]:
    """The Packages that a Release lists in no form but a compressed one, by that one's path.

    apt passes over these in silence; `components` is empty for a flat repository.
    """
    wanted = (
        ["Packages"]
        if not components
        else [f"{component}/binary-{arch}/Packages" for component in components for arch in arches]
    )
    return {
        name + suffix: name
        for name in wanted
        if name not in sums
        for suffix in [next((end for end in COMPRESSED if name + end in sums), "")]
        if suffix
    }


def release_sums(text: str) -> dict[str, Sum]:
    """The SHA-256 of each file that a Release lists, SHA-512 where it has no other."""
    signed = _what_is_signed(text)
    found: dict[str, Sum] = {}
    for algorithm in ("SHA512", "SHA256"):
        # Names of fields have no case, and lines go on after a blank or a tab.
        section = re.search(rf"(?im)^{algorithm}:(.*(?:\n[ \t].*)*)", signed)
        for line in section[1].splitlines() if section else ():
            words = line.split()
            if len(words) == 3 and words[1].isdecimal():
                found[words[2]] = Sum(
                    algorithm=algorithm, digest=words[0].lower(), size=int(words[1])
                )
    return found


# Names of fields have no case, and neither have digits of a digest.
_SHA256 = re.compile(rb"^[Ss][Hh][Aa]256:[ \t]*([0-9a-fA-F]{64})[ \t\r]*$", re.MULTILINE)


def _around(index: bytes, position: int) -> bytes:
    start = index.rfind(b"\n\n", 0, position)
    end = index.find(b"\n\n", position)
    return index[start + 2 if start >= 0 else 0 : end if end >= 0 else len(index)].strip(b"\n")


def places_by_sha256(index: bytes) -> dict[bytes, int]:
    """Where in a Packages file each SHA-256 digest stands: 60,000 of them, few are wanted."""
    return {match[1].lower(): match.start() for match in _SHA256.finditer(index)}


def stanzas_by_sha256(
    index: bytes, wanted: set[str], places: Mapping[bytes, int] | None = None
) -> dict[str, str]:
    """The stanzas of a Packages file whose .deb has one of these SHA-256 digests.

    `places` is its places_by_sha256, for who asks more than once.
    """
    known = places_by_sha256(index) if places is None else places
    return {
        digest: _around(index, known[digest.encode()]).decode("utf-8", "replace")
        for digest in wanted
        if digest.encode() in known
    }


def selected_names(index: bytes, variant: str, arch: str) -> set[str]:
    """The names that a base variant selects by Essential and Priority from a Packages file."""
    essential, priorities, names = VARIANTS[variant]
    marks = [b"\nEssential: yes\n"] if essential else []
    marks += [f"\nPriority: {priority}\n".encode() for priority in priorities]
    found: set[str] = set()
    for mark in marks:
        position = index.find(mark)
        while position >= 0:
            fields = stanza_fields(_around(index, position + 1).decode("utf-8", "replace"))
            if fields.get("Architecture") in (arch, "all"):
                found.add(fields["Package"])
            # On from the stanza's end: one is read once, however often the mark stands in it.
            end = index.find(b"\n\n", position + 1)
            position = index.find(mark, end) if end >= 0 else -1
    return found | set(names)


def installed_status(stanzas: Iterable[str]) -> str:
    """A dpkg status file in which these packages are installed."""
    name = re.compile(r"^(Package: [^\n]*\n)", re.MULTILINE)
    return "".join(
        name.sub(r"\1Status: install ok installed\n", stanza, count=1) + "\n\n"
        for stanza in stanzas
    )


def extended_states(auto: Iterable[str]) -> str:
    """apt's file of marks in which these packages, by name:arch, are automatically installed."""
    return "".join(
        "Package: {}\nArchitecture: {}\nAuto-Installed: 1\n\n".format(*name.split(":"))
        for name in auto
    )


def marked_auto(text: str) -> set[tuple[str, str]]:
    """(package, architecture) of what such a file marks as automatically installed."""
    stanzas = [stanza_fields(stanza) for stanza in text.split("\n\n")]
    return {
        (fields["Package"], fields["Architecture"])
        for fields in stanzas
        if fields.get("Auto-Installed") == "1"
    }


def seconds(date: str) -> int | None:
    """A Release's Date, as seconds since 1970; None if that is no date."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else int(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError):
        return None
