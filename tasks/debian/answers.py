"""What apt-get prints, taken apart: what it would fetch and remove, and what may pass."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import BuildError


@dataclass(frozen=True, kw_only=True)
class Available:
    """One .deb that apt chose: `site` is its repository's number, `path` is below its URI."""

    site: int
    path: str
    package: str
    version: str
    architecture: str
    size: int
    sha256: str


_TRANSIENT = re.compile(
    r"  (429|5\d\d)  .*|Connection (failed|refused|timed out|reset).*|Could not connect|"
    r"Unable to connect|Temporary failure resolving|Network is unreachable|No route to host|"
    r"timed out|Undetermined Error|Error reading from server|Remote end closed connection|"
    r"Bad header"
)


_CHANGING = re.compile(
    r"Hash Sum mismatch|unexpected size|Mirror sync in progress|by-hash.*  404  "
)


def transient(text: str, *, changing: bool = False) -> str:
    """What of apt's complaints may be gone in a moment, or "": a server that is busy or away.

    `changing` counts indexes that do not fit their Release among them: a repository is published
    file by file, and the next Release may fit.
    """
    found = _TRANSIENT.search(text) or (_CHANGING.search(text) if changing else None)
    return re.sub(r"\s*\[IP: .*", "", found[0]).strip() if found else ""


_DROPPED = re.compile(
    r"^(?:[EW]|Error|Warning): Failed to fetch (\S+)  (?:404|410)  ", re.MULTILINE
)


def dropped(text: str) -> set[str]:
    """The addresses that a server has no more, of what apt could not fetch (404, 410)."""
    return set(_DROPPED.findall(text))


_URI = re.compile(
    r"^'http://(\d+)\.strata\.invalid/(\S+)' ([^_\s]+)_([^_\s]+)_(\S+)\.deb (\d+) SHA256:(\w{64})$"
)


def parse_removed(text: str) -> list[str]:
    """What apt-get says that it would remove, by name or name:arch."""
    return parse_print_uris("\n".join(line for line in text.splitlines() if line[:1] != "'"))[1]


def parse_print_uris(text: str) -> tuple[list[Available], list[str]]:
    """What `apt-get --print-uris` would fetch and, by name or name:arch, remove.

    Raises BuildError for a package without a SHA-256.
    """
    wanted: list[Available] = []
    removed: list[str] = []
    removing = False
    for line in text.splitlines():
        if line.startswith("'"):
            match = _URI.match(line)
            if match is None:
                raise BuildError(
                    f"apt names no SHA-256 for {line.split()[1]}",
                    "its repository's Packages file must have SHA256 fields",
                )
            number, path, package, version, architecture, size, sha256 = match.groups()
            wanted.append(
                Available(
                    site=int(number),
                    path=unquote(path),
                    package=package,
                    version=unquote(version),
                    architecture=architecture,
                    size=int(size),
                    sha256=sha256.lower(),
                )
            )
        elif line.endswith("will be REMOVED:"):
            removing = True
        elif removing and line.startswith("  "):
            removed += [name.rstrip("*") for name in line.split()]
        else:
            removing = False
    return wanted, removed


def requested(wanted: str, installed: Set[tuple[str, str]], arch: str) -> tuple[str, str] | None:
    """The package, with its architecture, that a request in apt's syntax names outright.

    `installed` is all there is once apt has done what was asked. None for what apt finds in another
    way: a virtual package, or one of another architecture only.
    """
    whole = re.split(r"[=/]", wanted)[0]
    # apt knows of a modifier only where there is no package of the whole name, as g++ is one.
    for name, _, architecture in (text.partition(":") for text in (whole, whole.removesuffix("+"))):
        slot = name, arch if architecture in ("", "all", "any", "native") else architecture
        if slot in installed:
            return slot
    return None


def plain_name(wanted: str) -> str:
    """The package of a request in apt's syntax: without =version, /suite, :arch and a final - or +.

    A name may itself end in `+` or `-`, as g++ does; a request for it does not.
    """
    name = re.split(r"[=/:]", wanted)[0]
    return name[:-1] if name.endswith("-") else name
